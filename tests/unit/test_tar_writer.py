"""Headers of tars: what is written is what is read, by our reader, by Python's and by GNU tar."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from bootc_live.formats.tar.reader import read_members
from bootc_live.formats.tar.writer import END, NewMember, header, padding

DEEP = b"/".join([b"directory"] * 40)
MEMBERS = {
    "plain": NewMember(b"./file", "file", mode=0o4755, uid=7, gid=8, size=5, mtime=1_700_000_000 * 10**9),
    "nanoseconds": NewMember(b"./file", "file", mtime=1_700_000_000_123_456_789),
    "before 1970": NewMember(b"./file", "file", mtime=-1_500_000_000),
    "long names": NewMember(DEEP, "symlink", link=DEEP + b"/target"),
    "a name of 100 bytes": NewMember(b"n" * 100, "file"),
    "large numbers": NewMember(b"./file", "file", uid=2**31, gid=2**32 - 2),
    "not UTF-8": NewMember(b"./\xff\xfe", "dir", mode=0o700),
    "attributes": NewMember(
        b"./file", "file", xattrs={b"user.x": b"a\0\xff\n", b"security.capability": b"\1\0\0\2" * 5}
    ),
    "device": NewMember(b"./null", "char", device=(1, 3)),
    "block": NewMember(b"./disk", "block", device=(259, 300)),
    "pipe": NewMember(b"./pipe", "fifo"),
    "hard link": NewMember(b"./second", "hardlink", link=b"./file"),
}


def tar(member: NewMember) -> bytes:
    return header(member) + b"x" * member.size + padding(member.size) + END


@pytest.mark.parametrize("name", MEMBERS)
def test_our_reader(name: str) -> None:
    member = MEMBERS[name]
    (found,) = read_members(tar(member))
    assert (found.name, found.kind, found.link) == (member.name, member.kind, member.link)
    assert (found.mode, found.uid, found.gid, found.size) == (member.mode, member.uid, member.gid, member.size)
    assert found.mtime * 10**9 + found.mtime_ns == member.mtime
    assert found.xattrs == member.xattrs
    assert found.device == member.device


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "not UTF-8"])
def test_python(name: str) -> None:
    member = MEMBERS[name]
    with tarfile.open(fileobj=io.BytesIO(tar(member))) as opened:
        (found,) = opened.getmembers()
    assert found.name.encode().removeprefix(b"./") == member.name.removeprefix(b"./")
    assert (found.mode, found.uid, found.gid, found.size) == (member.mode, member.uid, member.gid, member.size)
    assert found.linkname.encode() == member.link
    assert found.mtime == pytest.approx(member.mtime / 10**9)


@pytest.mark.parametrize("name", MEMBERS)
def test_gnu_tar(name: str, tmp_path: Path) -> None:
    path = tmp_path / "tar"
    path.write_bytes(tar(MEMBERS[name]))
    argv = ["tar", "--list", "--file", str(path), "--quoting-style=literal"]
    done = subprocess.run(argv, capture_output=True, check=True)
    listed = done.stdout.rstrip(b"\n/")
    assert (listed, done.stderr) == (MEMBERS[name].name, b"")


def test_an_attribute_that_no_record_can_name() -> None:
    with pytest.raises(ValueError, match="'=' in its name"):
        header(NewMember(b"./file", "file", xattrs={b"user.a=b": b""}))
