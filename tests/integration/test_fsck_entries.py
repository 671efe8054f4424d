"""Boot entries that only some boot loaders have, and kernels that no image has: repaired, or left as they are."""

from __future__ import annotations

import json
from typing import Final

import pytest

from tests.lib.boot_images import INITRAMFS
from tests.lib.disk_fixtures import empty as one
from tests.lib.disk_machine import Machine, Next, boots_next, disk_image, leftovers
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive

__all__ = ["one"]

LEFT: Final = 4
OLD_ENTRY: Final = "loader/entries/bootc-live-1-1.conf"
SCRIPT: Final = "bootc-live/entries/1-1.cfg"


def other_root(one: Machine) -> None:
    """Let the script of a deployment start something else."""
    root = json.loads((one.deployments / "1/deployment.json").read_text())["root"]
    script = one.boot / SCRIPT
    assert root in script.read_text()
    script.write_text(script.read_text().replace(root, "0" * 64))


OF_GRUB: Final = (
    ("the entry is empty", lambda one: (one.boot / OLD_ENTRY).write_text("")),
    ("the entry is missing", lambda one: (one.boot / OLD_ENTRY).unlink()),
    ("the script is empty", lambda one: (one.boot / SCRIPT).write_text("")),
    ("the script is missing", lambda one: (one.boot / SCRIPT).unlink()),
    ("the script starts another root", other_root),
    ("both are missing", lambda one: [(one.boot / path).unlink() for path in (OLD_ENTRY, SCRIPT)]),
)


def test_entries_of_grub(one: Machine, program: ForkedProgram) -> None:
    """What the environment block names is written again."""
    one.offer(disk_image(1))
    program.run(*one.install, "--bootloader", "grub").good()
    other = write_archive(one.source.with_name("grub.oci"), disk_image(2))
    program.run("switch", other, *one.options).good()
    before = {path: (one.boot / path).read_text() for path in (OLD_ENTRY, SCRIPT)}
    (block,) = one.boot.rglob("grubenv")
    for name, damage in OF_GRUB:
        damage(one)
        found = program.run("fsck", *one.options)
        assert found.stdout.count("boot partition: bootc-live-1-1: it is damaged (deployment 1)") == 1, name
        assert program.run("status", *one.options).good().stdout.count("damaged boot entry") == 1, name
        done = program.run("fsck", "--repair", *one.options)
        assert (done.status, done.stdout.count("\n")) == (0, 1), name + done.stdout + done.stderr
        assert {path: (one.boot / path).read_text() for path in before} == before, name
    program.run("health", *one.options).good()
    content = block.read_bytes()
    for damaged in (b"", b"rubbish" * 200, content.replace(b"2-2", b"2-x")):
        block.write_bytes(damaged)
        assert "/grubenv: it is damaged; bootc-live fsck --repair writes" in program.run("fsck", *one.options).stdout
        done = program.run("fsck", "--repair", *one.options)
        assert (done.status, done.stdout.count("\n")) == (0, 1), done.stdout + done.stderr
        assert block.read_bytes() == content


@pytest.mark.parametrize("started", [True, False])
def test_emptied_entry_of_the_newest(started: bool, one: Machine, program: ForkedProgram) -> None:
    """A deployment that ran is kept until it is repaired, and does not come first then; another was interrupted."""
    one.offer(disk_image(1))
    program.run(*one.install).good()
    archives = [write_archive(one.source.with_name(f"{number}.oci"), disk_image(number)) for number in (2, 3)]
    program.run("switch", archives[0], *one.options).good()
    program.run("health", *one.options).good()
    entry = one.boot / OLD_ENTRY.replace("1-1", "2-2")
    if started:
        (one.deployments / "2/started").touch()
    entry.write_text("")
    program.run("switch", archives[1], *one.options).good()
    assert ((one.deployments / "2").exists(), entry.exists()) == (started, started)
    assert boots_next(one.disk, one.boot) == Next(3, 3)
    assert program.run("fsck", "--repair", *one.options).status == 0
    assert boots_next(one.disk, one.boot) == Next(3, 3)
    program.run("prune", "--keep", "9", *one.options).good()
    assert leftovers(one.disk, one.boot) == []
    if started:
        program.run("rollback", "--to", "2", *one.options).good()
        assert boots_next(one.disk, one.boot) == Next(2, 2)


def test_initramfs_of_the_installation(one: Machine, program: ForkedProgram) -> None:
    """The image has another one, so the boot partition has the only copy: it stays."""
    one.offer(disk_image(1))
    given = one.source.with_name("initrd")
    given.write_bytes(INITRAMFS + b"\0" * 512)
    program.run(*one.install, "--initrd", given).good()
    (kernel,) = one.boot.glob("bootc-live/*/vmlinuz")
    for path in (one.boot / OLD_ENTRY, kernel):
        before = path.read_bytes()
        path.write_bytes(b"other")
        done = program.run("fsck", "--repair", *one.options)
        assert (done.status, "its kernel and initramfs are not those of its image" in done.stderr) == (LEFT, True)
        assert kernel.with_name("initrd").read_bytes() == given.read_bytes()
        path.write_bytes(before)
    assert program.run("fsck", *one.options).status == 0
