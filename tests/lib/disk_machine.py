"""A machine on a disk: tiny images, two mounted file systems, and whether what would boot is whole.

A boot partition is ext4 here: not every kernel has VFAT.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bootc_live.rootfs.layouts.composefs.check import referred_objects, wrong_objects
from tests.lib.boot_images import kernel_layer
from tests.lib.disks import loop, mounted, run
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import BASE, HERE
from tests.lib.tar_writer import directory, file, layer

SIZE: Final = 24 * 2**20
LOADER: Final = b"a boot loader " * 300
_ENTRY: Final = re.compile(r"bootc-live-(\d+)-(\d+)(?:\+(\d+)(?:-(\d+))?)?")
_ROOT: Final = re.compile(r"root=bootc-live:deployment:(UUID=[^: ]+):(\d+)@([0-9a-f]{64})")
# What every image has, and what is too large to be inlined.
SHARED: Final = b"in all images " * 3000
# Without it, no boot loader counts.
JUDGE: Final = "usr/lib/systemd/system/bootc-live-health.service"


def disk_image(number: int, *more: bytes, shared: bytes = SHARED, judge: str = JUDGE) -> Image:
    """An image that can boot from a disk; the kernel, a file of /etc and one of /usr are those of its number.

    `judge` is the unit that would call it good, if any.
    """
    units = [directory("usr/lib/systemd/system/"), file(judge, "[Service]\n")] if judge else []
    loader = "usr/lib/systemd/boot/efi/"
    parents = [directory("/".join(loader.split("/")[:depth]) + "/") for depth in range(1, 6)]
    tars = (
        BASE,
        layer(*parents, file(f"{loader}systemd-bootx64.efi", LOADER), file("usr/shared", shared), *units),
        kernel_layer(kernel=kernel(number)),
        layer(file("usr/number", b"%d\n" % number * 300), file("etc/number", f"{number}\n")),
        *more,
    )
    return Image([Layer(tar) for tar in tars], architecture=HERE)


def kernel(number: int) -> bytes:
    """The kernel of an image."""
    return b"kernel %d " % number * 3000


@dataclass(frozen=True)
class Next:
    """What boots next: the number of its image, and its deployment."""

    image: int
    deployment: int


@dataclass(frozen=True)
class Machine:
    """Two mounted file systems in files, and an archive that images come from."""

    disk: Path
    boot: Path
    files: tuple[Path, Path]
    source: Path

    @property
    def options(self) -> tuple[str | Path, ...]:
        """The options that name it."""
        return "--disk", self.disk, "--boot", self.boot

    @property
    def install(self) -> tuple[str | Path, ...]:
        """The command that installs it."""
        return "install", "to-filesystem", self.disk, "--boot", self.boot, "--source", self.source

    @property
    def store(self) -> Path:
        """Where all that is ours is."""
        return self.disk / "bootc-live"

    @property
    def deployments(self) -> Path:
        """The directory with the deployments."""
        return self.store / "deployments"

    @property
    def settings(self) -> dict[str, Any]:
        """What the installation has decided."""
        found: dict[str, Any] = json.loads((self.store / "machine.json").read_text())
        return found

    @property
    def entries(self) -> list[str]:
        """The names of the boot entries, sorted."""
        return sorted(path.stem for path in (self.boot / "loader/entries").glob("*.conf"))

    def offer(self, image: Image) -> None:
        """Let the source have an image."""
        new = self.source.with_suffix(".new")
        write_archive(new, image).rename(self.source)

    def rename_entry(self, old: str, new: str) -> None:
        """Do what a boot loader does: take a try from an entry."""
        entries = self.boot / "loader/entries"
        (entries / f"{old}.conf").rename(entries / f"{new}.conf")

    def clear(self) -> None:
        """Remove everything."""
        for top in (self.disk, self.boot):
            for path in top.iterdir():
                if path.name != "lost+found":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def machine(directory: Path, size: int = SIZE, options: str = "rw") -> Iterator[Machine]:
    """Empty file systems for a machine; `options` are those of the root's mount."""
    images = directory / "disk.img", directory / "boot.img"
    for image, one in zip(images, (size, SIZE), strict=True):
        with image.open("wb") as made:
            made.truncate(one)
        run("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-O", "^resize_inode", image)
    with (
        loop(images[0]) as disk,
        loop(images[1]) as boot,
        mounted(disk, directory / "disk", options) as disk_at,
        mounted(boot, directory / "boot") as boot_at,
    ):
        yield Machine(disk_at, boot_at, images, directory / "source.oci")


