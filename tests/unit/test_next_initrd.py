"""The next kernel's initrd: archives one behind the other, as the kernel unpacks them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from bootc_live.base.errors import OutOfMemoryError
from bootc_live.base.peekable import PeekableStream
from bootc_live.config.host.host_config import read_host_config
from bootc_live.formats.cpio import read_headers
from bootc_live.landing.kexec import next_initrd
from bootc_live.landing.kexec.next_initrd import append_archive, append_file, carried_files
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.boot_files.initramfs import holds
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
    found = {
        member.name: member.mode for member in read_headers(PeekableStream(iter([(tmp_path / "initrd").read_bytes()])))
    }
    assert found == {"a": 0o40755, "a/secret": 0o100600}


def test_no_room() -> None:
    with pytest.raises(OutOfMemoryError, match="too little memory for the next kernel's initrd"):
        append_archive({"/a": b"x" * 100_000}, "/dev/full")


ENVIRON = {"REGISTRY_AUTH_FILE": "/run/named.json", "XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/root"}
CREDENTIALS = "run/credentials/@system/bootc-live"
# As they count, the first one first.
LOGINS = (
    *(f"{CREDENTIALS}.auth", "run/named.json", "etc/bootc-live/auth.json", "run/ostree/auth.json"),
    *("etc/ostree/auth.json", "usr/lib/ostree/auth.json", "run/user/0/containers/auth.json"),
    *(f"run/containers/{os.geteuid()}/auth.json", "root/.config/containers/auth.json", "root/.docker/config.json"),
)
OTHERS = (
    *(f"{CREDENTIALS}.ca", f"{CREDENTIALS}.client", "etc/bootc-live/certs.d/site.crt"),
    *(
        f"etc/{top}/certs.d/a.example/{name}"
        for top in ("containers", "docker")
        for name in ("ca.crt", "x.key", "x.cert")
    ),
)


def write(root: Path, path: str, content: bytes) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def carried(root: Path, next_root: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What is carried from one root to the next; what is below /run there is nobody's any more."""
    monkeypatch.setattr(next_initrd, "_system_bundle", lambda: None)
    found = dict(carried_files(str(root), environ))
    for path, content in found.items():
        write(next_root, path, content)
    assert not [path for path in found if path.startswith("/run/")]
    return found


@pytest.mark.parametrize("first", range(len(LOGINS)))
def test_logins_reach_the_next_kernel(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From whatever place, and in the same order."""
    here, there = tmp_path / "here", tmp_path / "there"
    for path in LOGINS[first:]:
        login = {"auths": {"a.example": {"username": path, "password": "pw"}}}
        write(here, path, json.dumps(login).encode())
    environ = {name: value for name, value in ENVIRON.items() if first < 2 or name != "REGISTRY_AUTH_FILE"}
    carried(here, there, environ, monkeypatch)
    for root in (here, there):
        found = read_host_config(str(root), environ).logins.find("a.example", "os")
        assert found is not None
        assert found.username == LOGINS[first]


def test_authorities_and_mirrors_reach_the_next_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for path in OTHERS:
        write(here, path, path.encode())
    write(here, f"{CREDENTIALS}.registries", b"registries: [{prefix: a, location: x}]")
    write(here, "etc/ssl/other", b"not for servers")
    assert len(carried(here, there, {}, monkeypatch)) == len(OTHERS) + 1

    def read(paths: tuple[str, ...]) -> list[bytes]:
        return [Path(path).read_bytes() for path in paths]

    before, after = (read_host_config(str(root), {}) for root in (here, there))
    assert {found.rules.resolve("a", "os").origin.host for found in (before, after)} == {"x"}
    assert read(before.authorities) == read(after.authorities) == [OTHERS[2].encode(), OTHERS[0].encode()]
    assert before.client is not None
    assert after.client is not None
    assert read((after.client,)) == read((before.client,)) == [OTHERS[1].encode()]
    assert len(after.for_host("a.example").authorities) == 2


def test_the_bundle_of_this_system_is_one_more_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("PEM")
    monkeypatch.setattr(next_initrd, "_system_bundle", lambda: str(bundle))
    ((path, content),) = carried_files(str(tmp_path / "nothing"), {})
    assert content == b"PEM"
    write(tmp_path / "next", path, content)
    assert len(read_host_config(str(tmp_path / "next"), {}).authorities) == 1


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
