"""Each dracut builds an initrd with our modules, everything is where it belongs, and the packed program works there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live import __version__
from tests.lib.oci_writer import Compression, Image, Layer, write_archive
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.tar_writer import file, layer
from tests.roots.root import ALL, Root
from tests.roots.root import HERE as SCRIPTS

OURS = "bootc-live bootc-live-net bootc-live-registry"
LIMIT = 8 * 2**20


@dataclass(frozen=True)
class Initrd:
    """An initrd and the directory it is unpacked to."""

    root: Root
    flavour: str
    path: Path
    tree: Path
    said: str

    def run(self, *argv: str, cmdline: str = "", ok: bool = True) -> str:
        """Runs a command inside; gives what it printed, on both outputs."""
        both = ("/bin/sh", "-c", 'exec "$@" 2>&1', "sh")
        return self.root.run(SCRIPTS / "enter-initrd", self.tree, cmdline, *both, *argv, ok=ok).stdout

    def has(self, name: str) -> bool:
        return os.path.lexists(self.tree / name)


def build(root: Root, where: Path, flavour: str, modules: str) -> Initrd:
    release, kernel_modules = root.kernel()
    path, tree = where / f"{root.name}-{flavour}.img", where / f"{root.name}-{flavour}"
    command = (SCRIPTS / "build-initrd", path, tree, release, kernel_modules, flavour, modules)
    done = root.run(*command)
    return Initrd(root, flavour, path, tree, done.stdout + done.stderr)


@pytest.fixture(scope="session", params=["systemd", "plain"])
def initrd(request: pytest.FixtureRequest, root: Root, shared: Path) -> Iterator[Initrd]:
    """An initrd with all our modules and systemd, or one with the base alone that dracut's own init runs."""
    made = build(root, shared, request.param, OURS if request.param == "systemd" else "bootc-live")
    yield made
    shutil.rmtree(made.tree)
    made.path.unlink()


@pytest.fixture(scope="session")
def image(shared: Path) -> Path:
    """An archive with a layer of every compression."""
    packing: tuple[tuple[bytes, Compression], ...] = (
        (BASE, "gzip"),
        (UPPER, "zstd"),
        (layer(file("etc/packed", "in every way\n")), "none"),
    )
    layers = [Layer(tar, compression) for tar, compression in packing]
    return write_archive(shared / "root.oci", Image(layers, architecture=HERE))


@contextlib.contextmanager
def embedded(initrd: Initrd, image: Path) -> Iterator[str]:
    """The archive at a path of the initramfs."""
    place = initrd.tree / "root.oci"
    os.link(image, place)
    try:
        yield "/root.oci"
    finally:
        place.unlink()


def test_dracut_was_content(initrd: Initrd) -> None:
    lines = [line for line in initrd.said.splitlines() if re.search(r"bootc|python|FATAL", line)]
    assert lines == []


def test_everything_is_there(initrd: Initrd) -> None:
    release, _ = initrd.root.kernel()
    modules = f"usr/lib/modules/{release}/kernel"
    wanted = {
        "usr/bin/bootc-live",
        "usr/bin/python3",
        f"usr/bin/python{initrd.root.python}",
        "usr/bin/zstd",
        "usr/lib/bootc-live/boot",
        "usr/lib/bootc-live/bootc-live.pyz",
        f"{initrd.root.hooks}/cmdline/95-parse-bootc-live.sh",
    }
    if initrd.flavour == "systemd":
        wanted |= {
            "usr/lib/systemd/system-generators/bootc-live-generator",
            "usr/lib/systemd/system/bootc-live.service",
        }
        wanted |= {f"{initrd.root.hooks}/initqueue/online/50-resolv-from-lease.sh"}
    else:
        wanted |= {f"{initrd.root.hooks}/mount/50-mount-bootc-live.sh"}
    assert {name for name in wanted if not initrd.has(name)} == set()
    for name in ("fs/erofs/erofs", "fs/overlayfs/overlay", "drivers/block/loop"):
        assert list((initrd.tree / modules).glob(f"{name}.ko*")), name