def boots_next(disk: Path, boot: Path) -> Next | None:
    """What would boot next, if all of it is whole: its entry, kernel, initrd, record, /etc and objects.

    None if nothing boots. Read by other code than the program's, but for the list of objects in an image.
    """
    found = []
    for path in (boot / "loader/entries").glob("*.conf"):
        name = _ENTRY.fullmatch(path.stem)
        # systemd-boot leaves out what is empty.
        if name is not None and path.stat().st_size:
            found.append((name[3] is None or int(name[3]) > 0, int(name[1]), int(name[2]), path))
    if not found:
        return None
    _, _, number, path = max(found)
    lines = dict(line.split(" ", 1) for line in path.read_text().splitlines())
    files = {key: (boot / lines[key][1:]).read_bytes() for key in ("linux", "initrd")}
    digests = {key: hashlib.sha256(content).hexdigest() for key, content in files.items()}
    both = f"{digests['linux']}  vmlinuz\n{digests['initrd']}  initrd\n"
    assert lines["linux"] == f"/bootc-live/{hashlib.sha256(both.encode()).hexdigest()}/vmlinuz"
    root = _ROOT.search(lines["options"])
    assert root is not None, lines["options"]
    assert int(root[2]) == number
    return Next(_whole(disk, number, root[3], files["linux"]), number)


def _whole(disk: Path, number: int, digest: str, started: bytes) -> int:
    """Checks a deployment, and returns the number of its image."""
    store = disk / "bootc-live"
    deployment = store / f"deployments/{number}"
    record = json.loads((deployment / "deployment.json").read_text())
    assert (record["number"], record["root"]) == (number, digest)
    assert list(wrong_objects(str(store), digest)) == []
    image = int((deployment / "etc/number").read_text())
    assert started == kernel(image)
    assert (deployment / "etc/ssl/old").read_text() == "from the image\n"
    assert (disk / "var/lib/one").read_text() == "two names\n"
    return image


def leftovers(disk: Path, boot: Path) -> list[str]:
    """What nothing needs: unfinished files, deployments without an entry, objects and kernels that nothing names."""
    store = disk / "bootc-live"
    found = [str(path) for top in (store, boot) for path in top.rglob("*") if _unfinished(path)]
    entries = [path for path in (boot / "loader/entries").iterdir() if path.suffix == ".conf"]
    numbers = {parsed[2] for path in entries if (parsed := _ENTRY.fullmatch(path.stem))}
    there = [path.name for path in (store / "deployments").iterdir() if path.name.isdigit()]
    found += [f"deployment {name}" for name in there if name not in numbers]
    records = [json.loads(path.read_text()) for path in store.glob("deployments/*/deployment.json")]
    roots = {record["root"] for record in records}
    found += [str(path) for path in (store / "images").iterdir() if path.stem not in roots]
    objects = set[str]().union(*(referred_objects(str(store), root) for root in roots))
    found += [str(path) for path in store.glob("objects/*/*") if path.parent.name + path.name not in objects]
    used = "".join(path.read_text() for path in entries)
    return found + [str(path) for path in (boot / "bootc-live").iterdir() if path.name not in used]


def _unfinished(path: Path) -> bool:
    if path.name.startswith(".gone-"):
        # The name of the last one keeps its number from being used again.
        return path != max(path.parent.glob(".gone-*")) or any(path.iterdir())
    return "/etc/" not in str(path) and (
        path.name.endswith((".new", ".part")) or path.name.startswith(("new.", ".new"))
    )


@contextmanager
def booted(number: int, of: Machine, directory: Path) -> Iterator[None]:
    """Let this mount namespace's kernel command line be that of a deployment: the program takes it for booted."""
    record = json.loads((of.deployments / str(number) / "deployment.json").read_text())
    (of.deployments / str(number) / "started").touch()
    line = f"quiet root=bootc-live:deployment:{of.settings['root']}:{number}@{record['root']} once=1"
    with taken_for_booted(number, line, directory):
        yield


@contextmanager
def taken_for_booted(number: int, cmdline: str, directory: Path) -> Iterator[None]:
    """Let this mount namespace have a kernel command line, and below its own /etc one that looks like a deployment's.

    That of the deployment itself could not be removed.
    """
    line, own = directory / "cmdline", directory / "own-etc"
    etc = directory / f"running/bootc-live/deployments/{number}/etc"
    line.write_text(f"{cmdline}\n")
    for made in (own, etc):
        made.mkdir(parents=True)
    mounts = ((line, "/proc/cmdline"), ("/etc", own), (etc, "/etc"), (own, "/etc"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory / "running")
        stack.callback(own.rmdir)
        stack.callback(line.unlink)
        for source, place in mounts:
            run("mount", "--bind", source, place)
            stack.callback(run, "umount", place)
        yield
