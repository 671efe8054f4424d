"""Boot loaders on a boot partition: what is started next after each change."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from bootc_live.base.errors import ConfigError, LandingError
from bootc_live.formats.boot_entry import Entry, EntryName
from bootc_live.landing.disk.boot_partition import files
from bootc_live.landing.disk.boot_partition.interface import BootLoader, next_order
from bootc_live.landing.disk.boot_partition.kernels import addon_of, restore_kernel
from bootc_live.landing.disk.boot_partition.type2 import SystemdBootUki
from tests.unit.boot_partitions import (
    CMDLINE,
    STYLES,
    Style,
    add,
    boot_file,
    initrd_of,
    kernel_of,
    leftovers,
    quick,
    started,
)

ALL = pytest.mark.parametrize("style", STYLES, ids=[style.name for style in STYLES])


__all__ = ["quick"]


@pytest.fixture
def boot(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    boot = tmp_path / "boot"
    boot.mkdir()
    if "style" in request.fixturenames:
        request.getfixturevalue("style").prepare(boot)
    return boot


def named(loader: BootLoader, boot: Path) -> list[str]:
    return [str(entry.name).removeprefix("bootc-live-") for entry in loader.entries(str(boot))]


@ALL
def test_life_of_a_machine(style: Style, boot: Path, tmp_path: Path) -> None:
    loader = style.make()
    assert loader.entries(str(boot)) == []
    assert loader.default(str(boot)) is None
    first = add(loader, boot, tmp_path, 1, 1, files=1)
    assert (first.name, first.title) == (EntryName(1, 1), "System, deployment 1")
    assert loader.entries(str(boot)) == [first]
    assert style.starts(boot) == started(1, 1)
    # An upgrade on trial, with the same kernel.
    add(loader, boot, tmp_path, 2, 2, files=1, left=3)
    assert named(loader, boot) == ["2-2+3", "1-1"]
    assert style.starts(boot) == started(2, 1)
    loader.bless(str(boot), 2)
    assert named(loader, boot) == ["2-2", "1-1"]
    loader.bless(str(boot), 2)
    # Another kernel.
    third = add(loader, boot, tmp_path, next_order(loader, str(boot)), 3, files=3)
    assert loader.default(str(boot)) == third
    assert style.starts(boot) == started(3, 3)
    # Rollback.
    back = loader.promote(str(boot), 2, 4)
    assert back == loader.default(str(boot))
    assert (back.name, back.cmdline, back.title) == (EntryName(4, 2), CMDLINE.format(2), "System, deployment 2")
    assert named(loader, boot) == ["4-2", "3-3", "1-1"]
    assert style.starts(boot) == started(2, 1)
    loader.remove(str(boot), 3)
    assert named(loader, boot) == ["4-2", "1-1"]
    assert leftovers(boot) == []
    assert loader.leftovers(str(boot)) == []
    assert loader.damaged(str(boot)) == []
    loader.promote(str(boot), 1, 5, left=2)
    assert named(loader, boot) == ["5-1+2", "4-2"]
    loader.remove(str(boot), 7)
    loader.remove(str(boot), 1)
    assert style.starts(boot) == started(2, 1)
    assert leftovers(boot) == []


@ALL
def test_an_installation_reads_entries_of_all_styles(style: Style, boot: Path, tmp_path: Path) -> None:
    """Whose they are decides whether it may begin again."""
    made = add(style.make(), boot, tmp_path, 1, 1, files=1)
    (found,) = SystemdBootUki().entries(str(boot))
    assert (found.name, found.cmdline) == (made.name, CMDLINE.format(1))


@ALL
def test_deployment_is_replaced_by_itself(style: Style, boot: Path, tmp_path: Path) -> None:
    loader = style.make()
    add(loader, boot, tmp_path, 1, 1, files=1)
    add(loader, boot, tmp_path, 2, 1, files=2)
    assert named(loader, boot) == ["2-1"]
    assert style.starts(boot) == started(1, 2)
    assert leftovers(boot) == []


@ALL
@pytest.mark.parametrize(
    "name",
    [
        EntryName(2, 3),
        EntryName(1, 3),
        EntryName(3, 0),
        EntryName(10**9, 3),
        EntryName(3, 10**9),
        EntryName(3, 3, 10),
        EntryName(3, 3, 5, 5),
        EntryName(3, 3, -1),
    ],
    ids=str,
)
def test_entry_that_cannot_be_new(style: Style, name: EntryName, boot: Path, tmp_path: Path) -> None:
    loader = style.make()
    for number in (1, 2):
        add(loader, boot, tmp_path, number, number, files=number)
    file = boot_file(tmp_path / "file", b"MZ")
    with pytest.raises(ValueError, match=r"cannot be a new entry|more than 9 tries"):
        loader.add(str(boot), Entry(name, "", ""), file, file)
    assert named(loader, boot) == ["2-2", "1-1"]


@ALL
def test_only_entry_stays(style: Style, boot: Path, tmp_path: Path) -> None:
    loader = style.make()
    add(loader, boot, tmp_path, 1, 1, files=1)
    with pytest.raises(LandingError, match="deployment 1 has the only boot entry"):
        loader.remove(str(boot), 1)
    for change in (loader.bless, lambda boot, number: loader.promote(boot, number, 5)):
        with pytest.raises(LandingError, match="deployment 2 has no boot entry"):
            change(str(boot), 2)
    assert style.starts(boot) == started(1, 1)


@ALL
@pytest.mark.parametrize(
    ("cmdline", "said"),
    [
        ("a\nb", "cannot be written into a boot entry"),
        ("a\0b", "cannot be written into a boot entry"),
        ("a\udc80b", "cannot be written into a boot entry"),
        ('"a b" "c d"', "cannot begin and end with quotes"),
        (" a", "cannot begin and end with quotes or spaces"),
        ("x" * 2048, "2048 bytes, but kernels accept at most 2047|bytes, but"),
        ("ä" * 1024, "bytes, but kernels accept at most 2047"),
    ],
)
def test_command_line_that_cannot_be_written(style: Style, cmdline: str, said: str, boot: Path, tmp_path: Path) -> None:
    loader, file = style.make(), boot_file(tmp_path / "file", b"MZ")
    with pytest.raises(ConfigError, match=said):
        loader.add(str(boot), Entry(EntryName(1, 1), "x", cmdline), file, file)
    assert loader.entries(str(boot)) == []


@ALL
def test_space_is_checked_before(style: Style, boot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = style.make()
    add(loader, boot, tmp_path, 1, 1, files=1)
    before = sorted(boot.rglob("*"))

    def little(path: Any) -> os.statvfs_result:  # noqa: ARG001
        return os.statvfs_result((4096, 4096, 1000, 250, 250, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", little)
    with pytest.raises(LandingError, match=r"has 1000 KiB free, but 1\.\d MiB are needed"):
        add(loader, boot, tmp_path, 2, 2, files=2)
    assert sorted(boot.rglob("*")) == before


@ALL
def test_count(style: Style, boot: Path, tmp_path: Path) -> None:
    """As the boot loader does; one that is good stays so."""
    loader = style.make()
    add(loader, boot, tmp_path, 1, 1, files=1)
    add(loader, boot, tmp_path, 2, 2, files=2, left=2)
    for left, done in ((1, 1), (0, 2), (0, 2)):
        loader.count(str(boot), 2)
        loader.count(str(boot), 1)
        entries = {entry.name.deployment: entry.name for entry in loader.entries(str(boot))}
        assert entries == {1: EntryName(1, 1), 2: EntryName(2, 2, left, done)}
    assert style.starts(boot) == started(1, 1)
    assert leftovers(boot) == []


@ALL
def test_damage_is_found(style: Style, boot: Path, tmp_path: Path) -> None:
    """Everything that an entry starts: the kernel, and the file that says with which arguments."""
    loader = style.make()
    entries = [add(loader, boot, tmp_path, number, number, files=number) for number in (1, 2)]
    kernel = boot / entries[0].kernel[1:]
    content = kernel.read_bytes()
    kernel.write_bytes(b"other")
    if entries[0].kernel == entries[0].path:
        # It has no other file.
        assert (loader.damaged(str(boot)), loader.broken(str(boot))) == ([], [EntryName(1, 1)])
        return
    path = os.path.dirname(entries[0].kernel)
    assert (loader.damaged(str(boot)), loader.broken(str(boot))) == ([path], [])
    initrd = boot_file(tmp_path / "initrd", initrd_of(1)) if entries[0].initrd else None
    other, same = (boot_file(tmp_path / name, some) for name, some in (("other", b"other"), ("same", content)))
    assert not restore_kernel(str(boot), path, other, initrd)
    assert restore_kernel(str(boot), path, same, initrd)
    assert loader.damaged(str(boot)) == []
    assert leftovers(boot) == []


@ALL
def test_leftovers_are_listed_and_removed(style: Style, boot: Path, tmp_path: Path) -> None:
    loader = style.make()
    entry = add(loader, boot, tmp_path, 1, 1, files=1)
    before = sorted(boot.rglob("*"))
    made = [boot / "bootc-live" / ("0" * 64)]
    made[0].mkdir(parents=True)
    (made[0] / "vmlinuz").write_bytes(b"a part")
    made.append(Path(f"{boot}{entry.path}.new"))
    made[-1].write_bytes(b"")
    assert sorted(loader.leftovers(str(boot))) == sorted(map(str, made))
    loader.tidy(str(boot))
    assert loader.leftovers(str(boot)) == []
    assert sorted(path for path in boot.rglob("*") if path != boot / "bootc-live") == [
        path for path in before if path != boot / "bootc-live"
    ]


def test_removed_files_are_closed_after_their_names_are_gone(
    boot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAT frees their clusters then; a name on the device would share them with the next file."""
    loader = STYLES[0].make()
    for number in (1, 2):
        add(loader, boot, tmp_path, number, number, files=number)
    gone: list[str] = []

    def sync(path: str) -> None:  # noqa: ARG001
        found = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.exists() or fd.is_symlink()]
        gone.extend(name.split("/")[-1] for name in found if name.endswith(" (deleted)") and str(boot) in name)

    monkeypatch.setattr(files, "sync_filesystem", sync)
    loader.remove(str(boot), 1)
    assert [name.removesuffix(" (deleted)")[:10] for name in gone][:3] == ["bootc-live", "initrd", "vmlinuz"]
    assert len(gone) == 4


