"""The hash tree behind an EROFS image is the one that veritysetup makes, and it accepts ours."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from bootc_live.config.model import Compression
from tests.lib.building import Building
from tests.lib.program import Program

FORMAT = ("--no-superblock", "--salt=-", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096")


def veritysetup(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = ["veritysetup", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("compression", list(Compression))
def test_tree(compression: Compression, small: Path, tmp_path: Path) -> None:
    made = Building(tmp_path, compression, verity=True).make(small)
    image, tree = tmp_path / "root.erofs", tmp_path / "tree"
    assert made.root_hash is not None
    count = f"--data-blocks={made.size // 4096}"
    formatted = veritysetup("format", *FORMAT, count, image, tree)
    assert formatted.returncode == 0, formatted.stderr
    assert re.findall(r"^Root hash:\s+(\w+)$", formatted.stdout, re.MULTILINE) == [made.root_hash]
    content = image.read_bytes()
    assert content[made.size :] == tree.read_bytes()
    inside = (*FORMAT, count, f"--hash-offset={made.size}")
    assert veritysetup("verify", *inside, image, image, made.root_hash).returncode == 0
    image.write_bytes(content[: made.size // 2] + b"changed" + content[made.size // 2 + 7 :])
    assert veritysetup("verify", *inside, image, image, made.root_hash).returncode != 0


def test_file_of_the_verb(program: Program, small: Path, tmp_path: Path) -> None:
    """It has no tree, and what is told of it is what veritysetup says of the whole file."""
    said = program.run("erofs", "--json", small, tmp_path / "file").good()
    told = json.loads(said.stdout)
    assert told["size"] == (tmp_path / "file").stat().st_size
    formatted = veritysetup("format", *FORMAT, tmp_path / "file", tmp_path / "tree")
    assert told["root_hash"] in formatted.stdout
    assert f"bootc.live.verity.roothash={told['root_hash']}" in said.stderr
