"""Parse the challenges in WWW-Authenticate headers (RFC 9110, 11.6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# An open quote ends with the header.
_PARAMETER = re.compile(rf'({_NAME})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*+)(?:"|\\?\Z)|([^\s,"]*))', re.DOTALL)
_SCHEME = re.compile(rf"({_NAME})(?=[ \t,]|\Z)[ \t]*")
# Some schemes have this instead of parameters.
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|\Z)")
# No server needs a longer header.
_LONGEST = 16 * 1024
_BETWEEN = re.compile(r"[\s,;]*")
_REST = re.compile(r"[^,]*")
_REPOSITORY = re.compile(r"https?://[^/]+/v2/([^?#]+)/(?:manifests|blobs)/")


@dataclass(frozen=True)
class Challenge:
    """An authentication scheme and its parameters, with names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenge(header: str) -> list[Challenge]:
    """Return the challenges in the WWW-Authenticate headers of a response, which are joined by commas.

    Commas separate both challenges and parameters. Ignore everything else.
    """
    found: list[Challenge] = []
    header, position = header[:_LONGEST], 0
    while (position := _end(_BETWEEN, header, position)) < len(header):
        parameter = _PARAMETER.match(header, position)
        scheme = _SCHEME.match(header, position)
        if parameter is not None:
            if found:
                text = re.sub(r"\\(.)", r"\1", parameter[2]) if parameter[2] is not None else parameter[3]
                found[-1].parameters.setdefault(parameter[1].lower(), text)
            position = parameter.end()
        elif scheme is not None:
            found.append(Challenge(scheme[1].lower()))
            position = _end(_TOKEN68, header, scheme.end())
        else:
            position = _end(_REST, header, position + 1)
    return found


def repository_in(url: str) -> str | None:
    """Return the repository in the URL of a manifest or blob, or None."""
    match = _REPOSITORY.match(url)
    return match[1] if match else None


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return position if match is None else match.end()
