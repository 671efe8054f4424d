"""Hostile images change nothing outside the root, and end in one clear error where they cannot be used.

Each row runs in a place with files that it may try to reach. Mounts, loop devices, processes and temporary files left
behind are an error of any test here (see conftest.py).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.corpus import blobs, escapes, lies
from tests.integration.corpus.attack import Attack, Outcome
from tests.integration.corpus.oracle import ask_umoci, without_new_times
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.tar_writer import Header, directory, end, file, layer
from tests.lib.tree_list import Line, differences, tree_list
from tests.lib.verbs import Result, Verbs, the_error, verbs

ATTACKS = (*escapes.ATTACKS, *lies.ATTACKS, *blobs.ATTACKS)
INIT = Layer(layer(directory("sbin/"), file("sbin/init", "#!/bin/sh\n", mode=0o755)))
PARTS = "bootc.live.etc.rw=0 bootc.live.var.rw=0"
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verbs]:
    with verbs(zipapp, tmp_path_factory.mktemp("server")) as running:
        yield running


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
    shutil.rmtree(tmp_path)


def run(verb: str, image: Image, place: Place, server: Verbs, hidden: tuple[str, ...] = ()) -> Result:
    """Runs a verb on the image. A root needs an init to be booted, so there is one on top of a booted image."""
    command: list[str | Path] = ["unpack", place.archive, place.root]
    if verb == "boot":
        image = Image([*image.layers, INIT]) if image.config is None and image.diff_ids is None else image
        command = ["boot", "--cmdline", f"root=bootc-live:{place.archive} {PARTS}", "--sysroot", place.root]
        command += ["--receipt", place.receipt]
    write_archive(place.archive, image)
    return server.run([*command, "--workdir", place.work], place.root, hidden)


def outside_the_root(lines: list[Line]) -> list[Line]:
    """The list without what is in the root; the root's parent has a new time once a root is made in it."""
    kept = [line for line in lines if not line.path.startswith("inside/root")]
    return [line.but(mtime="any") if line.path in ("inside", "work") else line for line in kept]


def check(attack: Attack, image: Image, result: Result, place: Place) -> None:
    """The outcome is the one the row names."""
    if attack.outcome is Outcome.REFUSED or (attack.outcome is Outcome.EITHER and result.status != 0):
        the_error(result, place.archive)
        assert not place.receipt.exists()
        return
    assert result.status == 0, result.output
    oracle = ask_umoci(image, place.archive.parent / "umoci")
    assert oracle.tree is not None, oracle.output
    got = [line for line in result.tree if line.path not in ("sbin", "sbin/init")]
    want, got = without_new_times(oracle.tree, got)
    assert not differences(want, got)


@pytest.mark.parametrize("verb", ["unpack", "boot"])
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_hostile_image(attack: Attack, verb: str, server: Verbs, place: Place) -> None:
    before = place.state()
    image = attack.image(str(place.outside))
    result = run(verb, image, place, server)
    assert not differences(outside_the_root(before), outside_the_root(place.state()))
    if result.status != 0:
        assert not list(place.root.parent.glob("root/*")), "a failed verb left a part of the root"
    check(attack, image, result, place)
