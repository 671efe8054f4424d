"""The file of install --config: it says what the command line does not, by the same names."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml

from bootc_live.__main__ import main
from bootc_live.base.errors import ConfigError
from bootc_live.cli.options.parser import make_parser, parse_arguments
from tests.lib.pages import blocks

TO_DISK: Final = """\
device: os.img
size: 8G
source: ./os.oci
bootloader: uki
karg: [quiet, console=ttyS0]
keep-key: true
"""


def actions(way: str) -> dict[str, argparse.Action]:
    """All arguments of a way to install, by the names that a file gives them."""
    verbs = next(action.choices for action in make_parser()._actions if action.dest == "verb")
    assert isinstance(verbs, dict)
    ways = next(action.choices for action in verbs["install"]._actions if action.metavar == "WHERE")
    assert isinstance(ways, dict)
    found = ways[way]._actions
    return {
        (action.option_strings or [action.dest])[-1].removeprefix("--"): action
        for action in found
        if action.dest not in ("help", "config")
    }


def write(where: Path, text: str) -> str:
    path = where / "install.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("way", ["to-disk", "to-filesystem"])
def test_every_argument_has_the_same_name(way: str, tmp_path: Path) -> None:
    told: dict[str, object] = {}
    words: list[str] = []
    for name, action in actions(way).items():
        option = [f"--{name}"] if action.option_strings else []
        text = list(action.choices)[-1] if action.choices else f"text of {name}"
        if action.nargs == 0:
            told[name] = True
            words += option
        elif isinstance(action.default, list):
            told[name] = [text, "another"]
            words += [*option, text, *option, "another"]
        else:
            told[name] = text
            words += [*option, text]
    assert len(told) > 20
    given = parse_arguments(["install", way, "--config", write(tmp_path, yaml.safe_dump(told))])
    given.config = None
    assert vars(given) == vars(parse_arguments(["install", way, *words]))


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ([], {}),
        (["--size", "9G"], {"size": "9G"}),
        (["--karg", "a"], {"karg": ["a"]}),
        (["--bootloader=systemd-boot"], {"bootloader": "systemd-boot"}),
        (["other.img"], {"device": "other.img"}),
        # Of several ways to name a disk, one is enough.
        (["--smallest"], {"smallest": True, "device": None}),
        (["--serial", "1"], {"serial": "1", "device": None}),
    ],
)
def test_the_command_line_comes_first(words: list[str], changed: dict[str, object], tmp_path: Path) -> None:
    given = vars(parse_arguments(["install", "to-disk", *words, "--conf", write(tmp_path, TO_DISK)]))
    expected = {"device": "os.img", "size": "8G", "source": "./os.oci", "bootloader": "uki", "keep_key": True}
    expected |= {"karg": ["quiet", "console=ttyS0"], "wipe": False, "filesystem": "ext4", "serial": None}
    assert {name: given[name] for name in expected | changed} == expected | changed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: [a]\nforce: true\n", ("'sources' is unknown", "'force' is unknown")),
        ("config: a\n", ("'config' is unknown",)),
        ("karg: quiet\nwipe: 1\n", ("'karg' is not a list of texts", "'wipe' is not true or false")),
        ("serial: 0123\nsize: 8192\n", ("'serial' is not a text", "'size' is not a text")),
        ("bootloader: lilo\n", ("'bootloader' is not one of systemd-boot, uki, grub",)),
        ("filesystem: [ext4]\n", ("'filesystem' is not a text",)),
        ("- a\n", ("is not a mapping",)),
        ("a: [\n", ("is not YAML",)),
    ],
)
def test_mistakes(text: str, said: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["install", "to-disk", "--config", write(tmp_path, text)]
    with pytest.raises(ConfigError) as caught:
        parse_arguments(words)
    assert all(part in caught.value.message for part in (*said, "install.yaml"))
    assert main(words) == 1
    told = capfd.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in told] == ["error", "what to do"]


def test_the_file_of_the_page(repo: Path, tmp_path: Path) -> None:
    (shown,) = (block for block in blocks((repo / "docs/disk.md").read_text()) if block.language == "yaml")
    given = parse_arguments(["install", "to-disk", "--config", write(tmp_path, shown.text)])
    assert (given.device, given.source[:6], given.auto_update) == ("kiosk.img", "https:", True)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="'/no/such/file' cannot be read"):
        parse_arguments(["install", "to-disk", "--config", "/no/such/file"])


@pytest.mark.parametrize("kind", ["FIFO", "directory", "device", "a FIFO behind a link"])
def test_what_is_no_file(kind: str, tmp_path: Path) -> None:
    """Nothing waits for somebody who writes."""
    path = tmp_path / "install.yaml"
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "device":
            path = Path("/dev/zero")
        case _:
            os.mkfifo(tmp_path / "fifo")
            path.symlink_to("fifo")
    with pytest.raises(ConfigError, match=r"is no regular file|Is a directory"):
        parse_arguments(["install", "to-disk", "--config", str(path)])


def test_standard_input() -> None:
    said = subprocess.run(
        [sys.executable, "-c", INPUT],
        input="device: a\nsource: ./b.oci\n",
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert said.stdout == "a ./b.oci\n"


INPUT: Final = """
from bootc_live.cli.options.parser import parse_arguments
given = parse_arguments(["install", "to-disk", "--config", "-"])
print(given.device, given.source)
"""


def test_what_neither_says(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["install", "to-disk", "--config", write(tmp_path, "device: a\n")])
    assert caught.value.code == 2
    assert "required: --source" in capfd.readouterr().err
