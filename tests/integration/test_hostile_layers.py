"""Hostile images change nothing outside the root, and end in one clear error where they cannot be used.

Each row runs in a place with files that it may try to reach. Mounts, loop devices, processes and temporary files left
behind are an error of any test here (see conftest.py).
"""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.integration.corpus import blobs, escapes, lies
from tests.integration.corpus.attack import Attack, Outcome
from tests.integration.corpus.bomb import bomb
from tests.integration.corpus.oracle import as_unpacked, ask_umoci, without_new_times
from tests.integration.corpus.verbs import by_verbs
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import Compression, Image, Layer, write_archive
from tests.lib.tar_writer import directory, file, layer
from tests.lib.tree_list import Line, differences, tree_list
from tests.lib.verbs import Result, the_error

ATTACKS = (*escapes.ATTACKS, *lies.ATTACKS, *blobs.ATTACKS)
INIT = Layer(layer(directory("sbin/"), file("sbin/init", "#!/bin/sh\n", mode=0o755)))
SMALL = 64
ISAL = str(next(Path("/usr/lib").glob("*/libisal.so.2"), "/none"))


@dataclass(frozen=True)
class Place:
    """Where one attack happens; all paths but `root` are outside the root."""

    outside: Path
    root: Path
    work: Path
    archive: Path
    receipt: Path

    def state(self) -> list[Line]:
        """Everything outside the root, and the root's own directory while it is empty."""
        return tree_list(self.outside.parent)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    top = tmp_path / "top"
    made = Place(top / "outside", top / "inside" / "root", top / "work", tmp_path / "image.oci", tmp_path / "receipt")
    for path in (made.outside / "dir", made.root, made.work):
        path.mkdir(parents=True)
    (made.outside / "canary").write_text("alive")
    (made.outside / "dir" / "file").write_text("alive")
    (made.outside / "canary").chmod(0o600)
    yield made
    # Python's own removal fails for paths beyond PATH_MAX.
    subprocess.run(["rm", "-rf", tmp_path], check=True)


def run(verb: str, image: Image, place: Place, program: ForkedProgram, hidden: tuple[str, ...] = ()) -> Result:
    """Runs a verb on the image. A root needs an init to be booted, so there is one on top of a booted image."""
    write_archive(place.archive, replace(image, layers=[*image.layers, INIT]) if verb == "boot" else image)
    return program.run_apart(command(verb, place), place.root, hidden)


def command(verb: str, place: Place) -> list[str | Path]:
    """The verb with its arguments."""
    if verb == "unpack":
        return ["unpack", place.archive, place.root, "--workdir", place.work]
    cmdline = f"root=bootc-live:{place.archive} bootc.live.etc.rw=0 bootc.live.var.rw=0"
    options: list[str | Path] = ["--sysroot", place.root, "--receipt", place.receipt, "--workdir", place.work]
    return ["boot", "--cmdline", cmdline, *options]


def outside_the_root(lines: list[Line]) -> list[Line]:
    """The list without what is in the root; the root's parent has a new time once a root is made in it."""
    kept = [line for line in lines if line.path != "inside/root" and not line.path.startswith("inside/root/")]
    return [line.but(mtime="any") if line.path in ("inside", "work") else line for line in kept]


def check(attack: Attack, image: Image, result: Result, place: Place) -> None:
    """The outcome is the one the row names."""
    if attack.outcome is Outcome.REFUSED or (attack.outcome is Outcome.EITHER and result.status != 0):
        the_error(result, place.archive)
        assert not place.receipt.exists()
        return
    assert result.status == 0, result.output
    oracle = ask_umoci(attack.means or image)
    assert oracle.tree is not None, oracle.output
    want, got = without_new_times(oracle.tree, as_unpacked(oracle.tree, result.tree))
    assert not differences(want, got)


@pytest.mark.parametrize(("attack", "verb"), by_verbs(ATTACKS, 6))
def test_hostile_image(attack: Attack, verb: str, program: ForkedProgram, place: Place) -> None:
    before = place.state()
    image = attack.image(str(place.outside))
    result = run(verb, image, place, program)
    assert not differences(outside_the_root(before), outside_the_root(place.state()))
    if result.status != 0:
        assert not list(place.root.parent.glob("root/*")), "a failed verb left a part of the root"
    check(attack, image, result, place)


@pytest.mark.parametrize(
    ("compression", "hidden"), [("gzip", ()), ("gzip", (ISAL,)), ("zstd", ())], ids=["libisal", "zlib", "zstd"]
)
def test_bomb(compression: Compression, hidden: tuple[str, ...], program: ForkedProgram, place: Place) -> None:
    """10 GiB of zeros do not fit a small tmpfs: an error with figures, long before they are all inflated."""
    image = bomb(compression)
    blob = image.layers[0].blob
    assert isinstance(blob, bytes)
    assert len(blob) < 12 << 20
    with small_tmpfs(place.work):
        result = run("boot", image, place, program, hidden)
        assert not list(place.work.iterdir())
        assert f"has {SMALL}.0 MiB" in the_error(result, place.archive)
    assert not list(place.root.iterdir())


@contextmanager
def small_tmpfs(where: Path) -> Iterator[None]:
    """A tmpfs of `SMALL` MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL}m", "small", where], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "noise": lambda _: blobs.NOISE,
    "zeros": lambda whole: bytes(len(whole)),
    "one-header": lambda whole: whole[:512],
    "cut-in-a-header": lambda whole: whole[:700],
    "cut-in-half": lambda whole: whole[: len(whole) // 2],
    "compressed-and-cut": lambda whole: gzip.compress(whole)[:-900],
    "compressed-and-damaged": lambda whole: gzip.compress(b"x" * 600 + whole),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_archive(damage: str, program: ForkedProgram, place: Place) -> None:
    whole = write_archive(place.archive, blobs.IMAGE).read_bytes()
    place.archive.write_bytes(DAMAGES[damage](whole))
    the_error(program.run_apart(command("unpack", place), place.root), place.archive)
    assert not list(place.root.iterdir())
