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

# What a layout has to write; all others are about which layer has the last word, and how tars are read.
WRITTEN: tuple[Case, ...] = (*links.CASES, *metadata.CASES, *xattrs.CASES, *names.CASES, *sparse.CASES)
CASES: tuple[Case, ...] = (
    *WRITTEN,
    *whiteouts.CASES,
    *opaque.CASES,
    *replaced.CASES,
    *lower_links.CASES,
    *duplicates.CASES,
    *headers.CASES,
    *archives.CASES,
    *shapes.CASES,
)
