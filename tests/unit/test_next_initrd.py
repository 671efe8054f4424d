"""The next kernel's initrd: archives one behind the other, as the kernel unpacks them."""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from bootc_live.base.cpio import read_headers
from bootc_live.base.errors import OutOfMemoryError
from bootc_live.base.feed import Feed
from bootc_live.landing.next_initrd import append_archive, append_file, carried_files
from bootc_live.rootfs.boot_files import BootFile
from bootc_live.rootfs.initramfs import holds
from tests.lib.needs import needs

MIB = 2**20


def initramfs(path: Path, content: bytes) -> BootFile:
    """A compressed initramfs with one file, in the middle of another file."""
    append_archive({"/init": content}, str(path))
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(b"x" * 3 * MIB + packed + b"y" * 17)
    return BootFile(str(path), 3 * MIB, len(packed))


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_archives_follow_each_other(length: int, tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    append_archive({"/a/b/first": b"1" * length}, str(initrd))
    append_file(initramfs(tmp_path / "image", os.urandom(length)), str(initrd))
    append_archive({"/usr/x": b"2", "/usr/y/z": b""}, str(initrd))
    whole = initrd.read_bytes()
    for name in ("a/b/first", "init", "usr/x", "usr/y/z", "usr/y"):
        assert holds(iter([whole]), name) is True
    assert holds(iter([whole]), "usr/w") is False


def test_a_file_is_moved_not_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(12 * MIB))
    kept = source.read_bytes()
    append_file(BootFile(str(source), 2 * MIB, 9 * MIB), str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == kept[2 * MIB : 11 * MIB]
    assert os.stat(source).st_size == 12 * MIB
    assert os.stat(source).st_blocks * 512 <= 3 * MIB


@needs("cpio")
def test_contents_may_come_from_a_file(tmp_path: Path) -> None:
    archive = tmp_path / "root.oci"
    archive.write_bytes(os.urandom(3 * MIB + 5))
    append_archive({"/root.oci": BootFile(str(archive), 0, 3 * MIB + 5)}, str(tmp_path / "initrd"))
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    with (tmp_path / "initrd").open("rb") as stream:
        subprocess.run(["cpio", "--extract", "--quiet"], cwd=unpacked, stdin=stream, check=True)
    assert (unpacked / "root.oci").read_bytes() == archive.read_bytes()


def test_members_belong_to_root_alone(tmp_path: Path) -> None:
    append_archive({"/a/secret": b"s"}, str(tmp_path / "initrd"))
    found = {member.name: member.mode for member in read_headers(Feed(iter([(tmp_path / "initrd").read_bytes()])))}
    assert found == {"a": 0o40755, "a/secret": 0o100600}


def test_no_room() -> None:
    with pytest.raises(OutOfMemoryError, match="no room for the next kernel's initrd"):
        append_archive({"/a": b"x" * 100_000}, "/dev/full")


def test_what_is_carried(tmp_path: Path) -> None:
    (tmp_path / "certs.d/host").mkdir(parents=True)
    (tmp_path / "auth.json").write_text("{}")
    (tmp_path / "certs.d/host/ca.crt").write_text("PEM")
    found = dict(carried_files(str(tmp_path)))
    assert found == {f"{tmp_path}/auth.json": b"{}", f"{tmp_path}/certs.d/host/ca.crt": b"PEM"}
    assert dict(carried_files(str(tmp_path / "nothing"))) == {}


@pytest.mark.parametrize("length", [8, 9, 11])
def test_a_word_of_zeros_ends_what_has_no_end(length: int, tmp_path: Path) -> None:
    """The kernel's lib/decompress_unlz4.c takes anything else for the size of one more block."""
    image, initrd = tmp_path / "image", tmp_path / "initrd"
    image.write_bytes(b"\x02\x21\x4c\x18" + b"x" * length)
    append_file(BootFile(str(image), 0, 4 + length), str(initrd))
    append_archive({"/usr/y": b""}, str(initrd))
    rest = initrd.read_bytes()[4 + length :]
    assert rest[:4] == bytes(4)
    begin = rest.index(b"0707")
    assert (4 + length + begin) % 4 == 0
    assert not rest[:begin].strip(b"\0")
