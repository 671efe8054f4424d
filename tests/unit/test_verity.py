"""dm-verity: hash trees as veritysetup makes them, and what the device mapper is told, in which order."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bootc_live.base.errors import AdmissionError, RootfsError, RunError
from bootc_live.base.log import Recorder
from bootc_live.base.units import MIB
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Backing, Compression, Layout
from bootc_live.formats.verity import BLOCK, TreeHasher, tree_size, wrong_blocks
from bootc_live.image.size.estimate import Estimate, LayerEstimate
from bootc_live.image.size.unpacked import Basis
from bootc_live.rootfs.layouts.mountable import require_verity
from bootc_live.rootfs.memory.host import Means, MemoryRoom
from bootc_live.rootfs.memory.need import RESERVE, StorageOption, memory_need
from bootc_live.rootfs.plan import check_options, choose
from bootc_live.system.devices import verity
from bootc_live.system.devices.verity import verity_device

NULL = hashlib.sha256().hexdigest()
# Blocks that begin with their number: the root hash and the SHA-256 of the tree by
# `veritysetup format --no-superblock --salt=- --hash=sha256` of cryptsetup 2.6.1.
TREES = [
    (1, "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7", NULL[:16]),
    (2, "e52f81e4af8631581fc5e7e9db96f6b2851e8b5bdcf8ca0c885fcfaa53280c7f", "e52f81e4af863158"),
    (128, "facd63d6b04f5fc54c1bc9c3dc28115e625d6bdcdef0b789a79b8ad603ee4aaf", "facd63d6b04f5fc5"),
    (129, "1bcba15e37cc5263ee9e1263a92f3aabb74da4d93712e1ece40e391d2dd941ba", "4ef9051c5ee435c7"),
    (128 * 128, "4d132fda9940d79591e1ced50c7c924639d3f7fd381ac70fcaa7d8ffd204b60a", "5ecbb2b44c6a9916"),
    (128 * 128 + 1, "15353476132b354b2fc5a27dbb18a79fa2023502bd28e1529819f13446f39496", "af024ab4a2f96f40"),
]


@pytest.mark.parametrize(("count", "root_hash", "packed"), TREES)
def test_trees_are_those_of_veritysetup(count: int, root_hash: str, packed: str) -> None:
    hasher = TreeHasher()
    for start in range(0, count, 100):
        numbers = range(start, min(start + 100, count))
        hasher.update(b"".join(number.to_bytes(4, "big") + bytes(BLOCK - 4) for number in numbers))
    tree = hasher.finish()
    assert (tree.root_hash, tree.blocks) == (root_hash, count)
    assert hashlib.sha256(tree.packed).hexdigest().startswith(packed)
    assert len(tree.packed) == tree_size(count * BLOCK) == tree_size(count * BLOCK - 1)


@pytest.mark.parametrize("count", [1, 2, 128, 129, 300, 128 * 128 + 1])
def test_wrong_blocks(count: int) -> None:
    """Each block is checked once, and what only a wrong block of the tree vouches for not at all."""
    data = [number.to_bytes(4, "big") + bytes(BLOCK - 4) for number in range(count)]
    hasher = TreeHasher()
    hasher.update(b"".join(data))
    tree = hasher.finish()
    blocks = data + [tree.packed[start : start + BLOCK] for start in range(0, len(tree.packed), BLOCK)]

    def found(*changed: int) -> tuple[list[int], list[int]]:
        read = list[int]()

        def block(number: int) -> bytes:
            read.append(number)
            return b"x" + blocks[number][1:] if number in changed else blocks[number]

        return list(wrong_blocks(block, count, tree.root_hash)), sorted(read)

    assert found() == ([], list(range(len(blocks))))
    ends = {0, count // 2, count - 1}
    assert found(*ends) == (sorted(ends), list(range(len(blocks))))
    if count > 1:
        # The top of the tree.
        assert found(count) == ([count], [count])
        # The last block of the lowest level, and the data below it.
        last = len(blocks) - 1
        unread = set(range((count - 1) // 128 * 128, count)) if last > count else set(range(count))
        assert found(last) == ([last], sorted(set(range(len(blocks))) - unread))


def test_what_no_tree_is_made_of() -> None:
    hasher = TreeHasher()
    with pytest.raises(ValueError, match="no data"):
        hasher.finish()
    with pytest.raises(ValueError, match="whole"):
        hasher.update(b"x")


def test_structures_have_the_kernel_s_sizes() -> None:
    """Struct dm_ioctl and struct dm_target_spec of linux/dm-ioctl.h."""
    assert (verity._HEADER.size, verity._TARGET.size) == (312, 40)
    # _IOWR(0xfd, 3, struct dm_ioctl), which is the same on architectures that number directions otherwise.
    assert verity._IOCTL | verity._CREATE == 3 << 30 | 312 << 16 | 0xFD << 8 | 3


@dataclass
class Mapper:
    """A device mapper of no kernel: what it was told, and which command fails."""

    failing: int = -1
    told: list[tuple[int, int, bytes]] = field(default_factory=list)

    def ioctl(self, _fd: int, request: int, data: bytearray) -> int:
        """Take a command."""
        command = request & 0xFF
        size, start, targets, _, flags = struct.unpack_from("=2IIiI", data, 12)
        assert (struct.unpack_from("=3I", data), size, start) == ((4, 0, 0), len(data), 312)
        assert data[48:59] == b"bootc-live-"
        target = bytes(data[312:]).rstrip(b"\0")
        assert bool(targets) == bool(target)
        self.told.append((command, flags, target))
        if command == self.failing:
            raise OSError(errno.EINVAL, "Invalid argument")
        # Number 3 of the device type of /dev/null, so that there is a device to open: major 1.
        struct.pack_into("=Q", data, 40, os.makedev(1, 3))
        return 0


@pytest.fixture
def mapper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mapper:
    """A device mapper whose devices are files."""
    made = Mapper()
    monkeypatch.setattr(fcntl, "ioctl", made.ioctl)
    monkeypatch.setattr(verity, "_CONTROL", "/dev/null")
    monkeypatch.setattr(verity, "_DEVICE", f"{tmp_path}/dm-")
    (tmp_path / "dm-3").touch()
    return made


def opened() -> Iterator[str]:
    """Yield what this process has open."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/self/fd/{name}")


