"""Boot loaders of an image: which files are taken, and what a boot partition has after installation and update."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, LandingError
from bootc_live.landing.disk.boot_partition import files, programs
from bootc_live.landing.disk.boot_partition.grub import Grub
from bootc_live.landing.disk.boot_partition.interface import BootLoader, Esp
from bootc_live.landing.disk.boot_partition.type1 import SystemdBoot
from bootc_live.landing.disk.boot_partition.type2 import SystemdBootUki
from tests.lib.power_cut import power_cut
from tests.unit.boot_partitions import STYLES, add, grub_program, quick, started

__all__ = ["quick"]

SYSTEMD = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
SHIM, KEYS = "usr/lib/shim/shimx64.efi", "usr/lib/shim/mmx64.efi"
GRUB = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
CONF = "loader/loader.conf", "loader/entries.srel"
FEDORA = "usr/lib/bootupd/updates/EFI/fedora/"


def image(top: Path, *names: str) -> str:
    """A tree with programs; each has its name as content, GRUB more."""
    for name in names:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = "/EFI/fedora" if "fedora" in name else "/EFI/debian"
        path.write_bytes(grub_program(prefix) if "grubx64" in name else name.encode())
    return str(top)


def content(boot: Path) -> dict[str, str]:
    """Files of programs, and what they are."""
    found = {str(path.relative_to(boot)): path.read_bytes() for path in boot.rglob("*.[Ee][Ff][Ii]")}
    return {name: "grub" if data[:2] == b"MZ" else data.decode() for name, data in found.items()}


@pytest.mark.parametrize(
    ("loader", "names", "expected"),
    [
        (
            SystemdBoot(),
            [SYSTEMD],
            {"EFI/systemd/systemd-bootx64.efi": SYSTEMD, "EFI/BOOT/BOOTX64.EFI": SYSTEMD},
        ),
        # Shim would refuse one that is not signed.
        (
            SystemdBootUki(),
            [SYSTEMD, f"{SHIM}.signed"],
            {"EFI/systemd/systemd-bootx64.efi": SYSTEMD, "EFI/BOOT/BOOTX64.EFI": SYSTEMD},
        ),
        (
            SystemdBoot(),
            [SYSTEMD, f"{SYSTEMD}.signed", SHIM, f"{SHIM}.signed", KEYS, f"{KEYS}.signed"],
            {
                "EFI/systemd/systemd-bootx64.efi": f"{SYSTEMD}.signed",
                "EFI/BOOT/BOOTX64.EFI": f"{SHIM}.signed",
                "EFI/BOOT/grubx64.efi": f"{SYSTEMD}.signed",
                "EFI/BOOT/mmx64.efi": f"{KEYS}.signed",
            },
        ),
        (
            Grub(),
            [GRUB, f"{SHIM}.signed"],
            {"EFI/BOOT/BOOTX64.EFI": f"{SHIM}.signed", "EFI/BOOT/grubx64.efi": "grub"},
        ),
        (
            Grub(),
            [f"{FEDORA}grubx64.efi", f"{FEDORA}shimx64.efi"],
            {"EFI/BOOT/BOOTX64.EFI": f"{FEDORA}shimx64.efi", "EFI/BOOT/grubx64.efi": "grub"},
        ),
        (Grub(), ["usr/lib/grub/x86_64-efi/monolithic/grubx64.efi"], {"EFI/BOOT/BOOTX64.EFI": "grub"}),
        (
            SystemdBoot(),
            [SYSTEMD.replace("x64", "aa64")],
            {
                "EFI/systemd/systemd-bootaa64.efi": SYSTEMD.replace("x64", "aa64"),
                "EFI/BOOT/BOOTAA64.EFI": SYSTEMD.replace("x64", "aa64"),
            },
        ),
    ],
)
def test_programs(loader: BootLoader, names: list[str], expected: dict[str, str], tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    loader.install(image(tmp_path / "root", *names), str(boot))
    assert content(boot) == expected
    before = {path: path.stat().st_ino for path in boot.rglob("*")}
    loader.install(str(tmp_path / "root"), str(boot))
    assert {path: path.stat().st_ino for path in boot.rglob("*")} == before


@pytest.mark.parametrize(
    ("loader", "names", "said"),
    [
        (SystemdBoot(), [GRUB], "the image has no systemd-boot"),
        (SystemdBootUki(), [], "the image has no systemd-boot"),
        (Grub(), [SYSTEMD], "the image has no GRUB for UEFI"),
    ],
)
def test_missing_programs(loader: BootLoader, names: list[str], said: str, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.mkdir()
    (tmp_path / "root").mkdir()
    with pytest.raises(LandingError, match=said):
        loader.install(image(tmp_path / "root", *names), str(boot))
    assert list(boot.iterdir()) == []


@pytest.mark.parametrize("loader", [SystemdBoot(), SystemdBootUki(), Grub()], ids=["type 1", "type 2", "grub"])
def test_kernels_on_another_partition(loader: BootLoader, tmp_path: Path) -> None:
    """Firmware needs the EFI system partition, and nobody else does: upgrades leave it alone."""
    boot, esp = tmp_path / "boot", tmp_path / "esp"
    boot.mkdir()
    esp.mkdir()
    root = image(tmp_path / "root", f"{SYSTEMD}.signed", f"{SHIM}.signed", GRUB)
    loader.install(root, str(boot), Esp(str(esp), "ABCD-1234"))
    assert content(boot) == {}
    there = content(esp)
    assert there["EFI/BOOT/BOOTX64.EFI"] == f"{SHIM}.signed"
    before = {path: path.read_bytes() for path in esp.rglob("*") if path.is_file()}
    for number in (1, 2):
        add(loader, boot, tmp_path, number, number, files=number)
    loader.bless(str(boot), 1)
    assert [entry.name.order for entry in loader.entries(str(boot))] == [2, 1]
    assert {path: path.read_bytes() for path in esp.rglob("*") if path.is_file()} == before
    said = {
        str(path.relative_to(esp)): data.decode() for path, data in before.items() if path.suffix in (".conf", ".cfg")
    }
    if isinstance(loader, Grub):
        lead = said.pop("EFI/debian/grub.cfg")
        assert "--fs-uuid --set=root ABCD-1234\nset prefix=($root)/bootc-live/grub\n" in lead
        assert sorted(path.name for path in (boot / "bootc-live/grub").iterdir()) == ["grub.cfg", "grubenv"]
        assert said == {}
    else:
        assert list(said) == [CONF[0]]
        assert (boot / CONF[1]).read_text() == "type1\n"
    assert not (esp / "loader/entries").exists()


def test_link_out_of_the_image_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of this machine")
    path = tmp_path / "root" / SYSTEMD
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "secret")
    with pytest.raises(LandingError, match="the image has no systemd-boot"):
        SystemdBoot().install(str(tmp_path / "root"), str(tmp_path))


def test_configuration_of_systemd_boot(tmp_path: Path) -> None:
    root = image(tmp_path / "root", SYSTEMD)
    SystemdBoot().install(root, str(tmp_path))
    configuration, kind = (tmp_path / name for name in CONF)
    assert configuration.read_text() == "timeout 3\neditor no\ndefault bootc-live-*\n"
    assert kind.read_text() == "type1\n"
    configuration.write_text("timeout 9\n")
    SystemdBoot().install(root, str(tmp_path))
    assert configuration.read_text() == "timeout 9\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ",
        grub_program("EFI"),
        grub_program("/EFI/../../etc"),
        grub_program("/EFI/debian").replace(b"mods", b"nods"),
        grub_program("/EFI/debian").replace(b"mimg", b"nimg"),
    ],
)
def test_program_without_a_prefix(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "grub.efi").write_bytes(data)
    with pytest.raises(BootcLiveError):
        programs.grub_prefix(str(tmp_path / "grub.efi"))


def test_grub_of_another_distribution_keeps_the_entries(tmp_path: Path) -> None:
    """Also if a block of an earlier time is there."""
    loader, boot = Grub(), tmp_path / "boot"
    boot.mkdir()
    debian, fedora = image(tmp_path / "debian", GRUB), image(tmp_path / "fedora", f"{FEDORA}grubx64.efi")
    loader.install(debian, str(boot))
    add(loader, boot, tmp_path, 1, 1, files=1)
    for number, root in ((2, fedora), (3, debian)):
        loader.install(root, str(boot))
        add(loader, boot, tmp_path, number, number, files=1)
    assert [entry.name.order for entry in loader.entries(str(boot))] == [3, 2, 1]


def test_damaged_environment_block_loses_no_entry(tmp_path: Path) -> None:
    loader, boot = Grub(), tmp_path / "boot"
    boot.mkdir()
    loader.install(image(tmp_path / "root", GRUB), str(boot))
    for number in (1, 2):
        add(loader, boot, tmp_path, number, number, files=number)
    for damaged in (b"", b"x" * 1024, b"# GRUB Environment Block\n".ljust(1024, b"#")):
        (boot / "EFI/debian/grubenv").write_bytes(damaged)
        assert [entry.name.order for entry in loader.entries(str(boot))] == [2, 1]
        loader.bless(str(boot), 2)
        assert [entry.name.order for entry in loader.entries(str(boot))] == [2, 1]
    add(loader, boot, tmp_path, 3, 3, files=3)
    assert STYLES[1].starts(boot) == started(3, 3)


@pytest.mark.parametrize("loader", [SystemdBoot(), Grub()], ids=["systemd-boot", "grub"])
def test_cut_while_the_loader_is_updated(loader: BootLoader, tmp_path: Path) -> None:
    """What firmware starts is the old or the new program, whole, and so is each file behind it."""
    old = image(tmp_path / "old", f"{SYSTEMD}.signed", f"{SHIM}.signed", GRUB)
    new = image(tmp_path / "new", f"{SYSTEMD}.signed", f"{SHIM}.signed", GRUB)
    for path in (tmp_path / "new").rglob("*.signed"):
        path.write_bytes(path.read_bytes() + b" new")
    ends = []
    for number, root in enumerate((old, new)):
        (tmp_path / f"whole{number}").mkdir()
        loader.install(root, str(tmp_path / f"whole{number}"))
        ends.append({name.name: name.read_bytes() for name in (tmp_path / f"whole{number}/EFI").rglob("*.?fi")})
    for cut in range(1, 100):
        boot = tmp_path / f"boot{cut}"
        boot.mkdir()
        with power_cut(0, tmp_path, files):
            loader.install(old, str(boot))
        with power_cut(cut, tmp_path, files) as steps:
            loader.install(new, str(boot))
        if not steps.dead:
            break
        steps.lose("everything")
        for path in (boot / "EFI").rglob("*.?fi"):
            assert path.read_bytes() in {end[path.name] for end in ends}, f"cut {cut}"
        with power_cut(0, tmp_path, files):
            loader.install(new, str(boot))
        assert list(boot.rglob("*.new")) == []
    else:
        pytest.fail("no end")
    assert cut > 8
