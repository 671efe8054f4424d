"""Each dracut builds an initrd with our modules, everything is where it belongs, and the packed program works there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lib.zram import device
from tests.roots.initrd import BUILT, KINDS, OURS, SHARED, Initrd, Kind, build, embedded, parameters
from tests.roots.root import BUILDER, HERE, OLDEST, Root

PYTHON = "/usr/lib/bootc-live/python"
LIMIT = 6 * 2**20
PYTHON_LIMIT = 17 * 2**18
MODULES = (
    "drivers/block/loop",
    "drivers/block/virtio_blk",
    "drivers/firmware/dmi-sysfs",
    "drivers/firmware/qemu_fw_cfg",
    "drivers/nvme/host/nvme",
    "drivers/scsi/sd_mod",
    "drivers/scsi/sr_mod",
    "drivers/scsi/virtio_scsi",
    "fs/erofs/erofs",
    "fs/ext4/ext4",
    "fs/fat/vfat",
    "fs/isofs/isofs",
    "fs/nls/nls_ascii",
    "fs/nls/nls_cp437",
    "fs/nls/nls_iso8859-1",
    "fs/nls/nls_utf8",
    "fs/overlayfs/overlay",
    "fs/xfs/xfs",
)
# The compressors have other names in other kernels.
ZRAM_MODULES = ("drivers/block/zram/zram", "lib/lz4/lz4hc_compress", "mm/zsmalloc")

# For what the program and our scripts decide alone, not what an initrd has: the oldest and the newest Python, without
# systemd and with it.
ONE_OF_A_KIND = parameters(KINDS, also_long=(Kind(OLDEST, "systemd"), SHARED))


@pytest.mark.parametrize("initrd", parameters(BUILT), indirect=True)
def test_dracut_was_content(initrd: Initrd) -> None:
    lines = [line for line in initrd.said.splitlines() if re.search(r"bootc|python|FATAL", line)]
    assert lines == []


def test_everything_is_there(initrd: Initrd) -> None:
    release, _ = initrd.root.kernel()
    modules = f"usr/lib/modules/{release}/kernel"
    wanted = {
        "usr/bin/bootc-live",
        f"usr/bin/python{initrd.root.python}",
        "usr/lib/bootc-live/boot",
        "usr/lib/bootc-live/bootc-live.pyz",
        "usr/lib/bootc-live/built",
        "usr/lib/bootc-live/is-on",
        "usr/lib/bootc-live/lib.sh",
        "usr/lib/bootc-live/python",
        "usr/lib/bootc-live/time-limit",
        "usr/lib/bootc-live/wait-for-device",
        "usr/lib/dracut/need-initqueue",
        "usr/sbin/blkid",
        "usr/sbin/initqueue",
        f"{initrd.root.hooks}/cmdline/95-parse-bootc-live.sh",
    }
    if initrd.flavour == "systemd":
        wanted |= {
            "usr/lib/bootc-live/fetch-url",
            "usr/lib/bootc-live/name-servers",
            "usr/lib/bootc-live/nfs-url",
            "usr/lib/systemd/system-generators/bootc-live-generator",
            "usr/lib/systemd/system-generators/bootc-live-net-generator",
            "usr/lib/systemd/system/bootc-live.service",
            "usr/sbin/mke2fs",
        }
    else:
        wanted |= {f"{initrd.root.hooks}/mount/50-mount-bootc-live.sh"}
    assert {name for name in wanted if not initrd.has(name)} == set()
    builtin = (initrd.tree / f"usr/lib/modules/{release}/modules.builtin").read_text()
    for name in (*MODULES, *ZRAM_MODULES) if initrd.flavour == "systemd" else MODULES:
        assert list((initrd.tree / modules).glob(f"{name}.ko*")) or f"kernel/{name}.ko" in builtin, name


@pytest.mark.parametrize("initrd", parameters(BUILT), indirect=True)
def test_interpreter_of_any_name(initrd: Initrd) -> None:
    """The python3 of these roots says that it is 3.9, and fails."""
    assert os.readlink(initrd.tree / PYTHON[1:]) == f"/usr/bin/python{initrd.root.python}"
    assert not initrd.has("usr/bin/python3")


def test_hooks_and_generator_can_be_run(initrd: Initrd) -> None:
    """Dracut sources only hooks that are executable, systemd runs only such generators."""
    for path in initrd.tree.rglob("*bootc-live*"):
        if path.suffix == ".sh" or path.name in ("bootc-live", "bootc-live-generator", "bootc-live-net-generator"):
            assert path.is_dir() or path.stat().st_mode & 0o111 == 0o111, path
    for name in ("boot", "wait-for-device", "is-on", "fetch-url", "name-servers"):
        path = initrd.tree / "usr/lib/bootc-live" / name
        assert not path.exists() or path.stat().st_mode & 0o111 == 0o111, path


def test_what_the_building_machine_has(initrd: Initrd) -> None:
    """Certificates, credentials, mirrors and trust are packed where something reads them; keys stay private."""
    etc = initrd.tree / "etc/bootc-live"
    found = {str(path.relative_to(etc)): path for path in etc.rglob("*") if path.is_file()}
    trust = set() if initrd.kind.shared else {"policy.json", "keys/os.pub"}
    assert {name for name in trust if found[name].is_symlink()} == set()
    if initrd.flavour == "plain" or initrd.kind.shared:
        assert set(found) == trust
        return
    certs = [f"certs.d/h.example:5000/{name}" for name in ("ca.crt", "client.cert", "client.key", "two words/x.crt")]
    assert set(found) == {*certs, "auth.json", "registries.yaml", *trust}
    assert found["certs.d/h.example:5000/client.key"].stat().st_mode & 0o077 == 0
    assert initrd.path.stat().st_mode & 0o077 == 0


def test_build_time(initrd: Initrd) -> None:
    """The clock of a machine that thinks it is 1970 is set to it: decimal seconds, of when the initrd was made."""
    built = (initrd.tree / "usr/lib/bootc-live/built").read_text()
    assert re.fullmatch(r"[0-9]+\n", built)
    assert 0 <= initrd.path.stat().st_mtime - int(built) < 3600


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
    assert (lib / "os.pyc").exists()
    assert not (lib / "importlib/_bootstrap.pyc").exists()


LOOK = """
import json, sys
sys.path.insert(0, "/usr/lib/bootc-live/bootc-live.pyz")
from bootc_live.base import log
print({text.__doc__ for text in (json, json.dumps, log, log.Progress.line)})
# dataclass() writes a text for a class that has none.
print(log.Recorder.__doc__)
for function in (json.dumps, log.Progress.line):
    places = list(function.__code__.co_positions())
    print(all(place[0] for place in places), {column for place in places for column in place[2:]})