def test_entries_of_others_stay_and_keep_kernels(boot: Path, tmp_path: Path) -> None:
    loader = STYLES[0].make()
    entry = add(loader, boot, tmp_path, 1, 1, files=1)
    other = boot / "loader/entries/debian.conf"
    other.write_text(f"title Debian\nlinux {entry.kernel}\n")
    add(loader, boot, tmp_path, 2, 2, files=2)
    loader.remove(str(boot), 1)
    assert named(loader, boot) == ["2-2"]
    assert other.exists()
    assert (boot / entry.kernel[1:]).exists()


SCRIPT = "bootc-live/entries/{0}-{0}.cfg"


def spoil(boot: Path, entry: Entry, how: str) -> None:
    """Damage what makes an entry one."""
    path, script = Path(f"{boot}{entry.path}"), boot / SCRIPT.format(entry.name.deployment)
    match how:
        case "empty" | "rubbish":
            path.write_text("" if how == "empty" else how)
        case "no entry":
            path.unlink()
        case "no script":
            script.unlink()
        case "another script":
            script.write_text(script.read_text().replace("@ab", "@ba"))


DAMAGES = [(style, how) for style in STYLES for how in ("empty", "rubbish")]
DAMAGES += [
    (style, how) for style in STYLES if style.name == "grub" for how in ("no entry", "no script", "another script")
]


