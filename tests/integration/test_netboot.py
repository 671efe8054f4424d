"""The netboot verb: what a boot server serves, the same bytes every time, whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bootc_live.rootfs.boot_files.initramfs import holds
from tests.lib.archive_members import tar_of
from tests.lib.archive_servers import Stored, archive_server
from tests.lib.boot_images import ALL, BASE, INITRAMFS, KERNEL, NETWORK, VERSION, boot_image, initramfs, kernel_layer
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.oci_writer import sha256, write_archive, write_layout
from tests.lib.program import NOBODY, Program
from tests.lib.registry import registry
from tests.lib.space import tmpfs

NAMES = {"SHA256SUMS", "boot.ipxe", "grub.cfg", "initrd.img", "pxelinux.cfg/default", "vmlinuz"}
URL = "http://boot.example/os"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("netboot") / "image.oci", boot_image())


def content(directory: Path) -> dict[str, bytes]:
    """Every file by its name; modes as a server wants them, and sums that are right."""
    found = {str(path.relative_to(directory)): path for path in directory.rglob("*") if not path.is_dir()}
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o644}
    made = [directory / "pxelinux.cfg"] + ([] if directory.is_mount() else [directory])
    assert {path.stat().st_mode & 0o777 for path in made} == {0o755}
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=directory, check=True)
    summed = {line.partition("  ")[2] for line in (directory / "SHA256SUMS").read_text().splitlines()}
    assert summed == found.keys() - {"SHA256SUMS"}
    return {name: path.read_bytes() for name, path in found.items()}


def digest_of(program: Program, source: str | Path) -> str:
    """The digest that the other verbs know an image by."""
    return str(json.loads(program.run("inspect", "--json", source).good().stdout)["manifest_digest"])


def test_archive_is_served_with_the_rest(program: Program, archive: Path, tmp_path: Path) -> None:
    options = ("--url", f"{URL}/", "--append", "console=ttyS0", "--append", "rw")
    ended = program.run("netboot", archive, "-o", tmp_path / "os", *options).good()
    made = content(tmp_path / "os")
    assert made.keys() == NAMES | {"rootfs.oci"}
    assert made["vmlinuz"] == KERNEL
    assert made["initrd.img"] == INITRAMFS
    assert made["rootfs.oci"] == archive.read_bytes()
    signature = archive.with_name(f"{archive.name}.sig")
    signature.write_text("a signature of the file")
    program.run("netboot", archive, "-o", tmp_path / "signed", *options).good()
    assert content(tmp_path / "signed") == {**content(tmp_path / "os"), "rootfs.oci.sig": signature.read_bytes()} | {
        "SHA256SUMS": (tmp_path / "signed/SHA256SUMS").read_bytes()
    }
    signature.unlink()
    digest = digest_of(program, archive)
    cmdline = f"root=bootc-live:{URL}/rootfs.oci console=ttyS0 rw bootc.live.digest={digest}"
    assert ended.stdout == f"{cmdline}\n"
    for name in ("boot.ipxe", "grub.cfg", "pxelinux.cfg/default"):
        assert cmdline in made[name].decode()
    assert f"kernel {URL}/vmlinuz initrd=initrd.img {cmdline}\n" in made["boot.ipxe"].decode()


def test_registry_is_pinned(program: Program, tmp_path: Path) -> None:
    """A tag that moves does not change what machines boot with a kernel that is theirs no more."""
    layout = write_layout(tmp_path / "layout", boot_image())
    with registry(tmp_path / "registry") as running:
        digest = running.put(layout, "os", "stable")
        program.run("netboot", running.source("os:stable"), "--unsecure", "-o", tmp_path / "os").good()
        source = running.source("os:stable")
    made = content(tmp_path / "os")
    assert made.keys() == NAMES
    assert made["boot.ipxe"].decode() == (
        f"#!ipxe\nkernel vmlinuz initrd=initrd.img root=bootc-live:{source}@{digest} bootc.registry.unsecure "
        f"bootc.live.digest={digest}\ninitrd initrd.img\nboot\n"
    )


def test_web_archive_stays_where_it_is(program: Program, archive: Path, tmp_path: Path) -> None:
    for ranges in (True, False):
        with archive_server(Stored(archive.read_bytes(), ranges=ranges)) as server:
            program.run("netboot", server.url(), "-o", tmp_path / str(ranges)).good()
            made = content(tmp_path / str(ranges))
            assert f" root=bootc-live:{server.url()} bootc.live.digest=sha256:" in made["boot.ipxe"].decode()
        assert made.keys() == NAMES
        assert made["vmlinuz"] == KERNEL


def test_same_bytes_every_time(program: Program, archive: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "other-name.oci"
    moved.parent.mkdir()
    moved.write_bytes(archive.read_bytes())
    os.utime(moved, (0, 0))
    careful = Program(program.zipapp, before=("sh", "-ec", 'umask 077; exec "$@"', "sh"))
    for options in (("--url", URL), ("--rootfs",)):
        first, second = tmp_path / f"1{options[0]}", tmp_path / f"2{options[0]}"
        program.run("netboot", archive, "-o", first, *options).good()
        careful.run("netboot", moved, "-o", second, *options, env={"TZ": "Asia/Kolkata"}).good()
        assert content(first) == content(second)


def test_rootfs_is_an_initrd_that_holds_the_image(program: Program, archive: Path, tmp_path: Path) -> None:
    """Verified again by whoever boots it: the layout says the same digest."""
    layout = write_layout(tmp_path / "layout", boot_image())
    for source in (archive, layout):
        target = tmp_path / f"of-{source.name}"
        program.run("netboot", source, "-o", target, "--rootfs").good()
        made = content(target)
        assert made.keys() == NAMES | {"rootfs.cpio"}
        root = target.with_suffix(".unpacked")
        root.mkdir()
        unpack = ["cpio", "--extract", "--quiet", "--no-absolute-filenames"]
        subprocess.run(unpack, cwd=root, input=made["rootfs.cpio"], check=True)
        digest = digest_of(program, archive)
        assert digest_of(program, root / "rootfs") == digest
        assert f"root=bootc-live:/rootfs bootc.live.digest={digest}" in made["boot.ipxe"].decode()
        assert "initrd=initrd.img initrd=rootfs.cpio" in made["boot.ipxe"].decode()
        program.run("unpack", root / "rootfs", target.with_suffix(".tree")).good()
        assert (target.with_suffix(".tree") / f"usr/lib/modules/{VERSION}/vmlinuz").read_bytes() == KERNEL


def test_arguments_of_the_image_come_first(program: Program, tmp_path: Path) -> None:
    """But for those about its source, and about a root on a disk."""
    kargs = (
        'kargs = ["quiet", "console=tty0", "root=bootc-live:/elsewhere", "rw", "rootflags=compress=zstd:1", '
        '"ostree=/ostree/boot.1/x/0"]\nmatch-architectures = ["x86_64", "aarch64"]\n'
    )
    archive = write_archive(tmp_path / "image.oci", boot_image(kernel_layer(kargs=kargs)))
    made = program.run("netboot", archive, "-o", tmp_path / "os", "--rootfs", "--append", "console=ttyS0").good()
    assert made.stdout.startswith("quiet console=tty0 root=bootc-live:/rootfs console=ttyS0 bootc.live.digest=")
    assert made.stderr.count("rw rootflags=compress=zstd:1 ostree=/ostree/boot.1/x/0") == 1
    assert made.stderr.count("warning:") == 2


def test_another_initrd(program: Program, tmp_path: Path) -> None:
    """For images that have none, or one that knows nothing of us."""
    bare = write_archive(tmp_path / "bare.oci", boot_image(kernel_layer(None)))
    initrd = tmp_path / "my initrd"
    initrd.write_bytes(initramfs("early", plain=True) + initramfs(*ALL))
    said = program.run("netboot", bare, "-o", tmp_path / "os", "--rootfs", "--initrd", initrd).good().stderr
    assert "warning" not in said
    assert content(tmp_path / "os")["initrd.img"] == initrd.read_bytes()
    initrd.write_bytes(initramfs(BASE, "usr/lib/modules/6.1.0/modules.dep"))
    said = program.run("netboot", bare, "-o", tmp_path / "other", "--rootfs", "--initrd", initrd).good().stderr
    assert f"warning: the initrd '{initrd}' has no modules for the image's kernel {VERSION}" in said


def test_more_initrds(program: Program, archive: Path, tmp_path: Path) -> None:
    """They come behind the first one, so that what is in them counts, and before the image."""
    sites = [tmp_path / "site.cpio", tmp_path / "keys.img"]
    for site in sites:
        site.write_bytes(initramfs(f"etc/bootc-live/{site.name}", plain=site.suffix == ".cpio"))
    options = [word for site in sites for word in ("--add-initrd", site)]
    said = program.run("netboot", archive, "-o", tmp_path / "os", "--rootfs", *options).good().stderr
    assert "warning" not in said
    made = content(tmp_path / "os")
    assert made.keys() == NAMES | {"rootfs.cpio", "site.cpio", "keys.img"}
    assert [made[site.name] for site in sites] == [site.read_bytes() for site in sites]
    assert "\ninitrd initrd.img\ninitrd site.cpio\ninitrd keys.img\ninitrd rootfs.cpio\n" in made["boot.ipxe"].decode()
    assert "INITRD initrd.img,site.cpio,keys.img,rootfs.cpio\n" in made["pxelinux.cfg/default"].decode()


@pytest.mark.parametrize("behind", ["--add-initrd", "--rootfs"])
def test_initrds_behind_one_of_lz4(behind: str, program: Program, archive: Path, tmp_path: Path) -> None:
    """Boot loaders put them one after the other; the kernel finds the end of lz4 by a word of zeros alone."""
    lz4 = ["lz4", "-q", "-l", "-c"]
    packed = subprocess.run(lz4, input=initramfs(*ALL, plain=True), stdout=subprocess.PIPE, check=True).stdout
    first, site = tmp_path / "first.img", tmp_path / "site.cpio"
    # As it comes, and where the program's own length is a multiple of four.
    for number in range(4):
        first.write_bytes(initramfs("early", plain=True) + bytes(number * 4) + packed)
        site.write_bytes(initramfs("etc/site", plain=True))
        more = [behind, site, "--rootfs"] if behind == "--add-initrd" else [behind]
        target = tmp_path / str(number)
        program.run("netboot", archive, "-o", target, "--initrd", first, *more).good()
        loaded = b""
        for line in (target / "boot.ipxe").read_text().splitlines():
            if line.startswith("initrd "):
                loaded += bytes(-len(loaded) % 4) + (target / line.removeprefix("initrd ")).read_bytes()
        for name in (BASE, "rootfs/index.json", *(["etc/site"] if behind == "--add-initrd" else [])):
            assert holds(iter([loaded]), name) is True
        content(target)


def test_own_root_is_pinned_too(program: Program, archive: Path, tmp_path: Path) -> None:
    own = "root=bootc-live:docker://registry.example/os:stable bootc.registry.unsecure"
    made = program.run("netboot", archive, "-o", tmp_path / "os", "--append", own).good().stdout.split()
    digest = digest_of(program, archive)
    assert made[0] == f"root=bootc-live:docker://registry.example/os:stable@{digest}"
    assert content(tmp_path / "os").keys() == NAMES


def test_kernel_for_any_image(program: Program, archive: Path, tmp_path: Path) -> None:
    """Chain-loading: the image that is booted in the end is another one, with a kernel of its own."""
    append = "bootc.kexec root=bootc-live:docker://registry.example/any:stable"
    made = program.run("netboot", archive, "-o", tmp_path / "os", "--append", append).good().stdout
    assert made == f"{append}\n"


def test_without_root(program: Program, nobody: Program, archive: Path, tmp_path: Path) -> None:
    """And without anything that root has set up: a user, a directory, Python."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65534)
    for parent in [tmp_path, *tmp_path.parents[:2]]:
        parent.chmod(0o755)
    mine = home / "image.oci"
    mine.write_bytes(archive.read_bytes())
    assert subprocess.run([*NOBODY, "id", "-u"], stdout=subprocess.PIPE, check=True).stdout == b"65534\n"
    layout = write_layout(tmp_path / "layout", boot_image())
    with registry(tmp_path / "registry") as running:
        running.put(layout, "os", "stable")
        nobody.run("netboot", running.source("os:stable"), "--unsecure", "-o", home / "a").good()
    nobody.run("netboot", mine, "--rootfs", "-o", home / "b").good()
    nobody.run("netboot", mine, "--url", URL, "-o", home / "c").good()
    program.run("netboot", mine, "--url", URL, "-o", tmp_path / "c").good()
    assert content(home / "c") == content(tmp_path / "c")
    assert (home / "a/vmlinuz").stat().st_uid == 65534


