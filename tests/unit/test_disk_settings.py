"""The settings of a machine on a disk: its kernel command line, and what is remembered."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError, LandingError
from bootc_live.config.cmdline.tokens import split_cmdline
from bootc_live.config.host.trust import TrustFiles
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.disk.settings import (
    Settings,
    changed_settings,
    check_arguments,
    has_settings,
    new_settings,
    read_settings,
)

ROOT = "ab" * 32
SETTINGS = Settings(source="docker://registry.example/os", root="UUID=1", boot="PARTUUID=2", loader="grub")
DEPLOYMENT = Deployment(3, "docker://registry.example/os", "sha256:1", ROOT, "2026-01-01", "6.12", verity=True)


def test_what_does_not_start_reboots() -> None:
    """Unless the image or the machine say something else: the last one of an argument counts."""
    own = f"root=bootc-live:deployment:UUID=1:3@{ROOT}"
    usual = "rd.shell=0 rd.emergency=reboot panic=10 systemd.crash_reboot"
    assert SETTINGS.cmdline(DEPLOYMENT) == f"{usual} {own}"
    machine = replace(SETTINGS, arguments=("rd.shell=1",))
    said = machine.cmdline(replace(DEPLOYMENT, arguments=("panic=0", "quiet"), verity=False))
    assert said == f"{usual} panic=0 quiet rd.shell=1 {own} bootc.disk.verity=0"
    last = {token.name: token.value for token in split_cmdline(said)}
    assert (last["panic"], last["rd.shell"], last["rd.emergency"]) == ("0", "1", "reboot")


@pytest.mark.parametrize(
    "text",
    [
        *('"unclosed', 'a="b', "--", "quiet -- x", '"--"', "", " ", "a\nb", "a\x01", "a\xa0b", "\udcff"),
        *(
            "root=/dev/sda",
            "ROOT=x",
            "root",
            '"root=a b"',
            "quiet root=x",
            "root=bootc-live:/a",
            "bootc.disk.state=etc",
        ),
        *("bootc.disk.verity=0", "bootc.install=smallest", "bootc.typo=1"),
        # To systemd, these are quotes that hide what follows; to the kernel, the last one does.
        *("'", "a=it's", "a='b", "'a=b", "a='b' c='d e", """a="'" b='""", "a='b root=/dev/sda'", """a='"'"""),
    ],
)
def test_arguments_that_boot_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match="--karg"):
        check_arguments("--karg", ["quiet", text])


@pytest.mark.parametrize("text", ['"unclosed', 'a="b', "--", "quiet -- x", '"--"', "bootc.typo=1"])
def test_a_system_finds_its_root(text: str) -> None:
    """Also with settings that an older program wrote."""
    with pytest.raises(ConfigError):
        replace(SETTINGS, arguments=(text,)).cmdline(DEPLOYMENT)


def test_arguments_that_boot() -> None:
    check_arguments(
        "--karg", ["quiet", 'a="b c"', '"d e"', "console=tty0 console=ttyS0,115200", "rootwait", "ro", "--x"]
    )


@pytest.mark.parametrize("text", ["a='b c'", "'a b'", "a=''", """a="it's\"""", """a='b "c d" e'""", "a='b' c='d e'"])
def test_closed_single_quotes(text: str) -> None:
    """They hide nothing from anybody: the root follows, and is an argument of its own."""
    check_arguments("--karg", [text])
    said = replace(SETTINGS, arguments=(text,)).cmdline(DEPLOYMENT)
    assert split_cmdline(said)[-1] == SETTINGS.root_argument(DEPLOYMENT)
    assert shlex.split(said)[-1] == str(SETTINGS.root_argument(DEPLOYMENT))


def test_an_open_quote_of_the_image_is_closed() -> None:
    said = SETTINGS.cmdline(replace(DEPLOYMENT, arguments=('"quiet',)))
    assert split_cmdline(said)[-1] == SETTINGS.root_argument(DEPLOYMENT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("source", 5), ("root", 5), ("boot", None), ("loader", ["grub"]), ("loader", "lilo"), ("label", 5)),
        *(("unsecure", 1), ("state", 5), ("state", "none"), ("arguments", "quiet"), ("arguments", [5]), ("slots", 5)),
        *(("subvolume", 5), ("secure_boot", "no"), ("trust", []), ("trust", {"keys": "k"}), ("slots", [["a"]])),
        *(("trust", {"policy": 5}), ("trust", {"policy": "/etc/x", "files": 5})),
        ("trust", {"keys": ["k"], "files": {"k": 5}}),
    ],
)
def test_settings_of_another_type(field: str, value: object, tmp_path: Path) -> None:
    disk = Deployments(str(tmp_path))
    disk.make()
    with new_settings(disk, SETTINGS):
        pass
    file = Path(disk.top) / "machine.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(LandingError, match=r"machine\.json") as caught:
        read_settings(disk)
    # A part of `trust` is named itself.
    names = (field, *(value if isinstance(value, dict) else ()), "lilo", "none")
    assert any(name in caught.value.message for name in names)


@pytest.mark.parametrize("text", ["[" * 100_000, "5", "{}", '{"source": "a"}', "\0"])
def test_settings_that_are_none(text: str, tmp_path: Path) -> None:
    disk = Deployments(str(tmp_path))
    disk.make()
    (Path(disk.top) / "machine.json").write_text(text)
    with pytest.raises(LandingError, match=r"machine\.json"):
        read_settings(disk)


def test_a_key_that_was_not_kept() -> None:
    with pytest.raises(ConfigError, match="'k' is not among the files"):
        _ = TrustFiles(keys=("k",)).trust


def test_settings_are_read_as_written(tmp_path: Path) -> None:
    disk = Deployments(str(tmp_path))
    disk.make()
    written = replace(SETTINGS, arguments=("quiet",), slots=("a", "b"), trust=TrustFiles("/p", ("/k",), {"/k": "x"}))
    for settings in (written, SETTINGS):
        with new_settings(disk, settings):
            assert read_settings(disk) == written if has_settings(disk) else settings is written
        assert read_settings(disk) == settings
    with changed_settings(disk, written):
        assert read_settings(disk) == written
    assert read_settings(disk) == written


@pytest.mark.parametrize("change", [new_settings, changed_settings])
def test_settings_stay_if_something_fails(
    change: Callable[[Deployments, Settings], AbstractContextManager[None]], tmp_path: Path
) -> None:
    disk = Deployments(str(tmp_path))
    disk.make()
    with new_settings(disk, SETTINGS):
        pass
    with pytest.raises(KeyboardInterrupt), change(disk, replace(SETTINGS, source="other")):
        raise KeyboardInterrupt
    assert read_settings(disk) == SETTINGS
    assert [path.name for path in Path(disk.top).glob("machine*")] == ["machine.json"]
