"""The settings of a machine on a disk: its kernel command line, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_live.config.cmdline.tokens import split_cmdline
from bootc_live.config.host.trust import TrustFiles
from bootc_live.landing.disk.deployments import Deployment, Deployments
from bootc_live.landing.disk.settings import Settings, changed_settings, has_settings, new_settings, read_settings

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
