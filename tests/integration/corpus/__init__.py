"""Awkward layers, one `Case` each, grouped by what is awkward about them."""

from __future__ import annotations

from tests.integration.corpus import (
    archives,
    duplicates,
    headers,
    links,
    lower_links,
    metadata,
    names,
    opaque,
    replaced,
    shapes,
    sparse,
    whiteouts,
    xattrs,
)
from tests.integration.corpus.case import Case

CASES: tuple[Case, ...] = (
    *whiteouts.CASES,
    *opaque.CASES,
    *replaced.CASES,
    *links.CASES,
    *lower_links.CASES,
    *duplicates.CASES,
    *metadata.CASES,
    *xattrs.CASES,
    *names.CASES,
    *sparse.CASES,
    *headers.CASES,
    *archives.CASES,
    *shapes.CASES,
)
