"""Services that fail without a disk: which of them an image has enabled, whatever shape it has."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from bootc_live.cli import inspect
from bootc_live.cli.options.parser import make_parser
from bootc_live.config.cmdline.tokens import split_cmdline
from bootc_live.landing.sysroot.services import check_services
from bootc_live.rootfs.disk_units import DISK_UNITS, masked_by
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, hardlink, layer, symlink

UNITS = "../../../usr/lib/systemd/system"
BOOTLOADER, UPDATES, CACHE = "bootloader-update.service", "bootc-fetch-apply-updates.timer", "dnf5-makecache.timer"
ETC, USR, OSTREE = "etc/systemd/system", "usr/lib/systemd/system", "usr/etc/systemd/system"
WANTS = f"{ETC}/multi-user.target.wants/{BOOTLOADER}"

PRESET, LATER = "usr/lib/systemd/system-preset/80-x.preset", "usr/lib/systemd/system-preset/90-x.preset"
ID, OSTREE_ID = "etc/machine-id", "usr/etc/machine-id"
FIRST, UNIT, MINE = {ID: "text:uninitialized\n"}, {f"{USR}/{BOOTLOADER}": ""}, "etc/systemd/system-preset/80-x.preset"

# Links and files of a tree ("" for one with something in it, "text:" before what is in it), and what it has enabled.
# None of them is booted for the first time, unless it says so.
TREES: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing": ({}, []),
    "a unit that nothing asks for": ({f"{USR}/{BOOTLOADER}": ""}, []),
    "wanted": ({WANTS: f"{UNITS}/{BOOTLOADER}", f"{USR}/{BOOTLOADER}": ""}, [BOOTLOADER]),
    "required": ({f"{ETC}/boot-complete.target.requires/{BOOTLOADER}": f"{UNITS}/{BOOTLOADER}"}, [BOOTLOADER]),
    "wanted by the vendor": ({f"{USR}/timers.target.wants/{CACHE}": f"../{CACHE}"}, [CACHE]),
    "wanted as ostree images have it": ({f"{OSTREE}/timers.target.wants/{UPDATES}": f"{UNITS}/{UPDATES}"}, [UPDATES]),
    "several": (
        {f"{ETC}/timers.target.wants/{UPDATES}": f"{UNITS}/{UPDATES}", WANTS: f"{UNITS}/{BOOTLOADER}"},
        [BOOTLOADER, UPDATES],
    ),
    "masked": ({WANTS: f"{UNITS}/{BOOTLOADER}", f"{ETC}/{BOOTLOADER}": "/dev/null"}, []),
    "masked by the vendor": ({WANTS: f"{UNITS}/{BOOTLOADER}", f"{USR}/{BOOTLOADER}": "/dev/null"}, []),
    "masked as ostree images have it": ({WANTS: f"{UNITS}/{BOOTLOADER}", f"{OSTREE}/{BOOTLOADER}": "/dev/null"}, []),
    "only the wish is masked": ({WANTS: "/dev/null"}, []),
    "masked by an empty file": ({WANTS: f"{UNITS}/{BOOTLOADER}", f"{ETC}/{BOOTLOADER}": "text:", **UNIT}, []),
    "an empty file of the vendor": ({WANTS: f"{UNITS}/{BOOTLOADER}", f"{USR}/{BOOTLOADER}": "text:"}, []),
    "masked by the vendor, and not here": (
        {WANTS: f"{UNITS}/{BOOTLOADER}", f"{ETC}/{BOOTLOADER}": "", f"{USR}/{BOOTLOADER}": "/dev/null"},
        [BOOTLOADER],
    ),
    "the wish of the vendor is masked": (
        {f"{USR}/timers.target.wants/{CACHE}": f"../{CACHE}", f"{ETC}/timers.target.wants/{CACHE}": "/dev/null"},
        [],
    ),
    "preset": ({**FIRST, **UNIT, PRESET: f"text:# x\n; y\n\n  enable\t{BOOTLOADER}\ndisable *\n"}, [BOOTLOADER]),
    "preset by a pattern": ({**FIRST, **UNIT, PRESET: "text:ignore a\nenable boot[kl]*.service\n"}, [BOOTLOADER]),
    "preset by none": ({**FIRST, **UNIT, PRESET: "text:enable x.service\n"}, [BOOTLOADER]),
    "preset to be off": ({**FIRST, **UNIT, LATER: f"text:enable {BOOTLOADER}\n", PRESET: "text:disable *\n"}, []),
    "preset to be left alone": ({**FIRST, **UNIT, PRESET: f"text:ignore {BOOTLOADER}\nenable *\n"}, []),
    "preset here, and otherwise by the vendor": (
        {**FIRST, **UNIT, MINE: "text:disable *\n", PRESET: "text:enable *\n"},
        [],
    ),
    "preset, of another kind": (
        {**FIRST, **UNIT, PRESET: "text:disable *\n", "usr/lib/systemd/system-preset/10-x": "text:enable *\n"},
        [],
    ),
    "preset to be off, and wanted": ({**FIRST, **UNIT, PRESET: "text:disable *\n", WANTS: "x"}, [BOOTLOADER]),
    "preset, and masked": ({**FIRST, PRESET: "text:enable *\n", f"{ETC}/{BOOTLOADER}": "/dev/null", **UNIT}, []),
    "preset, and not there": ({**FIRST, PRESET: "text:enable *\n"}, []),
    "preset, and no ID": ({ID: "no file", **UNIT, PRESET: "text:enable *\n"}, [BOOTLOADER]),
    "preset, and an empty ID": ({ID: "text:", **UNIT, PRESET: "text:enable *\n"}, []),
    "preset, and an ID": ({ID: "text:0123456789abcdef0123456789abcdef\n", **UNIT, PRESET: "text:enable *\n"}, []),
    "preset as ostree images have it": (
        {ID: "no file", OSTREE_ID: "text:uninitialized\n", **UNIT, PRESET: "text:enable *\n"},
        [BOOTLOADER],
    ),
    "preset, and an empty ID as ostree images have it": (
        {ID: "no file", OSTREE_ID: "text:", **UNIT, PRESET: "text:enable *\n"},
        [],
    ),
    "other units": ({f"{ETC}/multi-user.target.wants/sshd.service": f"{UNITS}/sshd.service"}, []),
    "a directory of another kind": ({f"{ETC}/x.service.d/{BOOTLOADER}": ""}, []),
}


def files(tree: dict[str, str]) -> dict[str, str]:
    """What there is in a tree, with an ID of the machine that no first boot replaces, unless it says so."""
    return {name: target for name, target in {ID: "text:", **tree}.items() if target != "no file"}


def text(target: str) -> str | None:
    """What a file has in it; None for a link."""
    return target.removeprefix("text:") if target.startswith("text:") else None if target else "[Unit]\n"


def archive(where: Path, tree: dict[str, str], *, objects: bool) -> Path:
    """Write an image of a tree; with `objects`, names are hard links to what ostree names by its content."""
    members = [directory("etc/"), directory("usr/")]
    for number, (name, target) in enumerate(files(tree).items()):
        first = f"sysroot/ostree/repo/objects/{number:02}/x.file" if objects else name
        content = text(target)
        members.append(symlink(first, target) if content is None else file(first, content))
        members += [hardlink(name, first)] if objects else []
    write_archive(where / "image.oci", Image([Layer(layer(*members))], architecture=HERE))
    return where / "image.oci"


def inspected(*argv: str) -> None:
    """Run the verb in this process: it has loaded everything."""
    assert inspect.main(make_parser().parse_args(["inspect", *argv])) == 0


@pytest.mark.parametrize("objects", [False, True], ids=["plain", "ostree"])
@pytest.mark.parametrize(("tree", "enabled"), TREES.values(), ids=TREES)
def test_inspect(
    tree: dict[str, str], enabled: list[str], objects: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = str(archive(tmp_path, tree, objects=objects))
    inspected("--services", "--json", source)
    told = json.loads(capfd.readouterr().out)
    assert [unit["name"] for unit in told["disk_services"]] == enabled
    inspected("--services", source)
    said = capfd.readouterr().out
    assert f"services  {len(enabled)} for a system on a disk" in said
    assert (" ".join(f"systemd.mask={name}" for name in enabled) in said) or not enabled
    inspected("--json", source)
    assert json.loads(capfd.readouterr().out)["disk_services"] is None


@pytest.mark.parametrize(("tree", "enabled"), TREES.values(), ids=TREES)
def test_warning_of_a_boot(tree: dict[str, str], enabled: list[str], tmp_path: Path) -> None:
    for name, target in files(tree).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = text(target)
        if content is None:
            path.symlink_to(target)
        else:
            path.write_text(content)
    said = check_services(str(tmp_path), "docker://a/b", "quiet")
    assert (said is not None) == bool(enabled)
    for name in enabled:
        assert f"systemd.mask={name}" in (said or "")
    line = " ".join(f"systemd.mask={name}" for name in enabled)
    assert check_services(str(tmp_path), "docker://a/b", f"quiet {line}") is None


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("", set()),
        ("systemd.mask", {""}),
        ("systemd.mask=a.timer systemd.mask=b", {"a.timer", "b", "b.service"}),
        ('"systemd.mask=a.timer" rd.systemd.mask=c.timer', {"a.timer"}),
    ],
)
def test_masked_by(line: str, masked: set[str]) -> None:
    assert masked_by(split_cmdline(line)) >= masked
    assert "c.timer" not in masked_by(split_cmdline(line))


def test_links_out_of_the_tree(tmp_path: Path) -> None:
    """What lies outside of the image's tree counts for nothing."""
    outside = tmp_path / "outside/multi-user.target.wants"
    outside.mkdir(parents=True)
    os.symlink("x", outside / BOOTLOADER)
    root = tmp_path / "root"
    (root / "etc/systemd").mkdir(parents=True)
    os.symlink(str(tmp_path / "outside"), root / "etc/systemd/system")
    assert check_services(str(root), "x", "") is None


def test_page_has_the_table(repo: Path) -> None:
    page = (repo / "docs/distributions.md").read_text()
    rows = [line for line in page.splitlines() if re.match(r"\| `\S+\.(service|timer)` \|", line)]
    assert rows == [f"| `{unit.name}` | {unit.origin} | {unit.why} |" for unit in DISK_UNITS]


def test_names_are_unique_and_whole() -> None:
    names = [unit.name for unit in DISK_UNITS]
    assert len(set(names)) == len(names)
    assert all(name.endswith((".service", ".timer")) for name in names)
