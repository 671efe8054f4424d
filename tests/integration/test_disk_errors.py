"""What the verbs for disks say when something is wrong, and that they change nothing then."""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from tests.lib.archive_servers import Asked, Reply, Stored, archive_server
from tests.lib.boot_images import VERSION, initramfs, kernel_layer
from tests.lib.disk_fixtures import one, ready, state, unchanged
from tests.lib.disk_machine import Machine, Next, boots_next, disk_image, leftovers, machine
from tests.lib.disks import run
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import Image, Layer
from tests.lib.program import SECONDS, Program
from tests.lib.signing import Key
from tests.lib.small_image import BASE, HERE
from tests.lib.tar_writer import file, layer

__all__ = ["one", "ready"]

VERBS: Final = (
    ("status",),
    ("upgrade",),
    ("upgrade", "--check"),
    ("upgrade", "--finalize"),
    ("switch", "{source}"),
    ("rollback",),
    ("pin", "1"),
    ("prune", "--keep", "1"),
    ("verify",),
    ("fsck",),
    ("health",),
)


def image_of(*tars: bytes) -> Image:
    """An image for this machine."""
    return Image([Layer(tar) for tar in tars], architecture=HERE)


def unbootable(initrd: bytes | None) -> Image:
    """An image with a kernel and this initramfs."""
    return image_of(BASE, kernel_layer(initrd))


@dataclass(frozen=True)
class Row:
    """A command with words in braces for paths, and what its error says; `done` is what is wrong."""

    name: str
    command: str
    told: str
    done: Callable[[Machine], object] = lambda _: None


def _write(*path: str, content: str) -> Callable[[Machine], object]:
    return lambda one: one.store.joinpath(*path).write_text(content)


def _some(rows: Sequence[tuple[str, ...]], *short: str) -> list[ParameterSet]:
    """Rows as parameters; those whose first word is none of `short` are for the long forms."""
    return [
        pytest.param(row, id=" ".join(row), marks=() if row[0] in short and len(row) < 3 else pytest.mark.long)
        for row in rows
    ]


def _linked(name: str, *gone: str) -> Callable[[Machine], object]:
    """Let a directory of the store be a link to somewhere else; without settings, it is installed anew."""

    def link(one: Machine) -> None:
        for path in gone:
            (one.store / path).unlink()
        (one.store / name).rename(one.store / "elsewhere")
        (one.store / name).symlink_to("elsewhere")

    return link