CREATE, REMOVE, RESUME, LOAD = (3, 0, b""), (4, 1 << 17, b""), (6, 0, b""), 9


def test_a_device_goes_at_its_last_close(mapper: Mapper, tmp_path: Path) -> None:
    """It is removed while it is open: from then on, the kernel removes it whatever becomes of this program."""
    with verity_device("/dev/null", 7, "ab" * 32) as path:
        assert path == f"{tmp_path}/dm-3"
        table = struct.pack("=QQiI16s", 0, 7 * 8, 0, 0, b"verity")
        table += f"1 1:3 1:3 4096 4096 7 7 sha256 {'ab' * 32} -".encode()
        assert mapper.told == [CREATE, (LOAD, 1, table), RESUME, REMOVE]
        assert path in opened()
    assert path not in opened()
    assert len(mapper.told) == 4


@pytest.mark.parametrize(("failing", "removed"), [(3, 0), (LOAD, 1), (6, 1)])
def test_a_device_that_cannot_be_made_is_removed(failing: int, removed: int, mapper: Mapper) -> None:
    mapper.failing = failing
    with pytest.raises(RunError, match="cannot make a dm-verity device: Invalid argument"):
        verity_device("/dev/null", 7, "ab" * 32).__enter__()
    assert mapper.told.count(REMOVE) == removed


