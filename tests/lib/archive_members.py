"""Members of archives as names and content, to be written in any order and spelling."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lib.oci_writer import Image, Index, layout_files


@dataclass(frozen=True)
class Link:
    """Another name of `target`, which counts from the link's own directory, or from the top if it is a hard link."""

    target: str
    hard: bool = False


Members = dict[str, bytes | Link]


def oci_members(*items: Image | Index) -> Members:
    """The members of an OCI archive that holds `items`."""
    return {name: data if isinstance(data, bytes) else data.read_bytes() for name, data in layout_files(*items).items()}


def tar_of(members: Mapping[str, bytes | Link] | Iterable[tuple[str, bytes | Link]], prefix: str = "") -> bytes:
    """A tar archive of the members in their order; a name may come twice. `prefix` stands before every name."""
    pairs = members.items() if isinstance(members, Mapping) else members
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in pairs:
            info = tarfile.TarInfo(f"{prefix}{name}")
            if isinstance(content, Link):
                info.type = tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE
                info.linkname = f"{prefix}{content.target}" if content.hard else content.target
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def write_members(path: Path, members: Mapping[str, bytes | Link], prefix: str = "") -> Path:
    """Writes `tar_of` the members and gives the path."""
    path.write_bytes(tar_of(members, prefix))
    return path