BUILTIN: Final = f"usr/lib/modules/{VERSION}/modules.builtin"
RECORD: Final = ("deployments", "1", "deployment.json")
HERE_IT_IS: Final = "--disk {disk} --boot {boot}"
NETWORK: Final = "bootc.install=smallest bootc.install.karg=root=/dev/sda"
ROWS: Final = (
    Row("not a disk's system", "upgrade", "does not run from a disk that bootc-live installed"),
    Row("the boot partition alone", "upgrade --boot {boot}", "is of no use alone"),
    Row("the disk alone", "upgrade --disk {disk}", "needs its boot partition"),
    Row("no such boot partition", "upgrade --disk {disk} --boot /missing", "--boot '/missing' is no directory"),
    Row("the boot partition in its place", "upgrade --disk {boot} --boot {disk}", "settings of this machine"),
    Row("another boot partition", "rollback --disk {disk} --boot {boot}/EFI", "no other deployment"),
    Row("nothing boots", "upgrade --disk {disk} --boot {boot}/EFI", "nothing boots from this disk"),
    Row("no other to go back to", f"rollback {HERE_IT_IS}", "there is no other deployment to go back to"),
    Row("no such deployment", f"rollback --to 7 {HERE_IT_IS}", "there is no deployment 7"),
    Row("none of this number", f"pin 0 {HERE_IT_IS}", "there is no deployment 0"),
    Row("none to be pinned", f"pin 7 {HERE_IT_IS}", "there is no deployment 7"),
    Row("a negative number", f"prune --keep=-1 {HERE_IT_IS}", "--keep -1 is not a number of deployments"),
    Row("reboot into another's", f"rollback --apply {HERE_IT_IS}", "another system than the running one"),
    Row("the source is gone", f"upgrade {HERE_IT_IS}", "source.oci", lambda one: one.source.unlink()),
    Row("no source", f"switch /missing.oci {HERE_IT_IS}", "/missing.oci"),
    Row(
        "no kernel",
        f"upgrade {HERE_IT_IS}",
        "has no kernel /usr/lib/modules/VERSION/vmlinuz",
        lambda one: one.offer(image_of(BASE)),
    ),
    Row("no initramfs", f"upgrade {HERE_IT_IS}", "no initramfs", lambda one: one.offer(unbootable(None))),
    Row(
        "an initramfs without bootc-live",
        f"upgrade {HERE_IT_IS}",
        "does not contain bootc-live",
        lambda one: one.offer(unbootable(initramfs("usr/lib/other"))),
    ),
    Row(
        "a damaged initramfs",
        f"upgrade {HERE_IT_IS}",
        "cannot be read",
        lambda one: one.offer(unbootable(b"\x1f\x8b" + bytes(50))),
    ),
    Row(
        "no module for the root's file system",
        f"upgrade {HERE_IT_IS}",
        "has no module for ext4",
        lambda one: one.offer(image_of(BASE, kernel_layer(), layer(file(BUILTIN, "kernel/fs/xfs/xfs.ko\n")))),
    ),
    Row(
        "a layer with another digest",
        f"upgrade {HERE_IT_IS}",
        "sha256:",
        lambda one: one.offer(
            Image([*disk_image(2).layers, Layer(BASE, diff_id=f"sha256:{'0' * 64}")], architecture=HERE)
        ),
    ),
    Row("a signature is wanted", f"switch {{source}} --key {{key}} {HERE_IT_IS}", "signature"),
    Row("damaged settings", f"status {HERE_IT_IS}", "machine.json", _write("machine.json", content='{"source": ')),
    Row("settings of another kind", f"status {HERE_IT_IS}", "machine.json", _write("machine.json", content="[]")),
    Row(
        "an unknown boot loader",
        f"upgrade {HERE_IT_IS}",
        "no boot loader 'lilo'",
        _write("machine.json", content='{"source": "/a", "root": "UUID=1", "boot": "UUID=2", "loader": "lilo"}'),
    ),
    Row(
        "settings of other types",
        f"fsck {HERE_IT_IS}",
        "'source' has another type",
        _write("machine.json", content='{"source": 5}'),
    ),
    Row("a damaged record", f"upgrade {HERE_IT_IS}", "deployment 1 is damaged", _write(*RECORD, content="{")),
    Row("an empty record", f"rollback --to 1 {HERE_IT_IS}", "deployment 1 is damaged", _write(*RECORD, content="")),
    Row("a record of another kind", f"verify {HERE_IT_IS}", "deployment 1 is damaged", _write(*RECORD, content="[1]")),
    Row("no record", f"pin 1 {HERE_IT_IS}", "no deployment 1", lambda one: one.store.joinpath(*RECORD).unlink()),
    *(
        Row(f"{name} elsewhere: {verb}", f"{verb} {HERE_IT_IS}", f"{name}' is a symbolic link", _linked(name))
        for name, verb in (("objects", "prune --keep 0"), ("images", "upgrade"), ("deployments", "fsck --repair"))
    ),
    Row(
        "objects elsewhere: install",
        "install to-filesystem {disk} --boot {boot} --source {source}",
        "objects' is a symbolic link",
        _linked("objects", "machine.json"),
    ),
    *(
        Row(
            f"the argument {text}",
            f"install to-filesystem {{disk}} --boot {{boot}} --source {{source}} --karg={text}",
            "--karg ",
        )
        for text in ('"unclosed', "it's", "--", "", "root=/dev/sda", "bootc.disk.state=etc")
    ),
    Row(
        "an argument by the network",
        "install from-cmdline --cmdline {network}",
        "bootc.install.karg= 'root=/dev/sda' would replace",
    ),
    Row("the same twice", "install to-filesystem {disk} --boot {disk} --source {source}", "is the same file system as"),
    Row("on its source", "install to-disk {source} --wipe --source {source}", "is the source"),
    Row("a disk without a number", f"prune {HERE_IT_IS}", "is of no use without --keep"),
    Row("installed already", "install to-filesystem {disk} --boot {boot} --source {source}", "has an installation"),
    Row("no mount point", "install to-filesystem /usr --boot {boot} --source {source}", "'/usr' is no mount point"),
    Row(
        "no boot mount point", "install to-filesystem {disk} --boot /usr --source {source}", "'/usr' is no mount point"
    ),
    Row("no block device", "install to-filesystem /proc --boot {boot} --source {source}", "no file system on a block"),
    Row("no initrd", "install to-filesystem {disk} --boot {boot} --source {source} --initrd /missing", "/missing"),
)