"""


def test_compiled_modules_have_lines_for_tracebacks(initrd: Initrd) -> None:
    """And neither docstrings nor columns, which take a third of the room."""
    said = initrd.run(PYTHON, "-I", "-S", "-B", "-c", LOOK)
    assert said == "{'.'}\n.\nTrue {None}\nTrue {None}\n"


COMPILE = """
import dataclasses, marshal, sys, zipimport
from importlib.util import source_hash
sys.path.insert(0, "/usr/lib/bootc-live/bootc-live.pyz")
methods = marshal.loads(zipimport.zipimporter(sys.path[0]).get_data("methods"))
def execute(text, *scopes):
    if source_hash(text.encode()) not in methods:
        print(text)
    exec(methods[source_hash(text.encode())], *scopes)
dataclasses.exec = execute
import bootc_live.cli.boot
"""


def test_methods_of_dataclasses_are_compiled(initrd: Initrd) -> None:
    assert initrd.run(PYTHON, "-I", "-S", "-B", "-c", COMPILE) == ""


@pytest.mark.parametrize("initrd", ONE_OF_A_KIND, indirect=True)
def test_kargs(initrd: Initrd) -> None:
    said = initrd.run("bootc-live", "kargs", "root=bootc-live:docker://r.example/ö rw")
    assert "root=bootc-live:docker://r.example/ö\n" in said
    assert "bootclabel (text) [latest]" in initrd.run("bootc-live", "kargs")
    said = initrd.run("bootc-live", "kargs", "bootc.live.etc.ro bootc.zram=x", ok=False)
    assert "did you mean 'bootc.live.etc.rw'?; 'bootc.zram=x' is not a size" in said


@pytest.mark.parametrize("initrd", ONE_OF_A_KIND, indirect=True)
def test_errors(initrd: Initrd) -> None:
    said = initrd.run("bootc-live", "inspect", "/missing.oci", ok=False)
    assert "bootc-live: error: cannot open the archive '/missing.oci': No such file or directory\n" in said
    # What cannot be printed is told by its code.
    assert r"'/a\tb\x1b'" in initrd.run("bootc-live", "inspect", "/a\tb\x1b", ok=False)
    said = initrd.run("bootc-live", "status", ok=False)
    assert "there is no receipt at '/run/bootc-live/receipt.json'" in said


def test_zram(initrd: Initrd, image: Path) -> None:
    """As far as a kernel that is not the initrd's can show: on zram, or an error that tells what to add."""
    script = "/usr/lib/bootc-live/boot && grep ' - ext4 /dev/zram' /proc/self/mountinfo && umount -R /sysroot"
    with embedded(initrd, image) as path:
        cmdline = f"quiet root=bootc-live:{path} bootc.zram=96M bootc.live.layout=tree"
        said = initrd.run("/bin/sh", "-c", script, cmdline=cmdline, ok=initrd.flavour == "systemd")
    if initrd.flavour == "systemd":
        assert "error:" not in said
        device(re.findall(r" /sysroot .* ext4 (/dev/zram[0-9]+) ", said)[0]).remove()
    else:
        assert "bootc-live: error: the program 'mke2fs' is missing" in said
        assert "the dracut module bootc-live-zram" in said


