"""What installing an image would have made of its tree: places to mount on, /etc, and no objects of a repository."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import RootfsError
from bootc_live.formats.gvariant import read_xattrs
from bootc_live.rootfs.tree.live import live_tree
from bootc_live.rootfs.tree.node import Node
from tests.lib.tar_writer import directory, file, hardlink, layer, symlink, xattr
from tests.unit.merging import merged, node_at, paths

MADE = {"dev/": 0o755, "proc/": 0o555, "run/": 0o755, "sys/": 0o555, "tmp/": 0o1777, "var/": 0o755}
OBJECTS = "sysroot/ostree/repo/objects"
# What files have, by their size.
CONTENTS: dict[int, bytes] = {}


def live(*members: bytes) -> Node:
    """The live tree of one layer."""
    root = merged(members)
    live_tree(root, "it", lambda node: CONTENTS.get(node.size, b""))
    return root


PLACES = {
    "none there": ((), MADE),
    "as they are": ((directory("tmp/", mode=0o700), directory("proc/", mode=0o700)), {"tmp/": 0o700, "proc/": 0o700}),
    "a link to one": ((directory("var/tmp/", mode=0o1777), symlink("tmp", "var/tmp")), {"var/tmp/": 0o1777}),
    "a link to none": ((symlink("tmp", "sysroot/tmp"),), {"sysroot/": 0o755, "sysroot/tmp/": 0o1777}),
    "a link above the root": ((symlink("run", "../../var/run"),), {"var/": 0o755, "var/run/": 0o755}),
    "by two links": ((symlink("run", "/state/run"), symlink("state", "mnt")), {"mnt/": 0o755, "mnt/run/": 0o755}),
    "something else as /var": ((file("var", "", mode=0o600),), {"var": 0o600}),
    "/var that leads nowhere": ((symlink("var", "nowhere"),), {}),
}


@pytest.mark.parametrize("case", PLACES)
def test_places_to_mount_on(case: str) -> None:
    members, wanted = PLACES[case]
    root = live(*members)
    found = paths(root)
    assert {name.strip("/") for name in MADE} <= {name.strip("/") for name in found}
    assert {name: node_at(root, name).mode for name in wanted} == wanted


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ((file("dev", ""),), "/dev"),
        ((symlink("proc", "proc"),), "/proc"),
        ((file("etc/passwd", ""), symlink("tmp", "etc/passwd")), "/tmp"),
        ((file("mnt", ""), symlink("run", "mnt/run")), "/run"),
        ((symlink("sys", "a" * 256),), "/sys"),
    ],
)
def test_something_else_in_the_way(members: tuple[bytes, ...], place: str) -> None:
    with pytest.raises(RootfsError, match=f"'it' cannot be switched to: {place} ") as caught:
        live(*members)
    assert place in str(caught.value.hint)


ETC = (
    directory("usr/etc/", mode=0o711),
    file("usr/etc/passwd", "x"),
    directory("usr/etc/ssh/"),
    file("usr/etc/ssh/k", ""),
)


def test_etc_is_a_copy_of_usr_etc() -> None:
    root = live(*ETC)
    assert [path for path in paths(root) if path.startswith("etc")] == ["etc/", "etc/passwd", "etc/ssh/", "etc/ssh/k"]
    assert node_at(root, "etc").mode == 0o711
    assert node_at(root, "etc/passwd").offset == node_at(root, "usr/etc/passwd").offset
    assert node_at(root, "etc/ssh") is not node_at(root, "usr/etc/ssh")


@pytest.mark.parametrize("where", ["etc", "usr/etc"])
def test_files_in_etc_are_each_their_own(where: str) -> None:
    """Equal files are one object in a repository; where they can be written, they must not change one another."""
    empty = f"{OBJECTS}/aa/empty.file"
    names = (f"{where}/motd", f"{where}/exports", "usr/share/empty", "usr/share/too")
    root = live(file(empty), *(hardlink(name, empty) for name in names))
    motd, exports = node_at(root, "etc/motd"), node_at(root, "etc/exports")
    assert motd is not exports
    assert node_at(root, "usr/share/empty") not in (motd, exports)
    assert node_at(root, "usr/share/empty") is node_at(root, "usr/share/too")


@pytest.mark.parametrize("more", [directory("etc/"), symlink("etc", "usr/etc"), file("etc", "")])
def test_an_etc_stays_as_it_is(more: bytes) -> None:
    assert "etc/passwd" not in paths(live(*ETC, more))


@pytest.mark.parametrize("more", [file("usr/etc", ""), symlink("usr/etc", "../state"), directory("usr/")])
def test_nothing_to_copy(more: bytes) -> None:
    assert not [path for path in paths(live(more)) if path.startswith("etc")]


CONTENT = (
    directory(f"{OBJECTS}/"),
    file(f"{OBJECTS}/aa/bash.file", "bash", mode=0o755),
    hardlink("usr/bin/bash", f"{OBJECTS}/aa/bash.file"),
    hardlink("usr/bin/sh", f"{OBJECTS}/aa/bash.file"),
    symlink(f"{OBJECTS}/aa/bin.file", "usr/bin"),
    hardlink("bin", f"{OBJECTS}/aa/bin.file"),
    file(f"{OBJECTS}/bb/tree.dirtree", "tree"),
)


def test_objects_with_real_names_are_forgotten() -> None:
    root = live(*CONTENT)
    found = paths(root)
    assert [path for path in found if path.startswith(OBJECTS)] == [f"{OBJECTS}/"]
    assert {"bin", "usr/bin/bash", "usr/bin/sh"} <= set(found)
    assert node_at(root, "usr/bin/bash") is node_at(root, "usr/bin/sh")


def test_a_repository_of_others_stays() -> None:
    """An image may carry one to install other machines from."""
    root = live(file(f"{OBJECTS}/aa/x.file", "x"), file("usr/bin/bash", "bash"))
    assert f"{OBJECTS}/aa/x.file" in paths(root)


@pytest.mark.parametrize("more", [symlink("sysroot", "elsewhere"), file("sysroot/ostree/repo", ""), layer()[:0]])
def test_no_repository(more: bytes) -> None:
    live(*([more] if more else []))


def variant(xattrs: dict[bytes, bytes]) -> bytes:
    """The attributes as a GVariant a(ayay)."""
    pairs = [framed(name + b"\0" + value, [len(name) + 1]) for name, value in xattrs.items()]
    return framed(b"".join(pairs), [sum(map(len, pairs[: number + 1])) for number in range(len(pairs))])


def framed(content: bytes, ends: list[int]) -> bytes:
    """A container, whose places take as few bytes as its whole size needs."""
    width = next(width for width in (1, 2, 4) if len(content) + width * len(ends) < 256**width)
    return content + b"".join(end.to_bytes(width, "little") for end in ends)


@pytest.mark.parametrize("around", [256, 65536])
def test_attributes_of_every_size(around: int) -> None:
    """Also where they take so many bytes, with all that is around them, that places take one more byte."""
    for size in range(around - 16, around + 3):
        for wanted in ({b"user.a": b"1" * size}, {b"user.a": b"", b"user.b": b"1" * (size - 8), b"user.c": b"2"}):
            assert read_xattrs(variant(wanted)) == wanted


XATTRS = {b"security.capability": bytes(20), b"security.selinux": b"x_t\0", b"user.mine": b"1", b"user.own": b"1"}


def test_attributes_come_out_of_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels do not: they are the policy's. Links have none."""
    data = variant(XATTRS)
    monkeypatch.setitem(CONTENTS, len(data), data)
    root = live(
        file(f"{OBJECTS}/aa/1.file", "ping", pax=[xattr("user.own", "its own")]),
        file(f"{OBJECTS}/bb/shared.file-xattrs", data),
        hardlink(f"{OBJECTS}/aa/1.file-xattrs-link", f"{OBJECTS}/bb/shared.file-xattrs"),
        symlink(f"{OBJECTS}/cc/2.file", "ping"),
        hardlink(f"{OBJECTS}/cc/2.file-xattrs-link", f"{OBJECTS}/bb/shared.file-xattrs"),
        file(f"{OBJECTS}/dd/3.file", "plain"),
        file(f"{OBJECTS}/dd/3.file-xattrs-link", ""),
        hardlink("usr/bin/ping", f"{OBJECTS}/aa/1.file"),
        hardlink("usr/bin/ping4", f"{OBJECTS}/cc/2.file"),
        hardlink("usr/bin/plain", f"{OBJECTS}/dd/3.file"),
    )
    assert node_at(root, "usr/bin/ping").xattrs == {
        b"security.capability": bytes(20),
        b"user.mine": b"1",
        b"user.own": b"its own",
    }
    assert not node_at(root, "usr/bin/ping4").xattrs
    assert not node_at(root, "usr/bin/plain").xattrs


BROKEN = {
    "cut": variant(XATTRS)[:-1],
    "no table": b"\xff" * 40,
    "table of nothing": b"a\0b\x02\x05",
    "a name without an end": b"ab\x02\x03",
    "an empty name": b"\0x\x01\x03"[1:],
    "out of order": b"a\0b\x02\x04\x02\x04",
    "half a place": b"user.a\0xy\x07".ljust(0xA01 - 2, b"x") + b"\0\x0a",
    "more than Linux lists": variant({b"user.%03d" % number: bytes(1000) for number in range(70)}),
    "a name with NUL": variant({b"user.a\0b": b""}),
    "a name that is too long": variant({b"user." + b"a" * 251: b""}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_attributes_that_cannot_be_read(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = BROKEN[case]
    monkeypatch.setitem(CONTENTS, len(data), data)
    with pytest.raises(RootfsError, match=r"cannot be read: '1\.file-xattrs-link' "):
        live(
            file(f"{OBJECTS}/aa/1.file", "ping"),
            file(f"{OBJECTS}/aa/1.file-xattrs-link", data),
            hardlink("usr/bin/ping", f"{OBJECTS}/aa/1.file"),
        )
