"""The grammar of ``root=bootc-live:…``: where an image comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass

ROOT_PREFIX = "bootc-live:"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_NOT_BUILT = frozenset({"http", "https", "ftp", "tftp", "nfs", "torrent"})
_DEVICE = re.compile(r"(?:LABEL|UUID|PARTLABEL|PARTUUID)=|/dev/[^:]*:")


@dataclass(frozen=True)
class ArchiveFile:
    """An OCI archive at an absolute path of the running system."""

    path: str
    typed: str


@dataclass(frozen=True)
class RegistryImage:
    """An image in a registry; ``reference`` has no ``docker://`` in front."""

    reference: str
    typed: str


SourceSpec = ArchiveFile | RegistryImage


def parse_source(typed: str) -> SourceSpec:
    """Read a source as it stands after ``root=bootc-live:``.

    Raises ValueError with the reason, meant to follow the quoted argument.
    """
    if _DEVICE.match(typed):
        raise ValueError("names a block device; this version cannot read archives from block devices yet")
    if typed.startswith("/"):
        return ArchiveFile(path=typed, typed=typed)
    scheme = _SCHEME.match(typed)
    if scheme is None:
        raise ValueError("is neither an absolute path nor a URL such as docker://registry.example/os:stable")
    name = scheme[1].lower()
    if name == "docker":
        return RegistryImage(reference=typed[scheme.end() :], typed=typed)
    if name in _NOT_BUILT:
        raise ValueError(f"uses {name}://, which this version cannot fetch from yet; use docker:// or a path")
    raise ValueError(f"uses the unknown scheme {name}://; use docker:// or an absolute path")
