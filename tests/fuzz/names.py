"""Challenges of servers, and references to images: what is read is what is meant, in linear time."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from functools import partial
from typing import Final

from bootc_live.base.redact import redact, redact_value
from bootc_live.formats.oci.reference import parse_reference
from bootc_live.source.registry.challenges import Challenge, parse_challenge, repository_in
from tests.lib.linear import check_linear

# Texts that are so short are repeated, one of a few: it takes longer than all else.
_SHORT: Final = 8
_SHARE: Final = 8
_REPEATED: Final = 2000
# As the distribution specification has them (pulling manifests).
_REPOSITORY: Final = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_PASSWORD: Final = "n0b0dy"


def challenges(data: bytes) -> None:
    """Read headers of an answer, write them anew, and read that."""
    text = data.decode("latin-1")
    found = parse_challenge(text)
    for challenge in found:
        assert challenge.scheme == challenge.scheme.lower()
        assert all(name == name.lower() for name in challenge.parameters)
    assert parse_challenge(", ".join(map(_written, found))) == found
    _hide(text)
    if 0 < len(text) <= _SHORT and zlib.crc32(data) % _SHARE == 0:
        for reader in (parse_challenge, redact, redact_value, repository_in):
            check_linear(partial(_repeat, reader, text), _REPEATED)


def _repeat(reader: Callable[[str], object], text: str, size: int) -> None:
    long = text * (size // len(text))
    reader(long)
    reader(f'Bearer realm="https://{long}')


def _hide(text: str) -> None:
    """Hide secrets: what is hidden once stays as it is."""
    for hide in (redact, redact_value):
        assert _PASSWORD not in hide(f"{text} https://me:{_PASSWORD}@h/x")
        hidden = hide(text)
        assert hide(hidden) == hidden, f"{hide.__name__} changes its own result"


def _written(challenge: Challenge) -> str:
    pairs = []
    for name, value in challenge.parameters.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        pairs.append(f'{name}="{escaped}"')
    return f"{challenge.scheme} {', '.join(pairs)}".rstrip()


def references(data: bytes) -> None:
    """Read a reference, write it, and read that."""
    text = data.decode("utf-8", "surrogateescape")
    found = parse_reference(text)
    again = parse_reference(str(found))
    # A tag that stands beside a digest says nothing.
    assert (again.registry, again.repository, again.target) == (found.registry, found.repository, found.target)
    assert str(again) == str(found)
    assert _REPOSITORY.fullmatch(found.repository)
    assert _TAG.fullmatch(found.tag)
    assert found.host.isascii()
    assert found.host.isprintable()
    assert repository_in(f"https://{found.host}/v2/{found.repository}/manifests/{found.target}") == found.repository
