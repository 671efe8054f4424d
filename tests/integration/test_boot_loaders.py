"""Boot entries as the programs of boot loaders see them: bootctl, grub-editenv, grub-script-check, ukify and shim."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.artifacts.uki import Signing
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.formats.grub_env import read_block, write_block
from bootc_live.landing.disk.boot_partition.grub import Grub
from bootc_live.landing.disk.boot_partition.grub_script import CONFIGURATION, menu_entry
from bootc_live.landing.disk.boot_partition.interface import BootLoader
from bootc_live.landing.disk.boot_partition.programs import grub_prefix
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.boot_partition.type2 import SystemdBootUki
from bootc_live.landing.disk.machine import repair_fat
from bootc_live.rootfs.boot_files.files import BootFile
from tests.lib.disks import loop, run
from tests.lib.needs import needs

CMDLINE = 'root=UUID=1 dyndbg="file a.c +p; file b.c +p" $x \'y\' \\z # -- a "b c"'
# A program that ukify takes as a kernel.
KERNEL = Path("/usr/lib/systemd/boot/efi/systemd-bootx64.efi")


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own: bootctl wants one."""
    path = tmp_path / "boot"
    path.mkdir()
    run("mount", "-t", "tmpfs", "boot", path)
    try:
        yield path
    finally:
        run("umount", path)


def add(loader: BootLoader, boot: Path, *names: EntryName) -> list[Entry]:
    initrd = boot.with_name("initrd")
    initrd.write_bytes(b"initrd")
    files = [BootFile(str(path), 0, path.stat().st_size) for path in (KERNEL, initrd)]
    return [loader.add(str(boot), Entry(name, f"It's {name.deployment}", CMDLINE), *files) for name in names]


def listed(boot: Path) -> list[tuple[str, str, str, str, int | None, int]]:
    """What bootctl says, the default first."""
    environment = {"PATH": "/usr/bin", "SYSTEMD_RELAX_ESP_CHECKS": "1"}
    argv = ["bootctl", "list", "--json=short", f"--esp-path={boot}"]
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert [one["isDefault"] for one in found] == [True, *[False] * (len(found) - 1)]
    fields = ("id", "path", "title", "options", "triesLeft")
    return [(*(one.get(field) for field in fields), one.get("triesDone", 0)) for one in found]


def expected(entry: Entry, boot: Path) -> tuple[str, str, str, str, int | None, int]:
    """What bootctl should say."""
    name, ending = entry.name, Path(entry.path).suffix
    return (f"{name.identity}{ending}", f"{boot}{entry.path}", entry.title, entry.cmdline, name.left, name.done)


@needs("bootctl", "ukify")
@pytest.mark.parametrize("loader", [SystemdBoot(), SystemdBootUki()], ids=["type 1", "type 2"])
def test_bootctl_sees_the_same(loader: BootLoader, boot: Path) -> None:
    loader.install("/", str(boot))
    names = [EntryName(1, 4), EntryName(2, 2), EntryName(9, 3, 2, 1), EntryName(10, 1), EntryName(11, 5, 9)]
    added = add(loader, boot, *names)
    folder, ending = Path(f"{boot}{added[0].path}").parent, Path(added[0].path).suffix
    counters: list[tuple[str, str]] = [("11-5+9", "11-5+0-3"), ("2-2", "2-2+3"), ("10-1", "10-1+1-2")]
    for old, new in [("", ""), *counters]:
        if old:
            (folder / f"bootc-live-{old}{ending}").rename(folder / f"bootc-live-{new}{ending}")
        assert listed(boot) == [expected(entry, boot) for entry in loader.entries(str(boot))], new
    loader.promote(str(boot), 4, 12)
    loader.bless(str(boot), 2)
    loader.remove(str(boot), 3)
    assert listed(boot) == [expected(entry, boot) for entry in loader.entries(str(boot))]
    assert [entry.name.deployment for entry in loader.entries(str(boot))] == [4, 1, 2, 5]
    # All tries are used up.
    for entry in loader.entries(str(boot)):
        (boot / entry.path[1:]).rename(folder / f"{entry.name.identity}+0-3{ending}")
    assert listed(boot) == [expected(entry, boot) for entry in loader.entries(str(boot))]