def test_hooks_and_generator_can_be_run(initrd: Initrd) -> None:
    """Dracut sources only hooks that are executable, systemd runs only such generators."""
    for path in initrd.tree.rglob("*bootc-live*"):
        if path.suffix == ".sh" or path.name in ("bootc-live", "bootc-live-generator", "boot"):
            assert path.is_dir() or path.stat().st_mode & 0o111 == 0o111, path
    assert (initrd.tree / "usr/lib/bootc-live/boot").stat().st_mode & 0o111 == 0o111


def test_what_only_the_other_flavour_needs_is_not(initrd: Initrd) -> None:
    hook = initrd.has(f"{initrd.root.hooks}/mount/50-mount-bootc-live.sh")
    unit = initrd.has("usr/lib/systemd/system/bootc-live.service")
    assert (hook, unit) == ((False, True) if initrd.flavour == "systemd" else (True, False))


def test_only_compiled_modules(initrd: Initrd) -> None:
    """Nothing is left to compile at boot, and no source takes room."""
    lib = initrd.tree / f"usr/lib/python{initrd.root.python}"
    files = [path for path in lib.rglob("*") if path.is_file() and "lib-dynload" not in path.parts]
    assert {path.suffix for path in files} == {".pyc"}
    assert not list(lib.rglob("__pycache__"))


def test_version(initrd: Initrd) -> None:
    assert initrd.run("bootc-live", "--version") == f"bootc-live {__version__}\n"


def test_help(initrd: Initrd) -> None:
    assert "examples:" in initrd.run("bootc-live", "--help")
    assert "usage: bootc-live boot" in initrd.run("bootc-live", "boot", "--help")


def test_kargs(initrd: Initrd) -> None:
    said = initrd.run("bootc-live", "kargs", "root=bootc-live:docker://r.example/ö rw")
    assert "source: docker://r.example/ö\n" in said
    assert "bootclabel (text) [latest]" in initrd.run("bootc-live", "kargs")
    said = initrd.run("bootc-live", "kargs", "bootc.live.etc.ro bootc.zram=x", ok=False)
    assert "did you mean 'bootc.live.etc.rw'?; 'bootc.zram=x' is not a size" in said


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_inspect(initrd: Initrd, image: Path, options: tuple[str, ...]) -> None:
    with embedded(initrd, image) as path:
        said = initrd.run("bootc-live", "inspect", *options, path)
    assert said.count("sha256:") == (5 if not options else 8)


def test_errors(initrd: Initrd) -> None:
    said = initrd.run("bootc-live", "inspect", "/missing.oci", ok=False)
    assert "bootc-live: error: cannot open the archive '/missing.oci': No such file or directory\n" in said
    said = initrd.run("bootc-live", "status", ok=False)
    assert "there is no receipt at '/run/bootc-live/receipt.json'" in said


def test_registry(initrd: Initrd) -> None:
    """As far as a machine without one can show: everything for HTTP is loaded, and only the connection is refused."""
    said = initrd.run("bootc-live", "inspect", "--unsecure", "docker://127.0.0.1:1/os", ok=False)
    if initrd.flavour == "systemd":
        assert "cannot reach http://127.0.0.1:1/v2/os/manifests/latest" in said
        assert "Connection refused" in said
        said = initrd.run("bootc-live", "inspect", "docker://127.0.0.1:1/os", ok=False)
        # Only the Debian 13 root has certificate authorities to pack.
        refused = "Connection refused" if initrd.root.dracut == "106" else "there are no certificate authorities here"
        assert refused in said
    else:
        assert "this initramfs was built without registry support" in said


BOOT = """
set -e
mkdir -p /sysroot
/usr/lib/bootc-live/boot
cat /sysroot/etc/hostname /sysroot/etc/packed
echo written >/sysroot/etc/new
echo written >/sysroot/var/new
! echo written >/sysroot/usr/new
bootc-live status
umount -R /sysroot
"""


