"""Whether an image has modules for the kernel that runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.landing.sysroot.modules import check_modules, have_modules


@pytest.mark.parametrize("where", ["usr/lib", "lib"])
@pytest.mark.parametrize("name", ["modules.dep", "modules.builtin", "kernel/fs/x.ko"])
def test_there(where: str, name: str, tmp_path: Path) -> None:
    """Images that bootc would not take have no /usr/lib/modules, but they do boot."""
    path = tmp_path / where / "modules/6.1" / name
    path.parent.mkdir(parents=True)
    path.touch()
    assert have_modules(str(tmp_path), "6.1")
    assert not have_modules(str(tmp_path), "6.2")
    assert check_modules(str(tmp_path), "/x.oci", required=True, release="6.1") is None


def test_a_directory_with_a_kernel_alone_has_none(tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/modules/6.1"
    directory.mkdir(parents=True)
    (directory / "vmlinuz").touch()
    assert not have_modules(str(tmp_path), "6.1")


def test_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootc_live.landing.sysroot.modules._MODULAR", "/proc/self/status")
    said = check_modules(str(tmp_path), "/x.oci", required=False)
    assert said is not None
    assert said.startswith(f"'/x.oci' has no modules for the running kernel {os.uname().release}")
    assert "bootc.kexec" in said
    with pytest.raises(LandingError, match="has no modules for the running kernel 9"):
        check_modules(str(tmp_path), "/x.oci", required=True, release="9")


def test_kernels_without_modules_need_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootc_live.landing.sysroot.modules._MODULAR", str(tmp_path / "missing"))
    assert check_modules(str(tmp_path), "/x.oci", required=True) is None