def _command(row: Row, one: Machine, key: Path) -> list[str]:
    names = {"disk": one.disk, "boot": one.boot, "source": one.source, "key": key, "network": NETWORK}
    return [word.format(**names) for word in row.command.split()]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A public key."""
    made = tmp_path_factory.mktemp("key")
    (made / "my.pub").write_bytes(Key(made).public.pem)
    return made / "my.pub"


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_error(row: Row, one: Machine, program: ForkedProgram, key: Path) -> None:
    row.done(one)
    before = state(one)
    program.run(*_command(row, one, key)).error(row.told)
    assert state(one) == before


@pytest.mark.parametrize(
    "words",
    ["pin", "pin x", "rollback --to x", "prune --keep x", "install", "install to-filesystem /", "switch", "health 1"],
)
def test_wrong_usage(words: str, program: ForkedProgram) -> None:
    assert program.run(*words.split()).status == 2


@pytest.mark.parametrize("words", _some(VERBS, "status"))
def test_no_installation(words: tuple[str, ...], one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    command = [word.format(source=one.source) for word in words]
    program.run(*command, "--disk", tmp_path, "--boot", one.boot).error("has no installation", tmp_path)


@pytest.mark.parametrize("words", _some(VERBS, "status"))
def test_another_program(words: tuple[str, ...], one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """It is waited for."""
    command = [*(word.format(source=one.source) for word in words), *one.options]
    fd, log = os.open(one.store, os.O_RDONLY), tmp_path / "log"
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with program.started(*command, log=log) as process:
            with unchanged(one):
                while "waiting for another program" not in log.read_text():
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.05)
            fcntl.flock(fd, fcntl.LOCK_UN)
            # There is something newer, and nothing to go back to.
            expected = {("upgrade", "--check"): 77, ("rollback",): 1}.get(words, 0)
            assert process.wait(SECONDS) == expected, log.read_text()
    finally:
        os.close(fd)


INSTALL: Final = ("install", "to-filesystem", "/", "--source", "{source}")


@pytest.mark.parametrize("words", _some([*VERBS, INSTALL], "rollback"))
def test_not_root(words: tuple[str, ...], one: Machine, nobody: Program) -> None:
    command = [word.format(source=one.source) for word in words]
    options = ["--boot", "/"] if words[0] == "install" else one.options
    nobody.run(*command, *options).error("needs root")


@pytest.mark.parametrize("words", _some(VERBS, "pin", "upgrade"))
def test_read_only(words: tuple[str, ...], one: Machine, program: ForkedProgram) -> None:
    command = [word.format(source=one.source) for word in words]
    for top in (one.disk, one.boot):
        run("mount", "-o", "remount,ro", top)
    try:
        with unchanged(one):
            ended = program.run(*command, *one.options)
            # What has nothing to change is no error.
            if ended.status == 1 and words[0] != "rollback":
                ended.error("Read-only file system")
            assert ended.status in (0, 1, 77), ended.stderr
    finally:
        for top in (one.disk, one.boot):
            run("mount", "-o", "remount,rw", top)


def test_exit_codes(one: Machine, program: ForkedProgram) -> None:
    checked = program.run("upgrade", "--check", *one.options)
    assert (checked.status, " is newer\n" in checked.stdout) == (77, True)
    one.offer(disk_image(1))
    with unchanged(one):
        for words in (["upgrade", "--check"], ["upgrade"]):
            assert "no change" in program.run(*words, *one.options).good().stdout


def test_damaged_default_can_be_left(one: Machine, program: ForkedProgram) -> None:
    program.run("upgrade", *one.options).good()
    (one.deployments / "2/deployment.json").write_text("{}")
    status = program.run("status", *one.options).good().stdout
    assert re.search(r"^2 .*damaged", status, re.MULTILINE), status
    program.run("rollback", *one.options).good()
    assert boots_next(one.disk, one.boot) == Next(1, 1)
    program.run("prune", "--keep", "0", *one.options).good()
    assert not (one.deployments / "2").exists()
    assert leftovers(one.disk, one.boot) == []
    program.run("upgrade", *one.options).good()
    assert boots_next(one.disk, one.boot) == Next(2, 3)


def test_changed_object(one: Machine, program: ForkedProgram) -> None:
    program.run("verify", *one.options).good()
    path = max((one.store / "objects").glob("*/*"), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"X" + content[1:])
    digest = path.parent.name + path.name
    for words in (("verify",), ("verify", "--all"), ("verify", "--json")):
        program.run(*words, *one.options).error(digest, "its content has changed")
    # In a process of its own, as users start it.
    told = Program(program.zipapp).run("verify", "--json", *one.options)
    assert (told.status, len(json.loads(told.stdout)["1"]["changed"])) == (1, 1)
    path.unlink()
    program.run("verify", *one.options).error(digest)


def test_other_installation_keeps_its_boot_partition(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    with machine(tmp_path) as other:
        other.offer(disk_image(3))
        command = ["install", "to-filesystem", str(other.disk), "--boot", str(one.boot), "--source", str(other.source)]
        with unchanged(one):
            program.run(*command).error("has the boot entries of another installation")
        program.run(*other.install).good()
        # Numbers of deployments are those of one disk.
        for words in (["status"], ["upgrade"], ["prune", "--keep", "0"]):
            command = [*words, "--disk", str(other.disk), "--boot", str(one.boot)]
            with unchanged(one), unchanged(other, Next(3, 1)):
                program.run(*command).error("has the boot entries of another installation")


def test_secrets(one: Machine, program: ForkedProgram) -> None:
    """A password and a token of the source are used again, but nobody sees them."""
    content = Stored(one.source.read_bytes())

    def answer(asked: Asked) -> Reply:
        known = asked.header("Authorization") == f"Basic {b64encode(b'me:pass-word').decode()}"
        return content(asked) if known and asked.path.endswith("?token=to-ken") else Reply(401)

    one.clear()
    with archive_server(answer) as server:
        secret = f"{server.url(login='me:pass-word')}?token=to-ken"
        command = [*one.install[:-1], secret]
        said = [program.run(*command, "--json").good()]
        settings = one.store / "machine.json"
        assert stat.S_IMODE(settings.stat().st_mode) == 0o600
        assert "pass-word" in settings.read_text()
        said += [program.run(*words, *one.options).good() for words in (["upgrade"], ["status"], ["status", "--json"])]
        content = Stored(b"no archive")
        failed = program.run("upgrade", *one.options)
        failed.error("***")
    told = "".join(ended.stdout + ended.stderr for ended in [*said, failed])
    files = [path for top in (one.disk, one.boot) for path in top.rglob("*") if path.is_file() and path != settings]
    told += "".join(path.read_text(errors="replace") for path in files)
    assert "pass-word" not in told
    assert "to-ken" not in told


def test_signatures_are_wanted_ever_after(one: Machine, program: ForkedProgram, tmp_path: Path) -> None:
    """What the first image had to be signed with, all later ones have to."""
    pair, public, bundle = Key(tmp_path), tmp_path / "my.pub", Path(f"{one.source}.sigstore.json")

    def sign() -> None:
        bundle.write_bytes(pair.bundle(one.source.read_bytes()))

    public.write_bytes(pair.public.pem)
    one.clear()
    program.run(*one.install, "--key", public).error("has no valid signature")
    sign()
    program.run(*one.install, "--key", public).good()
    # The machine has a copy.
    public.unlink()
    one.offer(disk_image(3))
    installed = boots_next(one.disk, one.boot)
    for words in (["upgrade", "--check"], ["upgrade"], ["switch", str(one.source)]):
        program.run(*words, *one.options).error("has no valid signature")
        assert boots_next(one.disk, one.boot) == installed
    sign()
    program.run("upgrade", *one.options).good()
    assert boots_next(one.disk, one.boot) == Next(3, 2)
    status = json.loads(program.run("status", "--json", *one.options).good().stdout)
    assert [row["signatures"] for row in status["disk"]["deployments"]] == ["verified", "verified"]
    bundle.unlink()


def test_upgrade_repairs_a_changed_object(one: Machine, program: ForkedProgram) -> None:
    path = max((one.store / "objects").glob("*/*"), key=lambda path: path.stat().st_size)
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(b"X" + content[1:])
    program.run("upgrade", *one.options).good()
    assert path.read_bytes() == content
    program.run("verify", "--all", *one.options).good()
    assert boots_next(one.disk, one.boot) == Next(2, 2)
