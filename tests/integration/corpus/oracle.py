"""umoci 0.4.7 as the oracle of what tree an image makes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lib.oci_writer import Image, write_layout
from tests.lib.tree_list import Line, tree_list

ANY: Final = "any"
BEGUN: Final = int(time.time())


@dataclass(frozen=True)
class Oracle:
    """What umoci says of an image: a tree, or why it cannot be unpacked."""

    tree: tuple[Line, ...] | None
    output: str


def ask_umoci(image: Image, where: Path) -> Oracle:
    """Unpacks the image with umoci as root, below `where`."""
    layout = write_layout(where / "layout", image)
    command = ["umoci", "unpack", "--image", f"{layout}:latest", str(where / "bundle")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        return Oracle(None, done.stdout)
    return Oracle(tuple(tree_list(where / "bundle" / "rootfs")), done.stdout)


def without_new_times(want: Sequence[Line], got: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Both lists with the time of directories left out where umoci took the time of unpacking.

    It does so for directories that no layer describes, and the image-spec says nothing of their time.
    """
    new = {line.path for line in want if line.kind == "d" and int(line.mtime) >= BEGUN}
    blank = [[line.but(mtime=ANY) if line.path in new else line for line in lines] for lines in (want, got)]
    return blank[0], blank[1]
