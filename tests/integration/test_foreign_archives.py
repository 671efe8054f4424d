"""Tar archives that other projects are tested with: what two of GNU tar, bsdtar and umoci read alike, we read so, too.

vm/tars/packages says where they come from. Where something else is right, tests/integration/foreign/table.py says what,
and why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.integration.corpus.oracle import ask_umoci, without_new_times
from tests.integration.foreign.answers import Answer, agreed
from tests.integration.foreign.ours import read_all
from tests.integration.foreign.table import NOT_ASKED, ROWS
from tests.integration.foreign.tools import ask
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import MOUNT_POINTS
from tests.lib.tar_writer import directory, file, layer
from tests.lib.tree_list import differences
from tests.lib.verbs import REPO, the_error

TARS: Final = REPO / "vm" / "out" / "tars"
PACKAGES: Final = (REPO / "vm" / "tars" / "packages").read_text().splitlines()
CORPORA: Final = [line.split()[0] for line in PACKAGES if line and not line.startswith("#")]
# A root without an init is refused, so there is one on top.
# A live root has places for what is mounted there; one without is given them.
PLACES: Final = (directory(f"{name}/") for name in (*MOUNT_POINTS, "var"))
INIT: Final = layer(*PLACES, directory("sbin/"), file("sbin/init", "#!/bin/sh\n", mode=0o755))


@pytest.fixture(scope="module")
def archives() -> Mapping[str, Path]:
    """All archives, by corpus/name."""
    found = {f"{path.parent.name}/{path.name}": path for path in sorted(TARS.glob("*/*"))}
    missing = set(CORPORA) - {path.parent.name for path in found.values()}
    assert not missing, f"{TARS} has no archives of {missing}; vm/tars/make fetches them"
    return found


@pytest.fixture(scope="module")
def ours(archives: Mapping[str, Path]) -> Mapping[str, Answer]:
    """What we make of all archives."""
    answers = read_all(list(archives.values()))
    return {name: answers[path] for name, path in archives.items()}


def judged(name: str, our: Answer, answers: Mapping[str, Answer]) -> list[str]:
    """Return what is wrong with our answer about an archive, or with its row of the table."""
    common, row = agreed(answers), ROWS.get(name)
    if row is not None:
        wrong = our.against(row.right(answers))
        return wrong if wrong or common is None or not our.same(common) else ["needs no row: that is what two say"]
    if common is not None:
        return our.against(common)
    said = [f"{tool}: {answer.short()}; {our.against(answer)[:3]}" for tool, answer in answers.items()]
    return ["needs a row: no two tools say the same", f"ours: {our.short()}", *said]


@pytest.mark.parametrize("corpus", CORPORA)
def test_archives_are_read_as_by_others(
    corpus: str, archives: Mapping[str, Path], ours: Mapping[str, Answer], program: ForkedProgram, tmp_path: Path
) -> None:
    """Each by itself, by what makes trees of layers; then, as the layers of one image, by the program as it is used."""
    wrong: list[str] = []
    layers = []
    for number, (name, path) in enumerate(archives.items()):
        if path.parent.name != corpus:
            continue
        answers = ask(path, tmp_path / str(number), NOT_ASKED.get(name, ()))
        wrong += [f"{name}: {problem}" for problem in judged(name, ours[name], answers)]
        if ours[name].tree is not None and "umoci" in answers and answers["umoci"].same(ours[name]):
            layers.append(Layer(path.read_bytes()))
    assert not wrong, "\n".join(wrong)

    image = Image([*layers, Layer(INIT)])
    oracle = ask_umoci(image)
    assert oracle.tree is not None, oracle.output
    archive, root = write_archive(tmp_path / "image.oci", image), tmp_path / "root"
    root.mkdir()
    cmdline = f"root=bootc-live:{archive} bootc.live.etc.rw=0 bootc.live.var.rw=0"
    boot: list[str | Path] = ["boot", "--cmdline", cmdline, "--sysroot", root]
    boot += ["--receipt", tmp_path / "receipt.json"]
    for command, tree in ((boot, root), (["unpack", archive, tmp_path / "tree"], tmp_path / "tree")):
        result = program.run_apart([*command, "--workdir", tmp_path], tree)
        assert result.status == 0, result.output
        assert not differences(*without_new_times(oracle.tree, result.tree)), command[0]


def test_refusals_are_one_error(
    archives: Mapping[str, Path], ours: Mapping[str, Answer], program: ForkedProgram, tmp_path: Path
) -> None:
    """One archive of each kind of refusal is enough: they differ in names and numbers."""
    kinds = {re.sub(r"'.*'|\S*\d\S*", "", answer.said): name for name, answer in ours.items() if answer.tree is None}
    assert len(kinds) > 5
    for number, (name, said) in enumerate((name, ours[name].said) for name in kinds.values()):
        image = write_archive(tmp_path / f"{number}.oci", Image([Layer(archives[name].read_bytes())]))
        tree = tmp_path / str(number)
        result = program.run_apart(["unpack", image, tree, "--workdir", tmp_path], tree)
        assert said in the_error(result, image), name
        assert not tree.exists()


def test_every_row_has_its_archive(archives: Mapping[str, Path]) -> None:
    assert not {*ROWS, *NOT_ASKED} - archives.keys()