def test_json(program: Program, archive: Path, tmp_path: Path) -> None:
    told = json.loads(program.run("netboot", archive, "--rootfs", "-o", tmp_path / "os", "--json").good().stdout)
    made = content(tmp_path / "os")
    assert told["kernel"] == VERSION
    assert told["digest"] == digest_of(program, archive)
    assert told["files"] == {
        name: {"sha256": sha256(data).removeprefix("sha256:"), "size": len(data)}
        for name, data in made.items()
        if name != "SHA256SUMS"
    }


def test_secrets_are_not_told(program: Program, archive: Path, tmp_path: Path) -> None:
    """They stand in the files, for machines have to fetch the image; a warning says so."""
    with archive_server(Stored(archive.read_bytes())) as server:
        url = f"{server.url()}?token=hush"
        ended = program.run("netboot", url, "-o", tmp_path / "os").good()
    assert "hush" in content(tmp_path / "os")["boot.ipxe"].decode()
    assert "hush" not in ended.stdout + ended.stderr
    assert "warning: the kernel command line contains a login or a query" in ended.stderr


@dataclass(frozen=True)
class Failure:
    """What is asked of the verb, and what its error says; `{a}` is the archive, `{t}` the test's directory."""

    name: str
    arguments: tuple[str, ...]
    told: tuple[str, ...] = ()
    options: tuple[str, ...] = field(default=("-o", "{t}/os"))


