"""From the RAM of a machine to what an image can have of it, and back."""

from __future__ import annotations

import pytest

from bootc_live.base.units import MIB
from bootc_live.config.model import Backing
from bootc_live.rootfs.memory.machine import Room, larger_machine, machine_room, smallest_machine, whole_machine

PLAIN = Backing()
# Virtual PCs as measured: RAM given, MemTotal and MemAvailable in MiB.
PCS = [(416, 367, 236), (480, 431, 300), (512, 463, 329), (1024, 967, 760), (4096, 3921, 3623)]


@pytest.mark.parametrize(("given", "total", "available"), PCS)
def test_measured(given: int, total: int, available: int) -> None:
    room = machine_room(given * MIB, PLAIN)
    assert room.available == pytest.approx(available * MIB, rel=0.02)
    # It may promise less than there is, not more.
    assert room.available <= (available + 2) * MIB
    assert room.total == pytest.approx(total * MIB, rel=0.03)
    assert whole_machine(total * MIB) == pytest.approx(given * MIB, rel=0.03)


@pytest.mark.parametrize("needed", [0, 1, 100, 400, 1000, 3000, 5000, 40_000, 10**9, 2**43])
def test_the_smallest_machine_has_enough(needed: int) -> None:
    memory = smallest_machine(needed * MIB)
    assert memory % (16 * MIB) == 0
    assert machine_room(memory, PLAIN).available >= needed * MIB
    assert machine_room(memory - 16 * MIB, PLAIN).available < max(needed, 1) * MIB


@pytest.mark.parametrize("needed", [400, 1000, 3000])
@pytest.mark.parametrize(("given", "total", "available"), PCS)
def test_a_larger_one_of_the_same_kind(given: int, total: int, available: int, needed: int) -> None:
    memory = larger_machine(Room(available * MIB, total * MIB, PLAIN), needed * MIB)
    assert memory >= given * MIB * 0.97
    if needed > available:
        assert machine_room(memory, PLAIN).available >= needed * MIB * 0.98


@pytest.mark.parametrize("memory", [0, 1, 50 * MIB, 4096 * MIB - 1, 4096 * MIB, 2**44])
def test_every_size_has_an_answer(memory: int) -> None:
    room = machine_room(memory, PLAIN)
    assert 0 <= room.available <= memory
    assert 0 <= room.total <= memory


def test_more_is_more() -> None:
    rooms = [machine_room(memory * MIB, PLAIN).available for memory in range(100, 9000, 16)]
    assert rooms == sorted(rooms)
