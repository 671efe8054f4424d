"""SELinux labels: every layout carries those that mkfs.erofs gives by the image's own policy."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.base.units import MIB
from tests.lib.booted import Booted, booted
from tests.lib.erofs_images import mounted
from tests.lib.program import Program
from tests.lib.small_image import BASE, UPPER, archive_of
from tests.lib.tar_writer import directory, file, hardlink, layer, node, symlink, xattr
from tests.lib.tree_list import tree_list
from tests.lib.zram import devices, own_size

FILES = "etc/selinux/small/contexts/files"
ON = b"# comment\nSELINUX=enforcing\n SELINUXTYPE = no\nSELINUXTYPE=small\n"


def context(kind: str) -> str:
    return f"system_u:object_r:{kind}_t:s0"


# file_contexts(5): expressions, kinds of files, what is to have none, and the later of two that match.
CONTEXTS = f"""
/.*			{context("default")}
/		-d	{context("root")}
/[^/]+		-l	{context("link")}
/etc(/.*)?		{context("etc")}
/etc/shad.w	--	{context("shadow")}
/usr(/.*)?		{context("usr")}
/usr/bin(/.*)?		{context("bin")}
/usr/bin/odd\\.name	--	{context("odd")}
/usr/bin/.*	-l	{context("bin_link")}
/var(/.*)?		{context("var")}
/var/lib/[^/]*	-c	{context("device")}
/var/lib/fifo	-p	{context("pipe")}
/var/lib/(suid|capable)	--	{context("able")}
/var/empty(/.*)?	<<none>>
/run(/.*)?		<<none>>
"""
POLICY = {
    "file_contexts": CONTEXTS,
    "file_contexts.subs": "/var/roothome /root\n/opt /usr\n",
    "file_contexts.subs_dist": "/usr/sbin /usr/bin\n/usr/lib64 /usr/lib\n",
    "file_contexts.homedirs": f"/root(/.*)?\t{context('home')}\n/root/\\.ssh(/.*)?\t{context('ssh_home')}\n",
    "file_contexts.local": f"/usr/new\t{context('local')}\n",
    # What is compiled is not for us; this one is no good at all.
    "file_contexts.bin": "\x8a\xff\x7c\xf9 damaged",
}
CONTENT = layer(
    directory("run/"),
    file("run/something", "x"),
    directory("var/roothome/"),
    file("var/roothome/.profile", "x"),
    directory("var/roothome/.ssh/"),
    file("var/roothome/.ssh/authorized_keys", "x"),
    symlink("root", "var/roothome"),
    directory("opt/bin/"),
    file("opt/bin/tool", "x", mode=0o755),
    directory("usr/sbin/"),
    file("usr/sbin/odd.name", "x"),
    file("usr/bin/odd.name", "x"),
    file("usr/bin/oddXname", "x"),
    symlink("usr/bin/sh", "odd.name"),
    node("var/lib/disk", "block", 8, 1),
    file("var/lib/new\nline", "x"),
    file("srv/\N{LATIN SMALL LETTER E WITH ACUTE}", "x"),
    # Of another policy; what is to have no label keeps none.
    file("usr/labelled", "x", pax=[xattr("security.selinux", context("wrong") + "\0"), xattr("user.mine", "kept")]),
    file("var/empty/labelled", "x", pax=[xattr("security.selinux", context("wrong") + "\0")]),
)


def policy_layer(config: bytes = ON) -> bytes:
    return layer(file("etc/selinux/config", config), *(file(f"{FILES}/{name}", text) for name, text in POLICY.items()))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive_of(tmp_path_factory.mktemp("labels") / "image.oci", BASE, UPPER, CONTENT, policy_layer())


def labels(root: Path) -> dict[str, str]:
    """The label of every path that has one."""
    found = {}
    for line in tree_list(root):
        for pair in line.xattrs.split(","):
            name, _, value = pair.partition("=0x")
            if name == "security.selinux":
                found[line.path] = bytes.fromhex(value).decode()
    return found


@contextmanager
def labelled(program: Program, kargs: str, where: Path) -> Iterator[Booted]:
    """A root; what systemd is asked to label then is for nobody but the test."""
    later = where / "later"
    with booted(program, kargs, where, "--relabel-to", later) as made:
        try:
            yield made
        finally:
            shutil.rmtree(later, ignore_errors=True)


@pytest.fixture(scope="module")
def wanted(program: Program, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What mkfs.erofs makes of the unpacked image."""
    where = tmp_path_factory.mktemp("oracle")
    tree, made = where / "tree", where / "image.erofs"
    program.run("unpack", archive, tree).good()
    for path in tree.rglob("labelled"):
        os.removexattr(path, "security.selinux")
    (tree / FILES / "file_contexts.bin").unlink()
    subprocess.run(["mkfs.erofs", "--quiet", f"--file-contexts={tree}/{FILES}/file_contexts", made, tree], check=True)
    with mounted(made, where / "root") as root:
        # It leaves out the NUL that setfiles writes; to the kernel both are the same.
        found = {path: f"{label}\0" for path, label in labels(root).items()}
    bin_path = f"{FILES}/file_contexts.bin"
    return {**found, bin_path: found[f"{FILES}/file_contexts"]}