FAILURES = (
    Failure("nobody knows where it is", ("{a}",), ("'{a}' is a file of this machine", "--rootfs", "--url", "--append")),
    Failure("two roots", ("{a}", "--rootfs", "--append", "root=bootc-live:/x"), ("--rootfs and '--append root=",)),
    Failure("another root", ("{a}", "--append", "root=UUID=1"), ("'--append root=UUID=1'",)),
    Failure("layout over HTTP", ("{t}/layout", "--url", URL), ("'{t}/layout' is a directory", "--rootfs")),
    Failure("bad URL", ("{a}", "--url", "boot.example/os"), ("'--url boot.example/os'",)),
    Failure("bad argument", ("{a}", "--rootfs", "--append", "bootc.live.typo"), ("'bootc.live.typo'",)),
    Failure("argument for no loader", ("{a}", "--rootfs", "--append", "a='b'"), ("\"a='b'\"", "GRUB")),
    Failure("no source", ("{t}/nothing.oci", "--rootfs"), ("'{t}/nothing.oci'",)),
    Failure("no kernel", ("{t}/none.oci", "--rootfs"), ("'{t}/none.oci' has no kernel",)),
    Failure("no initramfs", ("{t}/bare.oci", "--rootfs"), ("'{t}/bare.oci'", "no initramfs", "--initrd")),
    Failure("foreign initramfs", ("{t}/foreign.oci", "--rootfs"), ("does not contain bootc-live", "--initrd")),
    Failure("initramfs without network", ("{t}/local.oci", "--url", URL), ("lacks the dracut module bootc-live-net",)),
    Failure(
        "initramfs without network for NFS",
        ("{t}/local.oci", "--append", "root=bootc-live:nfs:192.0.2.1:/os.oci"),
        ("lacks the dracut module bootc-live-net, which 'nfs:192.0.2.1:/os.oci' needs",),
    ),
    Failure(
        "initramfs without registries",
        ("{t}/webbed.oci", "--append", "root=bootc-live:docker://registry.example/os"),
        ("lacks the dracut module bootc-live-registry, which 'docker://registry.example/os' needs", "--initrd"),
    ),
    Failure("no such initrd", ("{a}", "--rootfs", "--initrd", "{t}/no"), ("'--initrd {t}/no'", "No such file")),
    Failure("initrd is a directory", ("{a}", "--rootfs", "--initrd", "{t}"), ("'--initrd {t}'", "Is a directory")),
    Failure("initrd is a device", ("{a}", "--rootfs", "--initrd", "/dev/null"), ("/dev/null' is not a regular file",)),
    Failure("foreign initrd", ("{a}", "--rootfs", "--initrd", "{t}/initrd"), ("'{t}/initrd'", "dracut modules")),
    Failure("no such addition", ("{a}", "--rootfs", "--add-initrd", "{t}/no.cpio"), ("'--add-initrd {t}/no.cpio'",)),
    Failure("name of another", ("{a}", "--rootfs", "--add-initrd", "{t}/initrd.img"), ("the name 'initrd.img'",)),
    Failure("name for no loader", ("{a}", "--rootfs", "--add-initrd", "{t}/a b.cpio"), ("the name 'a b.cpio'",)),
    Failure("docker-archive inside", ("{t}/docker.tar", "--rootfs"), ("'{t}/docker.tar' cannot be included",)),
    Failure("stream inside", ("{t}/image.oci.gz", "--rootfs"), ("cannot be included", "skopeo copy")),
    Failure("exists", ("{a}", "--rootfs"), ("'{t}/full' exists",), ("-o", "{t}/full")),
    Failure("is a file", ("{a}", "--rootfs"), ("'{t}/initrd' exists",), ("-o", "{t}/initrd")),
    Failure("no parent", ("{a}", "--rootfs"), ("'{t}/no/os'", "No such file"), ("-o", "{t}/no/os")),
    Failure("read-only", ("{a}", "--rootfs"), ("'{t}/ro/os'", "Read-only"), ("-o", "{t}/ro/os")),
)