def test_boot(initrd: Initrd, image: Path) -> None:
    """The whole way, from /proc/cmdline to a mounted root, with the programs of the initramfs."""
    with embedded(initrd, image) as path:
        said = initrd.run("/bin/sh", "-c", BOOT, cmdline=f"quiet root=bootc-live:{path}")
    lines = said.splitlines()
    assert "small, changed above" in lines
    assert "in every way" in lines
    assert "image     /root.oci" in lines
    assert not [line for line in lines if "error" in line or "Traceback" in line]


def test_a_failed_boot_is_told_on_every_console(initrd: Initrd) -> None:
    script = "/usr/lib/bootc-live/boot; echo status=$?; cat /dev/kmsg"
    lines = initrd.run("/bin/sh", "-c", script, cmdline="root=bootc-live:/missing.oci").splitlines()
    errors = [line for line in lines if "missing.oci" in line and "error" in line]
    assert errors[0].startswith("bootc-live: error: cannot open the archive '/missing.oci'")
    assert "status=1" in lines
    assert lines[-2:] == [f"<3>{errors[0]}", f"<3>{lines[lines.index(errors[0]) + 1]}"]


GENERATE = """
mkdir /tmp/n /tmp/e /tmp/l
/usr/lib/systemd/system-generators/bootc-live-generator /tmp/n /tmp/e /tmp/l
echo status=$?
ls /tmp/e /tmp/n /tmp/l
"""
HOOK = """
. /lib/dracut-lib.sh
root=$(getarg root=)
mkdir -p /sysroot
for hook in "$hookdir"/cmdline/*bootc-live* "$hookdir"/mount/*bootc-live*; do . "$hook"; done
echo "rootok=$rootok"
ismounted /sysroot && echo mounted && umount -R /sysroot
"""


def test_dracut_s_way_to_the_root(initrd: Initrd, image: Path) -> None:
    """With systemd the generator takes /sysroot over, without it the mount hook makes the root."""
    with embedded(initrd, image) as path:
        script = GENERATE if initrd.flavour == "systemd" else HOOK
        ours = initrd.run("/bin/sh", "-c", script, cmdline=f"root=bootc-live:{path}").split()
        others = initrd.run("/bin/sh", "-c", script, cmdline="root=/dev/sda1", ok=False).split()
    if initrd.flavour == "systemd":
        assert ours[:4] == ["status=0", "/tmp/e:", "initrd-root-fs.target.requires", "sysroot.mount"]
        assert others == ["status=0", "/tmp/e:", "/tmp/l:", "/tmp/n:"]
    else:
        assert ours[-2:] == ["rootok=1", "mounted"]
        assert others == ["rootok="]


def test_growth(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All our modules add at most 8 MiB to a Debian 13 initrd that has dracut's network module."""
    (builder,) = (root for root in ALL if root.dracut == "106")
    sizes = {}
    for name, modules in (("without", "network"), ("with", f"network {OURS}")):
        (shared / name).mkdir()
        made = build(builder, shared / name, "systemd", modules)
        sizes[name] = made.path.stat().st_size
    growth = sizes["with"] - sizes["without"]
    with capsys.disabled():
        print(f"\ninitramfs growth: {growth / 2**20:.2f} MiB")
    assert growth <= LIMIT


@pytest.mark.parametrize("flavour", ["systemd", "plain"])
def test_no_initrd_without_the_zipapp(flavour: str, root: Root, shared: Path) -> None:
    release, kernel_modules = root.kernel()
    path, tree = shared / f"{root.name}-{flavour}-none.img", shared / f"{root.name}-{flavour}-none"
    script = SCRIPTS / "build-initrd"
    command = ("env", "BOOTC_LIVE_PYZ=/nowhere.pyz", script, path, tree, release, kernel_modules, flavour, "bootc-live")
    done = root.run(*command, ok=False)
    assert done.returncode != 0
    assert "/nowhere.pyz is missing: install bootc-live, or set BOOTC_LIVE_PYZ" in done.stdout + done.stderr
    assert not path.exists()