def test_the_oracle_is_awake(wanted: dict[str, str]) -> None:
    kinds = {path: label.split(":")[2].removesuffix("_t") for path, label in wanted.items()}
    assert kinds["."] == "root"
    assert kinds["usr/sbin/odd.name"] == kinds["usr/bin/odd.name"] == "odd"
    assert kinds["usr/bin/oddXname"] == "bin"
    assert kinds["var/roothome/.ssh/authorized_keys"] == "ssh_home"
    assert kinds["usr/new"] == "local"
    assert kinds["var/lib/null"] == "device"
    assert kinds["etc/shadow"] == "shadow"
    assert not {"run", "run/something", "var/empty"} & kinds.keys()


RO = "bootc.live.etc.rw=0 bootc.live.var.rw=0"
LAYOUTS = {
    "index": "",
    "lz4": "bootc.live.layout=erofs bootc.live.compress=lz4",
    "tree": "bootc.live.layout=tree",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels(layout: str, program: Program, archive: Path, wanted: dict[str, str], tmp_path: Path) -> None:
    """Beside them, a file's other attributes stay as they were."""
    with labelled(program, f"root=bootc-live:{archive} {RO} {LAYOUTS[layout]}", tmp_path) as made:
        assert made.receipt["root"]["labelled"] is True
        assert labels(made.root) == wanted
        assert os.getxattr(made.root / "usr/labelled", "user.mine") == b"kept"
        assert os.getxattr(made.root / "var/lib/capable", "security.capability")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_policy_of_hard_links(layout: str, program: Program, wanted: dict[str, str], tmp_path: Path) -> None:
    """As ostree's images have it: all content is in a repository, and the files are names of it."""
    names = {"etc/selinux/config": ON.decode(), **{f"{FILES}/{name}": text for name, text in POLICY.items()}}
    objects = layer(*(file(f"sysroot/objects/{number}", text) for number, text in enumerate(names.values())))
    links = layer(*(hardlink(name, f"sysroot/objects/{number}") for number, name in enumerate(names)))
    image = archive_of(tmp_path / "image.oci", BASE, UPPER, CONTENT, objects, links)
    with labelled(program, f"root=bootc-live:{image} {RO} {LAYOUTS[layout]}", tmp_path) as made:
        got = labels(made.root)
    assert {path: label for path, label in got.items() if not path.startswith("sysroot")} == wanted
    assert got[f"sysroot/objects/{len(names) - 1}"] == context("default") + "\0"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_that_want_different_labels(layout: str, program: Program, tmp_path: Path) -> None:
    """They become names of different files with the same content; those that want the same one stay one file."""
    large = os.urandom(3 * MIB)
    links = layer(
        file("opt/a", large, mode=0o4755, pax=[xattr("user.mine", "kept")]),
        *(hardlink(name, "opt/a") for name in ("etc/a", "etc/b", "usr/a", "usr/b", "srv/a")),
        symlink("opt/link", "a"),
        hardlink("etc/link", "opt/link"),
    )
    image = archive_of(tmp_path / "image.oci", BASE, UPPER, policy_layer(), links)
    with labelled(program, f"root=bootc-live:{image} {RO} {LAYOUTS[layout]}", tmp_path) as made:
        got = labels(made.root)
        names = {"opt/a": "usr", "etc/a": "etc", "etc/b": "etc", "usr/a": "usr", "usr/b": "usr", "srv/a": "default"}
        assert {name: got[name] for name in names} == {name: f"{context(kind)}\0" for name, kind in names.items()}
        inodes = {name: (made.root / name).stat().st_ino for name in names}
        assert len(set(inodes.values())) == 3
        assert inodes["etc/a"] == inodes["etc/b"]
        assert inodes["opt/a"] == inodes["usr/a"] == inodes["usr/b"]
        for name in names:
            assert (made.root / name).read_bytes() == large
            assert os.getxattr(made.root / name, "user.mine") == b"kept"
            assert (made.root / name).stat().st_mode & 0o7777 == 0o4755
        assert os.readlink(made.root / "etc/link") == os.readlink(made.root / "opt/link") == "a"
        assert (got["etc/link"], got["opt/link"]) == (f"{context('etc')}\0", f"{context('usr')}\0")


COMPILED = {
    # setfiles takes what is compiled where the text is missing, and so do we.
    "whole": (True, ""),
    "damaged": (False, "the SELinux policy of"),
    "missing": (False, "its files get no labels"),
}


@pytest.mark.parametrize("case", COMPILED)
def test_a_policy_without_its_text(case: str, program: Program, tmp_path: Path) -> None:
    good, said = COMPILED[case]
    compiled = b"\x8a\xff\x7c\xf9"
    if good:
        (tmp_path / "file_contexts").write_text(CONTEXTS)
        subprocess.run(["sefcontext_compile", "file_contexts"], cwd=tmp_path, check=True)
        compiled = (tmp_path / "file_contexts.bin").read_bytes()
    members = [] if case == "missing" else [file(f"{FILES}/file_contexts.bin", compiled)]
    image = archive_of(tmp_path / "image.oci", BASE, CONTENT, layer(file("etc/selinux/config", ON), *members))
    if case == "damaged":
        assert said in boot_error(program, f"root=bootc-live:{image}", tmp_path)
        return
    with labelled(program, f"root=bootc-live:{image} {RO}", tmp_path) as made:
        assert made.receipt["root"]["labelled"] is good
        assert [warning for warning in made.receipt["warnings"] if said in warning] == made.receipt["warnings"]
        if good:
            assert labels(made.root)["etc/shadow"] == f"{context('shadow')}\0"


@pytest.mark.parametrize(
    "config",
    [b"SELINUX=Enforcing\nSELINUXTYPE=small\n", b"  SELINUX=permissive # on\nSELINUXTYPE=small \n", ON],
)
def test_how_a_policy_is_switched_on(config: bytes, program: Program, tmp_path: Path) -> None:
    """As libselinux reads it."""
    image = archive_of(tmp_path / "image.oci", BASE, policy_layer(config))
    with labelled(program, f"root=bootc-live:{image} {RO}", tmp_path) as made:
        assert labels(made.root)["."] == context("root") + "\0"


def test_places_to_mount_on_are_no_mounts(program: Program, tmp_path: Path) -> None:
    """Else systemd would leave what the initramfs has there behind."""
    names = ("run/nologin", "dev/something", "tmp/file", "usr/new")
    image = archive_of(tmp_path / "image.oci", BASE, UPPER, policy_layer(), layer(*map(file, names)))
    with labelled(program, f"root=bootc-live:{image} rw", tmp_path) as made:
        assert made.mounts.keys() == {"/", "/etc", "/usr", "/var", "/sbin"}


OFF = {
    "disabled": b"SELINUX=disabled\nSELINUXTYPE=small\n",
    "another type": b"SELINUX=enforcing\nSELINUXTYPE=other\n",
    "a type that leads astray": b"SELINUX=enforcing\nSELINUXTYPE=../../../etc/selinux/small\n",
    "commented out": b"#SELINUX=enforcing\nSELINUXTYPE=small\n",
    "no text": b"\xff\xfe\0",
}


@pytest.mark.parametrize("case", OFF)
def test_a_policy_that_is_off(case: str, program: Program, tmp_path: Path) -> None:
    image = archive_of(tmp_path / "image.oci", BASE, policy_layer(OFF[case]))
    with labelled(program, f"root=bootc-live:{image} {RO} bootc.live.erofs", tmp_path) as made:
        assert made.receipt["root"]["labelled"] is False
        assert labels(made.root) == {}
    told = boot_error(program, f"root=bootc-live:{image} bootc.live.selinux=1", tmp_path)
    assert "'bootc.live.selinux=1' asks for labels" in told


def boot_error(program: Program, cmdline: str, where: Path, *options: str | Path) -> str:
    """The error of a boot."""
    (where / "target").mkdir()
    return program.run("boot", "--cmdline", cmdline, "--sysroot", where / "target", *options).error()


def test_permissive_is_labelled(program: Program, tmp_path: Path) -> None:
    image = archive_of(tmp_path / "image.oci", BASE, policy_layer(ON.replace(b"enforcing", b"permissive")))
    with labelled(program, f"root=bootc-live:{image} {RO}", tmp_path) as made:
        assert labels(made.root)["."] == context("root") + "\0"


@pytest.mark.parametrize("layout", ["index", "lz4"])
def test_labels_switched_off(layout: str, program: Program, archive: Path, tmp_path: Path) -> None:
    """Then the layers' own attributes stay."""
    kargs = f"root=bootc-live:{archive} {RO} bootc.live.selinux=0 {LAYOUTS[layout]}"
    with labelled(program, kargs, tmp_path) as made:
        assert labels(made.root).keys() == {"usr/labelled", "var/empty/labelled"}


def test_the_verb_makes_the_same(program: Program, archive: Path, tmp_path: Path) -> None:
    made = tmp_path / "image.erofs"
    digest = program.run("erofs", "--compress", "lz4", archive, made).good().stdout.split()[0]
    with labelled(program, f"root=bootc-live:{archive} {LAYOUTS['lz4']}", tmp_path) as root:
        assert root.receipt["root"]["sha256"] == digest


def test_missing_library(program: Program, archive: Path, tmp_path: Path) -> None:
    found = subprocess.run(["ldconfig", "-p"], stdout=subprocess.PIPE, text=True, check=True).stdout
    (library,) = {line.split(" => ")[1] for line in found.splitlines() if line.split()[0] == "libselinux.so.1"}
    hide = ("unshare", "--mount", "sh", "-ec", f'mount --bind /dev/null {library}; exec "$@"', "sh")
    told = Program(program.zipapp, before=hide).run("erofs", archive, tmp_path / "file").error(archive)
    assert "needs SELinux labels, which need libselinux.so.1" in told
    assert "bootc.live.selinux=0" in told
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Row:
    """A command line, and what systemd is asked to label."""

    kargs: str
    paths: tuple[str, ...]


WRITABLE = "bootc.live.writable=zram bootc.live.etc.size=SIZE bootc.live.var.size=SIZE bootc.live.root.size=SIZE"
# No one else asks for this size of a zram device.
SIZE = own_size(96 * MIB, MIB // 4096)
ROWS = (
    Row("", ("/var",)),
    Row("bootc.live.var.rw=0", ()),
    Row(RO, ()),
    Row("rw", ("/", "/var")),
    Row(f"rw {RO}", ("/",)),
    Row(f"bootc.live.layout=tree {RO}", ("/",)),
    Row("bootc.live.layout=tree", ("/", "/etc", "/var")),
    Row("bootc.live.layout=tree rw bootc.zram=SIZE", ("/", "/var")),
    Row(f"bootc.live.layout=tree rw bootc.zram=SIZE {WRITABLE}", ()),
    Row(f"rw {WRITABLE}", ()),
    Row("bootc.live.selinux=0", ()),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kargs or "nothing")
def test_what_systemd_is_asked_for(row: Row, program: Program, archive: Path, tmp_path: Path) -> None:
    try:
        with labelled(program, f"root=bootc-live:{archive} {row.kargs.replace('SIZE', str(SIZE))}", tmp_path):
            written = tmp_path / "later/bootc-live.relabel"
            lines = written.read_text().splitlines() if written.exists() else []
            assert lines == list(row.paths)
    finally:
        for found in devices(SIZE.__eq__):
            found.remove()


LARGE = layer(file("etc/large", os.urandom(4 * MIB)), file("usr/lib/large", os.urandom(4 * MIB)), directory("mnt/"))


@pytest.mark.parametrize("kargs", ["", "rw", f"rw {RO}", "bootc.live.layout=tree rw"])
def test_labels_that_are_set_again_copy_no_file(kargs: str, program: Program, tmp_path: Path) -> None:
    """As systemd 252 sets them: on all files of the file system that a path is on. An overlay copies each for that."""
    image = archive_of(tmp_path / "image.oci", BASE, UPPER, LARGE, policy_layer())
    with labelled(program, f"root=bootc-live:{image} {kargs}", tmp_path) as made:
        places = [made.root, made.root / "etc", made.root / "usr"]
        asked = [made.root / line[1:] for line in (tmp_path / "later/bootc-live.relabel").read_text().splitlines()]
        before = [free(place) for place in places]
        for path in asked:
            again = 'setfattr --no-dereference --name=security.selinux --value="$label" "$1"'
            label = 'label=$(getfattr --no-dereference --only-values --name=security.selinux "$1") && '
            found: list[str | Path] = ["find", path, "-xdev", "-exec", "sh", "-c", label + again, "sh", "{}", ";"]
            subprocess.run(found, check=True, stderr=subprocess.DEVNULL)
        assert all(now > then - 2 * MIB for then, now in zip(before, map(free, places), strict=True))
        (made.root / "etc/new").write_text("x") if "rw=0" not in kargs else None
        if kargs.startswith("rw") or kargs.endswith("rw"):
            for name in ("new", "usr/new", "usr/lib/large", "mnt/new"):
                with (made.root / name).open("ab") as written:
                    written.write(b"x")


def free(path: Path) -> int:
    """Bytes that can still be written where a path is."""
    usage = os.statvfs(path)
    return usage.f_bfree * usage.f_frsize


def test_nothing_is_asked_for_without_labels(program: Program, small: Path, tmp_path: Path) -> None:
    with labelled(program, f"root=bootc-live:{small}", tmp_path):
        assert not (tmp_path / "later").exists()


def test_a_failed_landing_takes_the_request_back(program: Program, archive: Path, tmp_path: Path) -> None:
    later, receipt = tmp_path / "later", tmp_path / "file/receipt.json"
    receipt.parent.write_text("no directory\n")
    options: tuple[str | Path, ...] = ("--relabel-to", later, "--receipt", receipt)
    told = boot_error(program, f"root=bootc-live:{archive}", tmp_path, *options)
    assert "receipt" in told
    assert list(later.iterdir()) == []


def test_a_request_that_cannot_be_written(program: Program, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory\n")
    receipt = tmp_path / "receipt.json"
    options: tuple[str | Path, ...] = ("--relabel-to", tmp_path / "file/later", "--receipt", receipt)
    told = boot_error(program, f"root=bootc-live:{archive}", tmp_path, *options)
    assert "free space" not in told
    assert f"cannot write '{tmp_path}/file/later/bootc-live.relabel'" in told
    assert not receipt.exists()