def test_registry(initrd: Initrd) -> None:
    """As far as a machine without one can show: everything for HTTP is loaded, and only the connection is refused."""
    said = initrd.run("bootc-live", "inspect", "--unsecure", "docker://127.0.0.1:1/os", ok=False)
    if initrd.flavour == "systemd":
        assert "cannot reach http://127.0.0.1:1/v2/os/manifests/latest" in said
        assert "Connection refused" in said
        said = initrd.run("bootc-live", "inspect", "docker://127.0.0.1:1/os", ok=False)
        # Only the Debian 13 root has certificate authorities to pack.
        refused = "Connection refused" if initrd.root.dracut == "106" else "there are no certificate authorities"
        assert refused in said
    else:
        assert "this initramfs contains no support for it" in said


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


@pytest.mark.parametrize("initrd", ONE_OF_A_KIND, indirect=True)
def test_layers_of_zstd_without_the_library(initrd: Initrd, image: Path) -> None:
    with embedded(initrd, image) as path:
        script = f'mount --bind /dev/null "$(echo /usr/lib/*/libzstd.so.1)"\n{BOOT}'
        said = initrd.run("/bin/sh", "-c", script, cmdline=f"quiet root=bootc-live:{path}", ok=False)
    assert "zstd data cannot be decompressed without libzstd.so.1" in said


def test_libraries_that_nothing_is_linked_to(initrd: Initrd) -> None:
    """Layers, the erofs layout and labels load them, and all that they need is packed, too. One root has libisal."""
    found = {path.name for path in initrd.tree.glob("usr/lib*/**/*.so*")}
    wanted = {"liblz4.so.1", "libzstd.so.1", "libselinux.so.1", *(["libisal.so.2"] if initrd.root == BUILDER else [])}
    assert wanted <= found
    assert [name for name in found if name.startswith("_ctypes.")]
    load = f"import ctypes; [ctypes.CDLL(name) for name in {sorted(wanted)}]"
    assert initrd.run(PYTHON, "-c", load) == ""


MAKE = """
set -e
for compress in none lz4 zstd; do
    bootc-live erofs --compress "$compress" /root.oci "/tmp/$compress" 2>/dev/null
done
"""