@pytest.fixture(scope="module")
def host_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with what the failures need."""
    directory = tmp_path_factory.mktemp("surroundings")
    write_layout(directory / "layout", boot_image())
    images = {
        "none": boot_image(kernel_layer(version="")),
        "bare": boot_image(kernel_layer(None)),
        "foreign": boot_image(kernel_layer(initramfs("usr/bin/bash"))),
        "webbed": boot_image(kernel_layer(initramfs(BASE, NETWORK, features=("net",)))),
        "local": boot_image(kernel_layer(initramfs(BASE))),
    }
    for name, image in images.items():
        write_archive(directory / f"{name}.oci", image)
    (directory / "initrd").write_bytes(initramfs("usr/bin/bash"))
    (directory / "docker.tar").write_bytes(tar_of(docker_members("save", Saved([kernel_layer()]))))
    (directory / "image.oci.gz").write_bytes(
        gzip.compress(write_archive(directory / "image.oci", boot_image()).read_bytes(), 1)
    )
    (directory / "full").mkdir()
    (directory / "full" / "mine").write_text("mine\n")
    with tmpfs(directory / "ro", "size=1M,ro"):
        yield directory


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.name)
def test_errors_leave_nothing(row: Failure, program: Program, archive: Path, host_config: Path) -> None:
    before = sorted(os.walk(host_config))
    words = [word.format(a=archive, t=host_config) for word in (*row.arguments, *row.options)]
    told = program.run("netboot", *words).error()
    assert sorted(os.walk(host_config)) == before
    for text in row.told:
        assert text.format(a=archive, t=host_config) in told


def test_an_empty_directory_is_filled(program: Program, archive: Path, tmp_path: Path) -> None:
    """It may be a mount point; where it has no room, it is empty again."""
    with tmpfs(tmp_path / "os", "size=100M") as target:
        inode = target.stat().st_ino
        program.run("netboot", archive, "--rootfs", "-o", target).good()
        assert target.stat().st_ino == inode
        assert content(target).keys() == NAMES | {"rootfs.cpio"}
    with tmpfs(tmp_path / "small", "size=1M") as target:
        told = program.run("netboot", archive, "--rootfs", "-o", target).error()
        assert "free space" in told
        assert list(target.iterdir()) == []
