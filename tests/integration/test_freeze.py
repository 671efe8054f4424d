"""``freeze`` without a directory: byte code beside the program, used only as long as it belongs to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lib.program import ENVIRONMENT, byte_code
from tests.lib.small_image import BASE, archive_of


@pytest.fixture(scope="module")
def original(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the zipapp in a directory of its own, compiled."""
    copy = Path(shutil.copy2(zipapp, tmp_path_factory.mktemp("compiled") / "program"))
    assert run(copy, "freeze").stdout.split() == [str(byte_code(copy))]
    return copy


@pytest.fixture
def program(original: Path, tmp_path: Path) -> Path:
    """The same for one test: times stay as they are."""
    return shutil.copytree(original.parent, tmp_path / "bin") / original.name


def run(program: Path, *words: str | Path, options: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, *options.split(), str(program), *map(str, words)]
    done = subprocess.run(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def used(program: Path, options: str = "-v") -> bool:
    """Whether it runs from the byte code."""
    return f'zipimporter object "{byte_code(program)}' in run(program, "--version", options=options).stderr


def test_same_results(program: Path, zipapp: Path, tmp_path: Path) -> None:
    """Verbs that use libraries and data files of the zipapp, and texts that come from their docstrings."""
    assert used(program)
    image = archive_of(tmp_path / "a.oci", BASE)
    for words in (("inspect", image, "--json"), ("--help",), ("pivot", "--help"), ("kargs",)):
        without = run(zipapp, *words, options="-B")
        assert run(program, *words).stdout.replace("\n", " ") == without.stdout.replace("\n", " ")
    run(program, "build", image, "-o", tmp_path / "b.oci")
    (tmp_path / "initramfs").mkdir()
    assert run(program, "freeze", tmp_path / "initramfs").stdout
    shutil.rmtree(tmp_path / "initramfs")


def newer(program: Path) -> None:
    os.utime(program, (1, 1))


def others_may_write(program: Path) -> None:
    byte_code(program).chmod(0o666)


def others_may_replace(program: Path) -> None:
    byte_code(program).parent.chmod(0o777)


def of_another_user(program: Path) -> None:
    os.chown(byte_code(program), 65534, -1)


def directory_of_another_user(program: Path) -> None:
    os.chown(byte_code(program).parent, 65534, -1)


def link(program: Path) -> None:
    elsewhere = program.parent / "elsewhere"
    byte_code(program).rename(elsewhere)
    byte_code(program).symlink_to(elsewhere)


def link_to_directory(program: Path) -> None:
    directory = byte_code(program).parent
    directory.symlink_to(directory.rename(program.parent / "elsewhere"))


def damaged(program: Path) -> None:
    found = byte_code(program)
    time = found.stat().st_mtime_ns
    found.write_bytes(b"damaged")
    os.utime(found, ns=(time, time))


@pytest.mark.parametrize(
    "change",
    [
        newer,
        others_may_write,
        others_may_replace,
        of_another_user,
        directory_of_another_user,
        link,
        link_to_directory,
        damaged,
    ],
)
def test_not_used(change: Callable[[Path], None], program: Path) -> None:
    change(program)
    assert not used(program)


def test_not_used_where_none_is_to_be_written(program: Path) -> None:
    assert not used(program, "-B -v")


def test_place_that_cannot_be_written_to(zipapp: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy2(zipapp, tmp_path / "program"))
    (tmp_path / "__pycache__").write_text("")
    argv = [sys.executable, str(copy), "freeze"]
    done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"error: '{tmp_path}' cannot get the byte code" in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["__pycache__", "program"]