@pytest.fixture(scope="session")
def made_here(image: Path, zipapp: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of EROFS images that this machine makes, by compression."""
    made = {}
    for compress in ("none", "lz4"):
        out = tmp_path_factory.mktemp("erofs") / compress
        command: list[str | Path] = [sys.executable, zipapp, "erofs", "--compress", compress, image, out]
        said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
        made[compress] = said.split()[0]
        out.unlink()
    return made


def test_erofs_is_the_same_everywhere(initrd: Initrd, image: Path, made_here: dict[str, str]) -> None:
    """The library of every release packs LZ4 alike, and this machine's as well; zstd's has changed."""
    with embedded(initrd, image):
        made = dict(line.split()[::-1] for line in initrd.run("/bin/sh", "-c", MAKE).splitlines())
    assert made.keys() == {"/tmp/none", "/tmp/lz4", "/tmp/zstd"}
    assert {name: made[f"/tmp/{name}"] for name in made_here} == made_here


@pytest.mark.parametrize(
    "compress", [*(pytest.param(name, marks=pytest.mark.long) for name in ("none", "lz4")), "zstd"]
)
def test_boot_of_an_erofs_image(initrd: Initrd, image: Path, compress: str) -> None:
    with embedded(initrd, image) as path:
        cmdline = f"quiet root=bootc-live:{path} bootc.live.erofs bootc.live.compress={compress}"
        lines = initrd.run("/bin/sh", "-c", BOOT, cmdline=cmdline).splitlines()
    assert "small, changed above" in lines
    assert "in every way" in lines
    packed = "" if compress == "none" else f", {compress} "
    assert [line for line in lines if line.startswith(f"layout    erofs{packed}")]
    assert not [line for line in lines if "error" in line or "Traceback" in line]


@pytest.mark.parametrize("initrd", ONE_OF_A_KIND, indirect=True)
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
        made = ["bootc-live.service.d", "initrd-root-fs.target.requires", "sysroot.mount"]
        assert ours[:5] == ["status=0", "/tmp/e:", *made]
        assert others == ["status=0", "/tmp/e:", "/tmp/l:", "/tmp/n:"]
    else:
        assert ours[-2:] == ["rootok=1", "mounted"]
        assert others == ["rootok="]


ROOM = """
cd "$1"
find usr/bin/python3* usr/lib/python3* usr/lib/bootc-live -depth |
    cpio --create --format=newc --quiet | zstd -9 -q -T0 | wc -c
"""


@pytest.mark.parametrize("initrd", parameters((SHARED,)), indirect=True)
def test_room_of_python(initrd: Initrd) -> None:
    """Most of what `test_growth` measures, and what grows most easily, without two more initrds."""
    assert int(BUILDER.run("sh", "-c", ROOM, "sh", initrd.tree).stdout) <= PYTHON_LIMIT


@pytest.mark.long
def test_growth(capsys: pytest.CaptureFixture[str]) -> None:
    """All our modules add at most 6 MiB to a Debian 13 initrd that has a network."""
    sizes = {}
    for name, modules in (("without", "network"), ("with", f"network {OURS}")):
        made = build(BUILDER, name, "systemd", modules)
        sizes[name] = int(BUILDER.run("sh", "-c", 'zstd -dcq "$1" | zstd -9 -q -T0 | wc -c', "sh", made).stdout)
    growth = sizes["with"] - sizes["without"]
    with capsys.disabled():
        print(f"\ninitramfs growth: {growth / 2**20:.2f} MiB")
    assert growth <= LIMIT


def test_no_initrd_without_the_zipapp(root: Root, shared: Path) -> None:
    path = shared / f"{root}-none.img"
    command = (HERE / "build-initrd", path, *root.kernel(), "plain", "bootc-live")
    done = root.run("env", "BOOTC_LIVE_PYZ=/nowhere.pyz", *command, ok=False)
    assert done.returncode != 0
    assert "/nowhere.pyz is missing: install bootc-live, or set BOOTC_LIVE_PYZ" in done.stdout + done.stderr
    assert not path.exists()


def test_no_initrd_without_dracut_network(root: Root, shared: Path) -> None:
    """Which is a package of its own: a container may have dracut without it."""
    path = shared / f"{root}-none.img"
    script = 'rm -r /usr/lib/dracut/modules.d/[0-9][0-9]network && exec "$@"'
    command = (HERE / "build-initrd", path, *root.kernel(), "systemd", "bootc-live bootc-live-registry")
    done = root.run("sh", "-ec", script, "sh", *command, ok=False)
    assert done.returncode != 0
    assert (done.stdout + done.stderr).count("install the package dracut-network") == 1
    assert not path.exists()