@pytest.mark.parametrize(("style", "how"), DAMAGES, ids=[f"{style.name}, {how}" for style, how in DAMAGES])
@pytest.mark.parametrize("number", [1, 2])
def test_damaged_entry_stays(style: Style, how: str, number: int, boot: Path, tmp_path: Path) -> None:
    """With its kernel, until it is written again or its deployment goes; and nothing that is new comes after it."""
    loader = style.make()
    entries = {each: add(loader, boot, tmp_path, each, each, files=each) for each in (1, 2)}
    entry, other = entries[number], 3 - number
    content = style.starts(boot)
    spoil(boot, entry, how)
    third = add(loader, boot, tmp_path, next_order(loader, str(boot)), 3, files=3, left=2)
    loader.count(str(boot), 3)
    loader.bless(str(boot), 3)
    loader.promote(str(boot), other, next_order(loader, str(boot)))
    loader.remove(str(boot), 3)
    loader.tidy(str(boot))
    assert (third.name.order, loader.leftovers(str(boot)), loader.damaged(str(boot))) == (3, [], [])
    assert loader.broken(str(boot)) == [entry.name]
    if entry.kernel != entry.path:
        assert Path(f"{boot}{entry.kernel}").exists()
    saved = shutil.copytree(boot, tmp_path / "saved")
    kernel, initrd = (boot_file(tmp_path / name, make(number)) for name, make in (("k", kernel_of), ("i", initrd_of)))
    loader.restore(str(boot), entry, kernel, initrd)
    assert (loader.broken(str(boot)), loader.leftovers(str(boot)), leftovers(boot)) == ([], [], [])
    assert loader.entries(str(boot))[1] == entry
    loader.remove(str(boot), other)
    assert style.starts(boot) == (content if number == 2 else started(1, 1))
    loader.remove(str(saved), number)
    assert (loader.broken(str(saved)), leftovers(saved), named(loader, saved)) == ([], [], [f"4-{other}"])


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "gone"])
def test_addon_is_written_again(gone: bool, boot: Path, tmp_path: Path) -> None:
    """Beside a kernel that is whole."""
    (style,) = (style for style in STYLES if style.name == "uki of the image")
    loader = style.make()
    entry = add(loader, boot, tmp_path, 1, 1, files=1)
    addon = Path(f"{boot}{addon_of(entry.kernel)}")
    content = addon.read_bytes()
    addon.write_bytes(b"other")
    if gone:
        addon.unlink()
    assert loader.damaged(str(boot)) == [os.path.dirname(entry.kernel)]
    kernel, initrd = boot_file(tmp_path / "k", kernel_of(1)), boot_file(tmp_path / "i", initrd_of(1))
    loader.restore(str(boot), entry, kernel, initrd)
    assert addon.read_bytes() == content
    assert (loader.damaged(str(boot)), loader.broken(str(boot)), leftovers(boot)) == ([], [], [])


def test_directory_with_the_name_of_an_entry(boot: Path, tmp_path: Path) -> None:
    loader = STYLES[0].make()
    add(loader, boot, tmp_path, 1, 1, files=1)
    odd = boot / "loader/entries/bootc-live-99-99.conf"
    odd.mkdir()
    add(loader, boot, tmp_path, 2, 2, files=2)
    assert (named(loader, boot), loader.leftovers(str(boot)), loader.damaged(str(boot))) == (["2-2", "1-1"], [], [])
    assert files.strange(str(boot)) == [str(odd)]
