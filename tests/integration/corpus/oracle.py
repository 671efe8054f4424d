"""umoci 0.4.7 as the oracle of what tree an image makes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.lib import tree_list as listing
from tests.lib.oci_writer import Image, write_layout
from tests.lib.small_image import MOUNT_POINTS
from tests.lib.tree_list import Line, time_of_new_files, tree_list

ANY: Final = "any"
_REPO: Final = Path(__file__).resolve().parents[3]
_KNOWN: Final = _REPO / "build/umoci"


@dataclass(frozen=True)
class Oracle:
    """What umoci says of an image: a tree, or why it cannot be unpacked.

    Directories that no layer describes have the time `ANY`: umoci gives them the time of unpacking, and the image-spec
    says nothing of it.
    """

    tree: tuple[Line, ...] | None
    output: str


def umoci_unpack(layout: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    """Unpacks the image of a layout with umoci as root."""
    command = ["umoci", "unpack", "--image", f"{layout}:latest", str(bundle)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def ask_umoci(image: Image) -> Oracle:
    """What umoci makes of the image; it is asked once, and the answer kept below build/."""
    with tempfile.TemporaryDirectory() as place:
        layout = write_layout(Path(place, "layout"), image)
        known = _KNOWN / f"{_digest(layout)}.json"
        if known.exists():
            answer = json.loads(known.read_text())
            tree = answer["tree"] and tuple(Line(*fields) for fields in answer["tree"])
            return Oracle(tree, answer["output"])
        said = _asked(layout, Path(place, "bundle"))
        # Python's own removal fails for paths beyond PATH_MAX.
        subprocess.run(["rm", "-rf", Path(place, "bundle")], check=True)
    _keep(known, said)
    return said


def _asked(layout: Path, bundle: Path) -> Oracle:
    began = time_of_new_files(layout.parent)
    done = umoci_unpack(layout, bundle)
    if done.returncode:
        return Oracle(None, done.stdout)
    lines = tree_list(bundle / "rootfs")
    new = (line.kind == "d" and int(line.mtime) >= began for line in lines)
    return Oracle(
        tuple(line.but(mtime=ANY) if is_new else line for line, is_new in zip(lines, new, strict=True)), done.stdout
    )


def _keep(known: Path, said: Oracle) -> None:
    """Writes an answer down, as a whole: other tests may run beside these."""
    known.parent.mkdir(parents=True, exist_ok=True)
    tree = said.tree and [line.fields() for line in said.tree]
    with tempfile.NamedTemporaryFile("w", dir=known.parent, delete=False) as made:
        json.dump({"tree": tree, "output": said.output}, made)
    os.replace(made.name, known)


def _digest(layout: Path) -> str:
    """What an answer depends on: the image, the program, and how trees are listed."""
    summed = _asker().copy()
    for path in sorted(path for path in layout.rglob("*") if path.is_file()):
        content = path.read_bytes()
        summed.update(f"{path.relative_to(layout)} {len(content)}\n".encode() + content)
    return summed.hexdigest()


@cache
def _asker() -> hashlib._Hash:
    """Return the digest of what asks; a copy of it goes on with an image."""
    program = shutil.which("umoci")
    assert program is not None
    return hashlib.sha256(
        Path(program).read_bytes() + Path(listing.__file__).read_bytes() + Path(__file__).read_bytes()
    )


def as_unpacked(want: Sequence[Line], got: Sequence[Line]) -> list[Line]:
    """Return the list of a booted root without what it has beside the image's own: an init, and places to mount on."""
    has = {line.path for line in want}
    own = {"sbin", "sbin/init"} | ({*MOUNT_POINTS, "var"} - has)
    return [line for line in got if line.path not in own]


def without_new_times(want: Sequence[Line], got: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Both lists with the time of directories left out where umoci's is that of unpacking."""
    new = {line.path for line in want if line.mtime == ANY}
    blank = [[line.but(mtime=ANY) if line.path in new else line for line in lines] for lines in (want, got)]
    return blank[0], blank[1]
