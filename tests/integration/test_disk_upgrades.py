"""Upgrades of a machine on a disk: what they take, what they pass over and what they keep; without booting anything."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.archive_members import write_members
from tests.lib.booted import booted as boot
from tests.lib.disk_fixtures import installed, numbers, run, upgrade
from tests.lib.disk_machine import Machine, Next, booted, boots_next, disk_image, leftovers, machine
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.forked_program import ForkedProgram
from tests.lib.tar_writer import file, layer


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Machine]:
    """Empty file systems."""
    with machine(tmp_path) as made:
        yield made


def test_upgrade_after_rollback(one: Machine, program: ForkedProgram) -> None:
    """The image that was left is not taken again, unless somebody asks for it; another one is."""
    installed(program, one)
    upgrade(program, one, 2)
    (one.deployments / "1/etc/mine").write_text("of the first\n")
    run(program, one, "rollback")
    before = set((one.store / "objects").glob("*/*"))
    told = "was left by a rollback; a newer image is taken, and bootc-live rollback or bootc-live switch goes back"
    for words in (["upgrade"], ["upgrade", "--check"], ["upgrade", "--download-only"]):
        assert told in run(program, one, *words)
    assert "good\n" in (status := run(program, one, "status"))
    assert [row for row in status.splitlines() if "left by rollback" in row] == [
        row for row in status.splitlines() if row.startswith("2 ")
    ]
    assert boots_next(one.disk, one.boot) == Next(1, 1)
    run(program, one, "switch", one.source)
    assert boots_next(one.disk, one.boot) == Next(2, 3)
    # /etc is that of the deployment that it was made from.
    assert (one.deployments / "3/etc/mine").read_text() == "of the first\n"
    assert set((one.store / "objects").glob("*/*")) == before
    run(program, one, "rollback", "--to", "1")
    upgrade(program, one, 3)
    assert boots_next(one.disk, one.boot) == Next(3, 4)
    # It stays passed over when its deployments are gone, and an image with a deployment of its own does not.
    run(program, one, "health")
    upgrade(program, one, 4)
    run(program, one, "prune", "--keep", "0")
    assert numbers(one) == [4, 5]
    one.offer(disk_image(2))
    assert "was left by a rollback" in run(program, one, "upgrade")


def test_rollback_to_the_same_image(one: Machine, program: ForkedProgram) -> None:
    """It is the deployment that was left then, not the image."""
    installed(program, one)
    run(program, one, "switch", one.source)
    run(program, one, "rollback")
    assert boots_next(one.disk, one.boot) == Next(1, 1)
    assert "boots next" in run(program, one, "upgrade")
    upgrade(program, one, 2)
    one.offer(disk_image(1))
    run(program, one, "upgrade")
    assert boots_next(one.disk, one.boot) == Next(1, 4)


def test_failed_image_is_not_tried_again(one: Machine, program: ForkedProgram) -> None:
    installed(program, one)
    upgrade(program, one, 2)
    one.rename_entry("bootc-live-2-2+3", "bootc-live-2-2+0-3")
    assert "has failed to boot" in run(program, one, "upgrade")
    assert "has failed to boot" in run(program, one, "upgrade", "--check")
    assert numbers(one) == [1, 2]
    upgrade(program, one, 3)
    run(program, one, "prune", "--keep", "0")
    assert numbers(one) == [1, 3]
    one.offer(disk_image(2))
    assert "has failed to boot" in run(program, one, "upgrade")
    # Whoever says so may have it.
    run(program, one, "switch", one.source)
    assert boots_next(one.disk, one.boot) == Next(2, 4)
    run(program, one, "health")
    upgrade(program, one, 5, 2)
    assert boots_next(one.disk, one.boot) == Next(2, 6)


def test_finalize(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    installed(program, one)
    etc, made = one.deployments / "1/etc", one.deployments / "2/etc"
    (etc / "early").write_text("before the upgrade\n")
    with booted(1, one, tmp_path):
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
        one.offer(disk_image(2))
        program.run("upgrade").good()
        for text in ("one\n", "two\n"):
            (etc / "late").write_text(text)
            (etc / "early").unlink(missing_ok=True)
            program.run("upgrade", "--finalize").good()
            assert (made / "late").read_text() == text
            assert not (made / "early").exists()
            assert (made / "number").read_text() == "2\n"
            assert stat.S_IMODE(made.stat().st_mode) == 0o751
        assert leftovers(one.disk, one.boot) == []
        assert boots_next(one.disk, one.boot) == Next(2, 2)
        # It was started, and has its own /etc since.
        (made.parent / "started").touch()
        (made / "own").write_text("of the second\n")
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
    with booted(2, one, tmp_path):
        program.run("health").good()
        program.run("rollback").good()
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
    assert (made / "own").read_text() == "of the second\n"
    assert not (etc / "own").exists()


def test_switch_keeps_the_settings(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    installed(program, one, "--karg", "quiet", "--karg", "console=ttyS0", "--state", "etc")
    other = tmp_path / "other.oci"
    one.offer(disk_image(2))
    one.source.rename(other)
    with booted(1, one, tmp_path):
        program.run("switch", other).good()
    lines = {path.stem: path.read_text() for path in (one.boot / "loader/entries").iterdir()}
    options = [line for line in lines["bootc-live-2-2+3"].splitlines() if line.startswith("options ")]
    assert " quiet console=ttyS0 root=bootc-live:deployment:UUID=" in options[0]
    assert "bootc.disk.state=etc" in options[0]
    # An argument for one boot is none of the machine's.
    assert "once" not in "".join(lines.values())
    # The new source is where newer images come from.
    one.offer(disk_image(9))
    assert "no change" in run(program, one, "upgrade", "--check")
    status = json.loads(run(program, one, "status", "--json"))["disk"]
    assert (status["source"], status["state"]) == (str(other), "etc")


def test_docker_archives(one: Machine, program: ForkedProgram) -> None:
    def offer(number: int) -> None:
        image = Saved([made.tar for made in disk_image(number).layers])
        write_members(one.source, docker_members("save", image))

    offer(1)
    program.run(*one.install).good()
    offer(2)
    assert program.run("upgrade", "--check", *one.options).status == 77
    run(program, one, "upgrade")
    assert boots_next(one.disk, one.boot) == Next(2, 2)
    assert "no change" in run(program, one, "upgrade")


def test_layer_that_is_there_is_not_written_again(one: Machine, program: ForkedProgram) -> None:
    installed(program, one)
    one.offer(disk_image(1, layer(file("usr/more", b"more " * 200))))
    before = {path: path.stat().st_ino for path in (one.store / "objects").glob("*/*")}
    run(program, one, "upgrade")
    after = {path: path.stat().st_ino for path in (one.store / "objects").glob("*/*")}
    assert before.items() < after.items()
    # The file, and the recipe of its layer.
    assert len(after) == len(before) + 2


def test_not_counted(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """What is not counted keeps what is changed in /etc until it is started, and can be left and chosen again."""
    told = "so the boot loader does not go back from them by itself: bootc-live-health.service is missing"
    one.offer(disk_image(1))
    assert told not in program.run(*one.install).good().stderr
    one.clear()
    one.offer(disk_image(1, judge=""))
    assert told in program.run(*one.install).good().stderr
    with booted(1, one, tmp_path):
        one.offer(disk_image(2, judge=""))
        assert told in program.run("upgrade").good().stderr
        (one.deployments / "1/etc/late").write_text("late\n")
        program.run("upgrade", "--finalize").good()
    assert (one.deployments / "2/etc/late").read_text() == "late\n"
    with booted(2, one, tmp_path):
        program.run("rollback").good()
        assert "nothing to do" in program.run("upgrade", "--finalize").good().stderr
        program.run("rollback").good()
    assert one.entries == ["bootc-live-3-1", "bootc-live-4-2"]


def test_boot(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """What runs tells how long it took, and is known to have been started."""
    one.offer(disk_image(1))
    program.run(*one.install, "--karg", "quiet").good()
    (entry,) = (one.boot / "loader/entries").iterdir()
    (cmdline,) = re.findall("^options (.*)$", entry.read_text(), re.M)
    assert not (one.deployments / "1/started").exists()
    with boot(program, cmdline, tmp_path / "boot") as made:
        assert (made.root / "etc/number").read_text() == "1\n"
        assert (one.deployments / "1/started").exists()
    assert made.receipt["phases"]["mount"] > 0
    said = program.run("status", "--receipt", tmp_path / "boot/receipt.json").good().stdout
    assert re.search(r"^phases    mount [0-9.]+ s$", said, re.M)
    (row,) = json.loads(program.run("status", *one.options, "--json").good().stdout)["disk"]["deployments"]
    assert row["cmdline"] == cmdline
    assert " quiet root=bootc-live:deployment:" in cmdline


@pytest.mark.parametrize("running", [True, False], ids=["running", "another system's"])
def test_layers_that_are_there(running: bool, one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """An upgrade uses them for kernel, initramfs, /etc and boot loader without fetching them.

    Those of the running root, which the kernel command line names, are used as it uses them itself: an object that was
    changed is found by the kernel if it has fs-verity, and by verify. Those of another system are hashed.
    """
    configured = b"of the image, and too long for a recipe\n" * 200
    below = layer(file("etc/long", configured), file("usr/changed", b"as it was, " * 1000))
    one.offer(disk_image(1, below))
    program.run(*one.install).good()
    (changed,) = (path for path in (one.store / "objects").glob("*/*") if path.read_bytes().startswith(b"as it was, "))
    content = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(content[:-1] + b"!")
    one.offer(disk_image(1, below, layer(file("usr/new", b"new, " * 2000))))
    if running:
        with booted(1, one, tmp_path):
            program.run("upgrade").good()
    else:
        run(program, one, "upgrade")
    assert (one.deployments / "2/etc/long").read_bytes() == configured
    found = (one.store / "objects" / changed.parent.name / changed.name).read_bytes()
    assert found == (content[:-1] + b"!" if running else content)
    changed.unlink()
    changed.write_bytes(content)
    assert boots_next(one.disk, one.boot) == Next(1, 2)
