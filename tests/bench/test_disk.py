"""Images on a disk: against programs that people have, and what upgrades cost beside a first installation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.bench import Figures, best_of
from tests.lib.bench_root import run
from tests.lib.disk_machine import taken_for_booted
from tests.lib.program import Program
from tests.lib.registry import Registry

MIB: Final = 2**20
ROUNDS: Final = 3
ROOT, BOOT = "4G", "200M"


@dataclass(frozen=True)
class Disk:
    """Two new file systems that are mounted, for a root and for what boots it."""

    root: Path
    boot: Path

    def used(self) -> int:
        """The bytes that the file system for the root uses."""
        usage = os.statvfs(self.root)
        return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


@contextmanager
def disk(where: Path) -> Iterator[Disk]:
    """Makes and mounts file systems in RAM; they and their files are gone after the block."""
    made = Disk(where / "root", where / "boot")
    try:
        for place, size in ((made.root, ROOT), (made.boot, BOOT)):
            place.mkdir(parents=True)
            image = where / f"{place.name}.img"
            run("truncate", "-s", size, image)
            run("mkfs.ext4", "-q", "-b", "4096", "-O", "verity", image)
            run("mount", "-o", "loop", image, place)
        yield made
    finally:
        for place in (made.root, made.boot):
            subprocess.run(["umount", "--quiet", place], check=False)
        shutil.rmtree(where)


@contextmanager
def running(made: Disk, where: Path) -> Iterator[None]:
    """Lets the kernel command line be that of the newest deployment, as if it had been booted."""
    newest = max((made.boot / "loader/entries").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    lines = dict(line.split(" ", 1) for line in newest.read_text().splitlines())
    with taken_for_booted(int(newest.stem.split("-")[3].partition("+")[0]), lines["options"], where):
        yield


@dataclass(frozen=True)
class Images:
    """Four images in a registry that have all but their last layer in common, and the bytes of that layer."""

    served: Registry
    last: int

    def source(self, number: int) -> str:
        """How one of them is named as a source."""
        return self.served.source(f"os/disk:{number}")


@pytest.fixture(scope="module")
def program(zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program as an image has it, after `bootc-live freeze`; an initramfs installs nothing."""
    copy = tmp_path_factory.mktemp("program") / zipapp.name
    shutil.copy2(zipapp, copy)
    Program(copy).run("freeze").good()
    return Program(copy)


@pytest.fixture(scope="module")
def images(server: Registry, program: Program, repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The server's image with a kernel, and a twelfth of it new in each of the images."""
    where = tmp_path_factory.mktemp("images")
    modules = where / "kernel/usr/lib/modules/1.0"
    modules.mkdir(parents=True)
    shutil.copy(repo / "vm/out/vmlinuz", modules / "vmlinuz")
    shutil.copy(repo / "vm/out/initrd.img", modules / "initramfs.img")
    size = 70 * MIB
    for number in range(4):
        new = where / f"new-{number}/usr/share"
        new.mkdir(parents=True)
        with (new / "new").open("wb") as file:
            file.write(os.urandom(size))
        archive = where / "image.oci"
        parts: list[str | Path] = [server.source("os/server:1"), where / "kernel", where / f"new-{number}"]
        program.run("build", *parts, "--unsecure", "--output", archive).good()
        server.push(f"oci-archive:{archive}:latest", f"os/disk:{number}")
        archive.unlink()
    return Images(server, size)


def install(program: Program, source: str, made: Disk) -> None:
    program.run("install", "to-filesystem", made.root, "--boot", made.boot, "--source", source, "--unsecure").good()


def test_install_against_unpacking_and_copying(images: Images, program: Program, data: Path, figures: Figures) -> None:
    source = images.source(0)

    def ours() -> None:
        with disk(data / "ours") as made:
            install(program, source, made)

    def peer() -> None:
        layout, bundle = data / "layout", data / "bundle"
        with disk(data / "peer") as made:
            run("skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", source, f"oci:{layout}:x")
            run("umoci", "unpack", "--image", f"{layout}:x", bundle)
            run("cp", "-a", bundle / "rootfs/.", made.root)
            run("umount", made.root)
        shutil.rmtree(layout)
        shutil.rmtree(bundle)

    data.mkdir()
    mine, theirs = best_of(ours, peer, rounds=ROUNDS)
    figures.add(f"install: {mine:.1f} s; mkfs, skopeo, umoci and cp: {theirs:.1f} s")
    figures.bar("install: time in parts of mkfs, skopeo, umoci and cp", mine / theirs, 0.6, least=False)


def test_upgrades(images: Images, program: Program, data: Path, figures: Figures) -> None:
    """Each changes one layer of the running system, a twelfth of the image; three deployments are there in the end."""
    data.mkdir()
    with disk(data / "disk") as made:
        empty = made.used()
        (first,) = best_of(lambda: install(program, images.source(0), made), rounds=1)
        one = made.used() - empty
        times, fetched = [], []
        for number in (1, 2):
            found: list[str] = []

            def switch(number: int = number, found: list[str] = found) -> None:
                found.append(program.run("switch", images.source(number), "--unsecure", "--json").good().stdout)

            with running(made, data):
                times += best_of(switch, rounds=1)
            fetched.append(json.loads(found[0])["fetched"])
        three = made.used() - empty
    figures.add(f"first deployment {first:.1f} s, upgrades {', '.join(f'{spent:.1f} s' for spent in times)}")
    figures.bar(
        "upgrade: MiB beyond its new layer that are fetched", (max(fetched) - images.last) / MIB, 1, least=False
    )
    figures.bar("three deployments that share nine tenths: space in parts of one", three / one, 1.4, least=False)
    figures.bar(
        "upgrade: time in parts of the first deployment",
        min(times) / first,
        0.3,
        least=False,
    )