@needs("grub-editenv")
@pytest.mark.parametrize(
    "variables", [{"a": "b"}, {"a": "b\\c", "entries": "10-3+2-1 9-2"}, {"x": "", "quoted": "\"'$#", "a": "=b="}]
)
def test_environment_block_of_grub(variables: dict[str, str], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(write_block(variables))
    assert run("grub-editenv", ours, "list").splitlines() == [f"{name}={value}" for name, value in variables.items()]
    run("grub-editenv", theirs, "create")
    assert read_block(theirs.read_bytes()) == {}
    run("grub-editenv", theirs, "set", *(f"{name}={value}" for name, value in variables.items()))
    assert read_block(theirs.read_bytes()) == variables
    run("grub-editenv", ours, "set", "a=changed")
    assert read_block(ours.read_bytes()) == {**variables, "a": "changed"}
    assert len(theirs.read_bytes()) == len(write_block(variables))


@needs("grub-script-check")
@pytest.mark.parametrize("cmdline", ["", "a=b", 'a="b c" d;e {f} $g `h` #i ! | & < > ( ) *', "a -- b c=d", "ä=ö"])
def test_grub_can_read_the_scripts(cmdline: str, tmp_path: Path) -> None:
    entry = Entry(EntryName(1, 2, 3), "It's \\ } { $x", cmdline, "/bootc-live/ab/vmlinuz", "/bootc-live/ab/initrd")
    for text in (CONFIGURATION, menu_entry(entry)):
        path = tmp_path / "grub.cfg"
        path.write_text(text)
        run("grub-script-check", path)
        # It sees what is not balanced.
        path.write_text(text.replace("}", "", 1) if text is CONFIGURATION else text.rstrip().removesuffix("}"))
        with pytest.raises(AssertionError, match=r"(?i)syntax error"):
            run("grub-script-check", path)


@needs("sbverify")
@pytest.mark.parametrize("loader", [SystemdBoot(), Grub()], ids=["systemd-boot", "grub"])
def test_loaders_of_the_distribution_are_signed(loader: BootLoader, boot: Path) -> None:
    loader.install("/", str(boot))
    programs = {path.name: path for path in (boot / "EFI/BOOT").iterdir()}
    assert sorted(programs) == ["BOOTX64.EFI", "grubx64.efi", "mmx64.efi"]
    for path in programs.values():
        assert "signature 1" in run("sbverify", "--list", path)
    if isinstance(loader, Grub):
        assert grub_prefix(str(programs["grubx64.efi"])) == "/EFI/debian"
        assert (boot / "EFI/debian/grub.cfg").read_text() == CONFIGURATION
        (added,) = add_plain(loader, boot)
        assert [entry.path for entry in loader.entries(str(boot))] == [added.path]
        assert run("grub-editenv", boot / "EFI/debian/grubenv", "list") == "bootc_live_entries=1-1+3-0"


def add_plain(loader: BootLoader, boot: Path) -> list[Entry]:
    file = BootFile(str(KERNEL), 0, 1000)
    return [loader.add(str(boot), Entry(EntryName(1, 1, 3), "x", "a=b"), file, file)]


@needs("sbsign", "openssl")
def test_loader_and_uki_are_signed_with_own_keys(boot: Path, tmp_path: Path) -> None:
    key, certificate = str(tmp_path / "key"), str(tmp_path / "certificate")
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
    run(*argv, "-keyout", key, "-out", certificate)
    loader = SystemdBootUki(Signing(key, certificate))
    loader.install("/", str(boot))
    (entry,) = add(loader, boot, EntryName(1, 1))
    for name in ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", entry.path[1:]):
        run("sbverify", "--cert", certificate, boot / name)
    assert sorted(path.name for path in (boot / "EFI/BOOT").iterdir()) == ["BOOTX64.EFI"]
    assert not [path for path in boot.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]


def test_what_a_power_cut_left_in_fat(tmp_path: Path) -> None:
    image = tmp_path / "esp"
    with image.open("wb") as made:
        made.truncate(64 * 2**20)
    run("mkfs.vfat", "-F", "32", image)
    run("mcopy", "-i", image, KERNEL, "::kernel.efi")
    with image.open("r+b") as file:
        # The chain of a file that has lost its name: an end in the table for a cluster that nothing has.
        file.seek(0)
        sector = file.read(512)
        reserved, sectors = int.from_bytes(sector[14:16], "little"), int.from_bytes(sector[36:40], "little")
        for table in range(2):
            file.seek((reserved + table * sectors) * 512 + 4 * 5000)
            file.write((0x0FFFFFFF).to_bytes(4, "little"))

    def damaged() -> bool:
        return subprocess.run(["fsck.fat", "-n", image], capture_output=True, check=False).returncode != 0

    assert damaged()
    with loop(image) as device:
        repair_fat(device)
    assert not damaged()
    assert "kernel" in run("mdir", "-b", "-i", image).lower()


def test_no_fat_is_left_alone(tmp_path: Path) -> None:
    image = tmp_path / "esp"
    with image.open("wb") as made:
        made.truncate(2**20)
    run("mkfs.ext4", "-q", image)
    before = image.read_bytes()
    with loop(image) as device:
        repair_fat(device)
    assert image.read_bytes() == before
