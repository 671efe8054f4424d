"""The tiny images that are mounted to see what a kernel can, read back; and what is said where it cannot."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from bootc_live.base.errors import RootfsError, RunError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Compression, Layout
from bootc_live.rootfs.layouts import mountable
from bootc_live.rootfs.memory.need import StorageOption
from tests.unit.erofs_reader import Image

INDEX, EROFS, TREE = StorageOption(Layout.INDEX), StorageOption(Layout.EROFS), StorageOption(Layout.TREE)
LZ4, ZSTD = StorageOption(Layout.EROFS, Compression.LZ4), StorageOption(Layout.EROFS, Compression.ZSTD)


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    mountable._obstacle.cache_clear()
    yield
    mountable._obstacle.cache_clear()


@pytest.mark.parametrize(
    ("option", "block", "features", "layouts"),
    [(INDEX, 512, 0x4, {0, 4}), (EROFS, 4096, 0x4, {2, 4}), (LZ4, 4096, 0x17, {1, 4}), (ZSTD, 4096, 0x17, {1, 4})],
)
def test_images_have_all_parts_of_a_layout(option: StorageOption, block: int, features: int, layouts: set[int]) -> None:
    with mountable._image(option.layout, option.compress) as (fd, size):
        content = os.pread(fd, 2**20, 0)
    reader = Image(content)
    assert (reader.block, size, reader.incompatible) == (block, block, features)
    found = reader.tree()
    whole, sparse = found[b"whole"], found[b"sparse"]
    assert {whole.layout, sparse.layout} == layouts
    assert whole.data == mountable._CONTENT
    # Where kernels that know nothing but blocks of 4096 bytes have none.
    assert (content.find(mountable._CONTENT) % 4096 == 512) == (option is INDEX)
    assert sparse.data == bytes(8192) + mountable._CONTENT[:4096] + bytes(4096)
    if option.compress is not Compression.NONE:
        assert max(count for _, count in reader.taken[whole.nid]) > 1, "no big physical cluster"
        assert whole.compressed is not None
        assert len(reader.taken[whole.nid]) == 1, "its end is not inlined"


def refusing(number: int, monkeypatch: pytest.MonkeyPatch, *, kind: str = "") -> None:
    """Let every mount fail, or the look for one kind of file system."""

    def require(asked: str) -> None:
        if asked == kind:
            raise OSError(number, os.strerror(number))

    def detached(_kind: str, _device: str) -> AbstractContextManager[int]:
        raise OSError(number, os.strerror(number))

    @contextmanager
    def loop_device(_fd: int, _name: str, _block: int) -> Iterator[str]:
        yield "/dev/loop0"

    monkeypatch.setattr(mountable, "require_kind", require)
    monkeypatch.setattr(mountable, "detached", detached)
    monkeypatch.setattr(mountable, "loop_device", loop_device)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (INDEX, "EROFS with blocks of 512 bytes (Linux 6.4 and later can): Invalid argument"),
        (EROFS, "EROFS images of the erofs layout (Linux 5.15 and later can): Invalid argument"),
        (LZ4, "EROFS compressed with lz4 (Linux 5.17 and later can): Invalid argument"),
        (ZSTD, "EROFS compressed with zstd (Linux 6.10 and later can): Invalid argument"),
    ],
)
def test_what_is_said(option: StorageOption, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(errno.EINVAL, monkeypatch)
    assert mountable.obstacle(option) == f"this kernel cannot mount {said}"
    assert mountable.obstacle(TREE) == ""


def test_no_erofs_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(errno.ENODEV, monkeypatch, kind="erofs")
    assert {mountable.obstacle(option) for option in (INDEX, EROFS, LZ4, ZSTD)} == {
        "this kernel has no EROFS (No such device)"
    }
    assert mountable.obstacle(TREE) == ""


def test_no_loop_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_fd: int, _name: str, _block: int) -> AbstractContextManager[str]:
        raise RunError("cannot use loop devices: Permission denied", hint="use others")

    monkeypatch.setattr(mountable, "require_kind", lambda _kind: None)
    monkeypatch.setattr(mountable, "loop_device", missing)
    assert mountable.obstacle(INDEX) == "cannot use loop devices: Permission denied"


def test_a_library_that_is_missing_is_for_others_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bootc_live.rootfs.layouts.erofs.compressor._NAMES", dict.fromkeys(Compression, "libnothing.so.9")
    )
    refusing(errno.EINVAL, monkeypatch)
    assert mountable.obstacle(LZ4) == ""


@pytest.mark.parametrize(
    ("kargs", "named"),
    [
        ("", "which a writable /etc needs"),
        ("rw", "which 'rw' needs"),
        ("rw bootc.live.etc.rw=0", "which 'rw' needs"),
        ("bootc.live.layout=tree bootc.live.selinux=0", "which a writable /etc needs"),
        # Files that are labelled are written to themselves.
        ("bootc.live.layout=tree", None),
        ("bootc.live.etc.rw=0", None),
    ],
)
def test_no_overlay(kargs: str, named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(errno.ENODEV, monkeypatch, kind="overlay")
    config = parse_cmdline(f"root=bootc-live:/x {kargs}")
    if named is None:
        mountable.require_overlay(config)
    else:
        with pytest.raises(RootfsError, match="this kernel has no overlay file system") as caught:
            mountable.require_overlay(config)
        assert named in caught.value.message
        assert "boot with" in caught.value.hint
