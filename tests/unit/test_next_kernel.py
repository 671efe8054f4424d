"""How much may be handed over to the next kernel, and which command lines it could not boot with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bootc_live.base.errors import LandingError, OutOfMemoryError
from bootc_live.config.model import Config
from bootc_live.config.source_spec import parse_source
from bootc_live.image.size.estimate import Estimate, LayerEstimate
from bootc_live.image.size.unpacked import Basis
from bootc_live.landing.kexec import next_kernel
from bootc_live.landing.kexec.next_kernel import check_cmdline, check_next_memory, plan_handover
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.memory.need import available_on

MIB = 2**20
ROOT = "root=bootc-live:docker://registry.example/os"


def room(monkeypatch: pytest.MonkeyPatch, total: int, unpacked: int, *, whole: bool = False) -> int:
    """The room in a machine of `total` MiB, for an image that unpacks to so many."""
    size = unpacked * MIB
    layers = (LayerEstimate("sha256:ab", size // 2, size, size, Basis.ANNOTATION),)
    monkeypatch.setattr(next_kernel, "estimate", lambda _source, _image: Estimate(layers))
    monkeypatch.setattr(next_kernel, "total_bytes", lambda: total * MIB)
    monkeypatch.setattr(next_kernel, "available_bytes", lambda: (total - 100) * MIB)
    archive, registry = parse_source("/root.oci"), parse_source("docker://registry.example/os")
    used = SimpleNamespace(source=SimpleNamespace(source_text=(archive if whole else registry).source_text), image=None)
    limit = plan_handover(Config(sources=(registry, archive)), used)
    assert limit.whole is whole
    assert limit.room is not None
    return limit.room


def test_what_is_handed_over_leaves_room_for_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both lie in the memory of the next kernel at once."""
    there = available_on(2048 * MIB)
    left = room(monkeypatch, 2048, 1300)
    assert 0 < left < there - 1300 * MIB
    assert room(monkeypatch, 2048, 100) == (2048 - 320) * MIB // 2
    assert room(monkeypatch, 2048, 3000) == 0


def test_what_can_be_had_nowhere_else_is_handed_over_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of this initramfs, be it the fallback of a registry. Whether its root fits, the next kernel says."""
    assert room(monkeypatch, 2048, 3000, whole=True) == (2048 - 320) * MIB // 2


def test_no_more_than_the_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 3 * 1024 * MIB < room(monkeypatch, 64 * 1024, 100) < 4 * 1024 * MIB


@pytest.mark.parametrize(
    ("total", "handed", "packed", "unpacked", "said"),
    [
        (2048, 800, 30, 60, None),
        (2048, 0, 30, 60, None),
        # As much as is ever handed over of layers, and an initramfs of usual size; then an archive as it is.
        (400, 40, 30, 60, None),
        (400, 70, 30, 60, "422.0 MiB at its start, for its initramfs (30.0 MiB, 60.0 MiB unpacked) and 2 ×"),
        (2048, 200, 150, 700, None),
        (2048, 600, 150, 700, "2242.0 MiB at its start, for its initramfs (150.0 MiB, 700.0 MiB unpacked) and"),
        (2048, 0, 350, 1600, "(350.0 MiB, 1600.0 MiB unpacked); this machine has 2048.0 MiB"),
    ],
)
def test_large_initramfs(
    total: int, handed: int, packed: int, unpacked: int, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes is told while something can be done, not by a kernel that stops."""
    monkeypatch.setattr(next_kernel, "total_bytes", lambda: total * MIB)
    monkeypatch.setattr(next_kernel, "unpacked_size", lambda _chunks: unpacked * MIB)
    initramfs = BootFile("/nowhere", 0, packed * MIB)
    if said is None:
        check_next_memory(handed * MIB, initramfs)
        return
    with pytest.raises(OutOfMemoryError) as caught:
        check_next_memory(handed * MIB, initramfs)
    assert said in caught.value.message
    assert ("reuse-image=0" in caught.value.hint) is bool(handed)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("bootc.live.layuot=erofs", "bootc.live.layuot"),
        ("bootc.zram.algorithm=zstd", "add bootc.zram"),
        ("a=" + "x" * 2100, "2047"),
    ],
)
def test_what_the_next_kernel_would_refuse_is_told_here(more: str, said: str) -> None:
    check_cmdline(ROOT)
    with pytest.raises(LandingError) as caught:
        check_cmdline(f"{ROOT} {more}")
    assert said in caught.value.message
    assert "bootc.kexec.remove=" in caught.value.hint
