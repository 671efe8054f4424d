"""What GNU tar, bsdtar and umoci make of an archive."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Final

from tests.integration.corpus.oracle import ANY
from tests.integration.foreign.answers import Answer, file_digest
from tests.lib.oci_writer import Image, Layer, write_layout
from tests.lib.tree_list import time_of_new_files, tree_list

LARGEST: Final = 64 << 20
"""Bytes of a file that umoci may write: it writes zeros where a file has holes."""

# Owners by number, modes as they are, every extended attribute; what an image's layer cannot say is left out.
_TARS: Final = {
    "gnu": ("tar", "-xpf", "-", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--no-acls", "--no-selinux"),
    "bsdtar": ("bsdtar", "-xpf", "-", "--numeric-owner", "--xattrs", "--no-acls", "--no-fflags", "--no-mac-metadata"),
}


def ask(archive: Path, where: Path, without: Collection[str] = ()) -> dict[str, Answer]:
    """Return the answers of all tools but those `without` and those that have none; `where` is a new directory."""
    where.mkdir()
    answers = {name: _tar(name, archive, where / name) for name in _TARS if name not in without}
    if "umoci" not in without:
        found = umoci([archive.read_bytes()], where / "umoci")
        if found is not None:
            answers["umoci"] = found
    return answers


def _tar(name: str, archive: Path, directory: Path) -> Answer:
    directory.mkdir()
    began = time_of_new_files(directory.parent)
    with archive.open("rb") as stream:
        done = subprocess.run(
            _TARS[name],
            cwd=directory,
            stdin=stream,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
    return _answer(done, directory, began)


def umoci(tars: list[bytes], where: Path) -> Answer | None:
    """Return what umoci makes of layers; None where a file is too large for it."""
    layout = write_layout(where / "layout", Image([Layer(tar, "none") for tar in tars]))
    began = time_of_new_files(where)
    limited = ["prlimit", f"--fsize={LARGEST}"]
    command = [*limited, "umoci", "unpack", "--image", f"{layout}:latest", str(where / "bundle")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode and b"file too large" in done.stdout:
        return None
    return _answer(done, where / "bundle" / "rootfs", began)


def _answer(done: subprocess.CompletedProcess[bytes], directory: Path, began: int) -> Answer:
    said = done.stdout.decode(errors="backslashreplace").strip()
    if done.returncode:
        return Answer(None, said)
    lines = (line for line in tree_list(directory, file_digest) if line.path != ".")
    return Answer(
        tuple(line.but(mtime=ANY) if line.kind == "d" and int(line.mtime) >= began else line for line in lines), said
    )