def test_a_device_that_does_not_appear_is_removed(mapper: Mapper, tmp_path: Path) -> None:
    (tmp_path / "dm-3").unlink()
    with pytest.raises(RunError, match="cannot make a dm-verity device: No such file or directory"):
        verity_device("/dev/null", 7, "ab" * 32).__enter__()
    assert mapper.told[-1] == REMOVE


@pytest.mark.parametrize("control", ["/nonexistent", "/dev/null"])
def test_a_kernel_without_it_is_one_error(control: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No device mapper, and one that does not know the target: /dev/null knows no command."""
    monkeypatch.setattr(verity, "_CONTROL", control)
    monkeypatch.setattr(verity, "find_program", lambda _name: None)
    require_verity(parse_cmdline("root=bootc-live:/x bootc.live.erofs"))
    for argument in ("bootc.live.verity", f"bootc.live.verity.roothash={'0' * 64}"):
        with pytest.raises(RootfsError, match="this kernel has no dm-verity") as caught:
            require_verity(parse_cmdline(f"root=bootc-live:/x bootc.live.erofs {argument}"))
        assert "which 'bootc.live.verity' needs" in caught.value.message


EROFS = StorageOption(Layout.EROFS)
LZ4, ZSTD = replace(EROFS, compress=Compression.LZ4), replace(EROFS, compress=Compression.ZSTD)
ALL = Means(frozenset(Compression), zram=True)
ESTIMATE = Estimate((LayerEstimate("sha256:1", 400 * MIB, 1000 * MIB, 1000 * MIB, Basis.TRAILER),))


def under(kernel: frozenset[StorageOption]) -> Means:
    """The means of a machine whose kernel cannot mount some options."""
    return replace(ALL, obstacle=lambda option: f"no {option}" if option in kernel else "")


def test_the_hash_tree_of_verity_needs_memory() -> None:
    with_tree = memory_need(replace(EROFS, verity=True), 1000 * MIB)
    without = memory_need(EROFS, 1000 * MIB)
    assert 1 / 128 < (with_tree.stored - without.stored) / without.stored < 1 / 126
    assert with_tree.memory - without.memory == with_tree.stored - without.stored


@pytest.mark.parametrize(
    ("kernel", "kargs", "error"),
    [
        (frozenset(), "bootc.live.verity", None),
        (frozenset(), f"bootc.live.verity.roothash={'0' * 64}", None),
        # Another compression is another root hash, and just as well checked.
        (frozenset({ZSTD}), "bootc.live.verity", None),
        (
            frozenset({ZSTD}),
            f"bootc.live.verity.roothash={'0' * 64}",
            f"'bootc.live.verity.roothash={'0' * 64}' allows",
        ),
        (frozenset({ZSTD, LZ4, EROFS}), "bootc.live.verity", "'bootc.live.verity' allows no other layout than erofs"),
    ],
)
def test_what_verity_allows(kernel: frozenset[StorageOption], kargs: str, error: str | None) -> None:
    config = parse_cmdline(f"root=bootc-live:/x bootc.live.erofs bootc.live.compress=zstd {kargs}")
    recorder = Recorder(quiet=True)
    if error is None:
        check_options(config, under(kernel), recorder)
        assert len(recorder.warnings) == bool(kernel)
        return
    with pytest.raises(RootfsError) as caught:
        check_options(config, under(kernel), recorder)
    assert caught.value.message.startswith(error)
    assert f"but layout {'tree' if EROFS in kernel else 'erofs lz4'} is used" in caught.value.message


def test_what_would_fit_with_verity() -> None:
    room = MemoryRoom(RESERVE + 750 * MIB, 2000 * MIB, Backing())
    with pytest.raises(AdmissionError) as caught:
        choose("/root.oci", Layout.EROFS, Compression.NONE, ESTIMATE, room, ALL, verity=True)
    assert "layout erofs with verity needs" in caught.value.message
    assert "what would fit: bootc.live.layout=erofs bootc.live.compress=lz4 bootc.live.verity (" in caught.value.hint
    assert "index" not in caught.value.hint
    assert "tree" not in caught.value.hint
