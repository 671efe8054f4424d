"""The pointer file of published images: which archive beside it is the newest, and the digest of its manifest."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields

from bootc_live.base.numbers import LARGEST_SIZE, bounded_integer
from bootc_live.base.output import format_json
from bootc_live.formats.json_text import read_json

LARGEST = 64 * 1024
_VERSION = 1
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# Nothing that leads out of the directory of the pointer, in a URL or in a file system.
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,199}")
# RFC 3339 in UTC.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|\+00:00)")


@dataclass(frozen=True)
class Pointer:
    """What a pointer says: ``digest`` is that of the manifest, ``file`` the name of the archive, ``size`` its bytes.

    ``created`` is when it was published. ``signatures`` are the names of files beside the archive that sign it.
    """

    digest: str
    file: str
    size: int
    created: str
    signatures: tuple[str, ...] = ()


def archive_name(digest: str) -> str:
    """Return the name of the archive that has the image with a digest, and never another one."""
    return f"{digest.partition(':')[2]}.oci"


def parse_pointer(content: bytes) -> Pointer:
    """Return what a pointer says; raise ValueError with a reason that continues its name."""
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    data = read_json(content, frozenset({"version", *(each.name for each in fields(Pointer))}))
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    if data.get("version") != _VERSION:
        raise ValueError(f"it has the version {data.get('version')!r}, and only version {_VERSION} is known")
    signatures = data.get("signatures", [])
    if not isinstance(signatures, list):
        raise ValueError("its signatures are no list")
    return Pointer(
        digest=_text(data, "digest", _DIGEST),
        file=_text(data, "file", _NAME),
        size=_size(data.get("size")),
        created=_text(data, "created", _TIME),
        signatures=tuple(_text({"signature": name}, "signature", _NAME) for name in signatures),
    )


def pointer_text(pointer: Pointer) -> str:
    """Return the content of a pointer."""
    return f"{format_json({'version': _VERSION, **asdict(pointer)})}\n"


def _size(value: object) -> int:
    try:
        return bounded_integer(value, limit=LARGEST_SIZE)
    except ValueError as error:
        raise ValueError(f"it has a wrong size: {error}") from error


def _text(data: dict[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = data.get(name)
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ValueError(f"it has a wrong {name}: {value!r}"[:300])
    return value
