"""Recipes of the justfile that take arguments hand them to the verbs as they are typed."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.lib.boot_images import INITRAMFS, KERNEL, boot_image
from tests.lib.oci_writer import write_archive

JUST = Path(sysconfig.get_path("scripts")) / "just"


def just(repo: Path, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs a recipe, from another directory than the repository's."""
    command = [JUST, "--justfile", repo / "justfile", *argv]
    return subprocess.run(command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An image's archive whose name has to be quoted."""
    return write_archive(tmp_path / "an image.oci", boot_image())


@pytest.mark.usefixtures("zipapp")
def test_netboot(repo: Path, archive: Path, tmp_path: Path) -> None:
    made = tmp_path / "for nodes"
    done = just(repo, "netboot", archive, made, "--rootfs", "--append", "one two=3")
    assert done.returncode == 0, done.stderr
    assert (made / "vmlinuz").read_bytes() == KERNEL
    assert (made / "initrd.img").read_bytes() == INITRAMFS
    assert "one two=3" in (made / "boot.ipxe").read_text()
    assert (made / "rootfs.cpio").exists()


@pytest.mark.usefixtures("zipapp")
def test_uki(repo: Path, archive: Path, tmp_path: Path) -> None:
    """The kernel in this image is none, so that ukify refuses it, where there is one."""
    made = tmp_path / "os.efi"
    done = just(repo, "uki", archive, made, "--rootfs")
    assert done.returncode != 0
    assert "ukify" in done.stderr
    assert "usage" not in done.stderr
    assert not made.exists()
