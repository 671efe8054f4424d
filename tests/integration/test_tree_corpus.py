"""The root we make equals the tree umoci unpacks, for every awkward image of the corpus.

umoci 0.4.7 is the oracle. A row of the corpus says where it departs from the image-spec's layer.md and what is right.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.corpus import CASES
from tests.integration.corpus.case import Case
from tests.integration.corpus.oracle import Oracle, as_unpacked, ask_umoci, umoci_unpack, without_new_times
from tests.integration.corpus.verbs import by_verbs
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import Compression, Flavour, Image, Index, Layer, write_archive, write_layout
from tests.lib.tar_writer import directory, file, layer
from tests.lib.tree_list import Line, differences, tree_list
from tests.lib.verbs import REPO, Result, the_error

CMDLINE = "root=bootc-live:{} bootc.live.etc.rw=0 bootc.live.var.rw=0"
# A root without an init is refused, so the booted image has one on top; it is taken out of the list again.
INIT = layer(directory("sbin/"), file("sbin/init", "#!/bin/sh\n", mode=0o755))
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def image(tars: Sequence[bytes]) -> Image:
    """An image of gzip layers."""
    return Image([Layer(tar) for tar in tars])


def corrected(tree: tuple[Line, ...], change: Mapping[str, Mapping[str, str] | None]) -> list[Line]:
    """The tree with the fields of some paths changed, or without them."""
    assert change.keys() <= {line.path for line in tree}, "the row changes a path that is not there"
    lines = []
    for line in tree:
        fields = change.get(line.path, {})
        if fields is not None:
            lines.append(line.but(**fields))
    return lines


def wanted(case: Case, oracle: Oracle) -> list[Line]:
    """The tree that must come of a case; checks that what the row says of umoci is so."""
    if case.expect is not None:
        assert oracle.tree is None or differences(case.expect, oracle.tree), "umoci does the same: drop `expect`"
        return list(case.expect)
    assert oracle.tree is not None, f"umoci refuses the image, the row must say what is right:\n{oracle.output}"
    result = corrected(oracle.tree, case.change)
    assert not case.change or differences(result, oracle.tree), "umoci does the same: drop `change`"
    return result


@dataclass(frozen=True)
class Made:
    """What a verb made of a case: its result, the archive as typed, and the tree without our own init."""

    result: Result
    archive: Path
    tree: list[Line]


def made(verb: str, case: Case, oracle: Oracle, program: ForkedProgram, where: Path) -> Made:
    """Runs the verb on the case's archive; `oracle` is what umoci says of its layers."""
    target, archive = where / "root", where / "image.oci"
    target.mkdir()
    tars = case.layers if verb == "unpack" else (*case.layers, INIT)
    write_archive(archive, image(tars))
    command: list[str | Path] = ["unpack", archive, target]
    if verb == "boot":
        command = ["boot", "--cmdline", CMDLINE.format(archive), "--sysroot", target]
        command += ["--receipt", where / "receipt.json", "--workdir", where]
    result = program.run_apart(command, target)
    if verb == "unpack":
        return Made(result, archive, list(result.tree))
    return Made(result, archive, as_unpacked(case.expect or oracle.tree or (), result.tree))


# test_layout_tree has files written for every case that writing decides.
@pytest.mark.parametrize(("case", "verb"), by_verbs(CASES, 24))
def test_tree_equals_umoci(case: Case, verb: str, program: ForkedProgram, tmp_path: Path) -> None:
    oracle = ask_umoci(image(case.layers))
    ours = made(verb, case, oracle, program, tmp_path)
    if case.refused:
        assert oracle.tree is None or case.why, "umoci takes the image: the row must say why we do not"
        the_error(ours.result, ours.archive)
        return
    assert ours.result.status == 0, ours.result.output
    want, got = without_new_times(wanted(case, oracle), ours.tree)
    assert not differences(want, got)


PACKED: tuple[tuple[Compression, Flavour], ...] = (
    ("zstd", "oci"),
    ("none", "oci"),
    ("gzip", "docker"),
    ("zstd", "docker"),
    ("none", "docker"),
)


@pytest.mark.parametrize("nested", [False, True], ids=["manifest", "index"])
@pytest.mark.parametrize(("compression", "flavour"), PACKED)
def test_packing_makes_no_difference(
    compression: Compression, flavour: Flavour, nested: bool, program: ForkedProgram, tmp_path: Path
) -> None:
    case = next(case for case in CASES if case.name == "opaque-then-plain")
    layers = [Layer(tar, compression) for tar in case.layers]
    other = Image([Layer(layer(file("wrong")))], architecture="s390x", flavour=flavour)
    here = Image(layers, flavour=flavour, architecture=HERE)
    archive = write_archive(tmp_path / "image.oci", Index([other, here], flavour=flavour) if nested else here)
    result = program.run_apart(["unpack", archive, tmp_path / "root"], tmp_path / "root")
    assert result.status == 0, result.output
    assert not differences(ask_umoci(image(case.layers)).tree or (), result.tree)


def test_shell_lists_the_same(tmp_path: Path) -> None:
    """The list made in a guest without Python is the same text, also for names no shell likes."""
    odd = next(case for case in CASES if case.name == "names-odd")
    more = next(case for case in CASES if case.name == "xattr-acl")
    layout = write_layout(tmp_path / "layout", image((*odd.layers, *more.layers)))
    assert umoci_unpack(layout, tmp_path / "bundle").returncode == 0
    root = tmp_path / "bundle" / "rootfs"
    script = REPO / "tests" / "lib" / "tree-list.sh"
    listed = subprocess.run([script, root], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert listed.splitlines() == [str(line) for line in tree_list(root)]
