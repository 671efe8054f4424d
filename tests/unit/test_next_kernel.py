"""How much may be handed over to the next kernel, and which command lines it could not boot with."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.cli import next_kernel
from bootc_live.cli.next_kernel import HandoverRoom, check_next_cmdline
from bootc_live.config.model import Config
from bootc_live.image.estimate import Estimate, LayerEstimate
from bootc_live.image.unpacked_size import Basis
from bootc_live.rootfs.machine import machine_room, whole_machine

MIB = 2**20
ROOT = "root=bootc-live:docker://registry.example/os"


def room(monkeypatch: pytest.MonkeyPatch, total: int, unpacked: int, *, whole: bool = False) -> int:
    """The room in a machine of `total` MiB, for an image that unpacks to so many."""
    size = unpacked * MIB
    layers = (LayerEstimate("sha256:ab", size // 2, size, size, Basis.ANNOTATION),)
    monkeypatch.setattr(next_kernel, "estimate", lambda _source, _image: Estimate(layers))
    monkeypatch.setattr(next_kernel, "total_bytes", lambda: total * MIB)
    monkeypatch.setattr(next_kernel, "available_bytes", lambda: (total - 100) * MIB)
    found = HandoverRoom(Config(), whole=whole)
    found.look(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    return found.bytes()


def test_what_is_handed_over_leaves_room_for_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both lie in the memory of the next kernel at once."""
    there = machine_room(whole_machine(2048 * MIB), Config().backing).available
    left = room(monkeypatch, 2048, 1300)
    assert 0 < left < there - 1300 * MIB
    assert room(monkeypatch, 2048, 100) == (2048 - 320) * MIB // 2
    assert room(monkeypatch, 2048, 3000) == 0


def test_what_can_be_had_nowhere_else_is_handed_over_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether its root fits, the next kernel says with all its figures."""
    assert room(monkeypatch, 2048, 3000, whole=True) == (2048 - 320) * MIB // 2


def test_no_more_than_the_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 3 * 1024 * MIB < room(monkeypatch, 64 * 1024, 100) < 4 * 1024 * MIB


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("bootc.live.layuot=erofs", "bootc.live.layuot"),
        ("bootc.zram.algorithm=zstd", "add bootc.zram"),
        ("a=" + "x" * 2100, "2047"),
    ],
)
def test_what_the_next_kernel_would_refuse_is_told_here(more: str, said: str) -> None:
    check_next_cmdline(ROOT)
    with pytest.raises(LandingError) as caught:
        check_next_cmdline(f"{ROOT} {more}")
    assert said in caught.value.message
    assert "bootc.kexec.remove=" in caught.value.hint
