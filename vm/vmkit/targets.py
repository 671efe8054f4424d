"""The files of ``vm/out`` and how each one is made."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from vmkit.initrd import concatenate
from vmkit.paths import OUT, REPO, ROOTS, VM, ZIPAPP
from vmkit.stale import Target

_LIVE: Final = ROOTS / "live"
_SERVER: Final = ROOTS / "server"
_OTHER: Final = ROOTS / "forky"
"""Has another kernel than the live root."""
_OLD: Final = ROOTS / "bookworm"
"""Has a kernel from before 6.4, and dracut 059."""

ALL_MODULES: Final = "bootc-live bootc-live-net bootc-live-registry bootc-live-zram bootc-live-kexec"
_MODULES: Final = (
    "50bootc-live",
    "51bootc-live-net",
    "52bootc-live-registry",
    "53bootc-live-zram",
    "54bootc-live-kexec",
)


def _made_of(*roots: Path) -> list[Path]:
    """Return files that change with how roots are made, and with every version of their packages."""
    return [root / name for root in roots for name in (".vm-root", "var/lib/dpkg/status")]


def make_root(name: str) -> None:
    """Bring the root file system ``name`` up to date; raises CalledProcessError."""
    subprocess.run([VM / "enter", name, "true"], check=True, stdin=subprocess.DEVNULL)


def enter(root: str, *argv: str | Path) -> None:
    """Run ``argv`` in the root file system ``root``; raises CalledProcessError.

    What it prints is shown only if it fails.
    """
    command = [VM / "enter", root, *argv]
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout)
        raise subprocess.CalledProcessError(done.returncode, command)


def kernel_version() -> str:
    """Return the release of the live image's kernel, as ``uname -r`` prints it there."""
    return _kernel_of(_LIVE)


def _kernel_of(root: Path) -> str:
    (modules,) = (root / "usr/lib/modules").iterdir()
    return modules.name


def make_zipapp() -> None:
    """Bring ``build/bootc-live.pyz`` up to date; quick when it is."""
    subprocess.run(
        [sys.executable, REPO / "pyapp/build_zipapp.py"],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )


def _vmlinuz(scratch: Path) -> None:
    _copy(_LIVE / f"boot/vmlinuz-{kernel_version()}", scratch / "vmlinuz")


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--reflink=auto", "--", source, target], check=True)


def _key(scratch: Path) -> None:
    key = scratch / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f", key], check=True)


def _initrd_inputs() -> list[Path]:
    modules = [REPO / "modules.d" / name for name in _MODULES]
    return [*modules, ZIPAPP, VM / "initrd", *_made_of(ROOTS / "builder", _LIVE)]


def _initrd(name: str, flavour: str, modules: str, *, default: bool) -> Target:
    return Target(
        name,
        (name,),
        _initrd_inputs,
        lambda scratch: _make_initrd(flavour, modules, scratch / name),
        default=default,
    )


def _make_initrd(flavour: str, added: str, out: Path, root: Path = _LIVE, dracut: str = "builder") -> None:
    kver = _kernel_of(root)
    modules = root / "usr/lib/modules" / kver
    enter(dracut, VM / "initrd/make", flavour, added, out, kver, modules)


def _old(scratch: Path) -> None:
    make_root(_OLD.name)
    _copy(_OLD / f"boot/vmlinuz-{_kernel_of(_OLD)}", scratch / "vmlinuz-bookworm")
    added = "bootc-live bootc-live-net bootc-live-registry"
    _make_initrd("systemd", added, scratch / "initrd-bookworm.img", _OLD, _OLD.name)


def _live(scratch: Path) -> None:
    key = OUT / "id_ed25519.pub"
    enter("builder", VM / "image/build", _LIVE, _LIVE, OUT / "initrd.img", key, scratch / "live.oci")


def _full(root: str, out: Path) -> None:
    make_root(root)
    key = OUT / "id_ed25519.pub"
    enter("builder", VM / "full/build", ROOTS / root, OUT / "initrd.img", key, out)


def _full_target(root: str) -> Target:
    """Return the target for an image with more in it than the live image has."""
    name = f"live-{root}.oci"
    return Target(
        name,
        (name,),
        lambda: [
            OUT / "initrd.img",
            OUT / "id_ed25519.pub",
            VM / "image",
            VM / "full",
            VM / "buildah",
            VM / f"roots/{root}.conf",
        ],
        lambda scratch: _full(root, scratch / name),
        needs=("initrd.img", "id_ed25519"),
        default=False,
    )


def _kexec(scratch: Path) -> None:
    make_root("forky")
    ours, plain = scratch / "initrd.img", scratch / "plain.img"
    _make_initrd("systemd", ALL_MODULES, ours, _OTHER)
    _make_initrd("systemd", "", plain, _OTHER)
    key = OUT / "id_ed25519.pub"
    enter("builder", VM / "kexec/build", _LIVE, _OTHER, ours, plain, key, scratch / "kexec.oci")


def _kexec_small(scratch: Path) -> None:
    make_root(_OTHER.name)
    initrd = scratch / "initrd.img"
    # Without systemd, it takes two thirds of the time.
    _make_initrd("plain", ALL_MODULES, initrd, _OTHER)
    enter("builder", VM / "kexec/small", _OTHER, initrd, scratch / "kexec-small.oci")


def _container(scratch: Path) -> None:
    enter("builder", VM / "container/build", OUT / "live.oci", scratch / "initrd-container.img")


def _server(scratch: Path) -> None:
    make_root("server")
    enter("builder", VM / "server/build", _LIVE, _SERVER, scratch / "server.oci")


def _guest(scratch: Path) -> None:
    make_root("guest")
    enter("builder", VM / "guest/build", ROOTS / "guest", VM / "guest/packages.lock", scratch)


def _rootfs_cpio(scratch: Path) -> None:
    """Wrap the archive as a cpio that a boot loader or ``cat`` can append to an initrd."""
    staged = scratch / "cpio"
    staged.mkdir()
    os.link(OUT / "live.oci", staged / "root.oci")
    with (scratch / "rootfs.cpio").open("wb") as out:
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--owner=+0:+0", "--quiet"],
            cwd=staged,
            input=b"root.oci\n",
            stdout=out,
            check=True,
        )


def _embedded(scratch: Path) -> None:
    concatenate([OUT / "initrd.img", OUT / "rootfs.cpio"], scratch / "initrd-embedded.img")


TARGETS: Final = {
    target.name: target
    for target in (
        Target("vmlinuz", ("vmlinuz",), lambda: _made_of(_LIVE), _vmlinuz),
        Target("id_ed25519", ("id_ed25519", "id_ed25519.pub"), list, _key),
        _initrd("initrd.img", "systemd", ALL_MODULES, default=True),
        _initrd("initrd-nosystemd.img", "plain", ALL_MODULES, default=True),
        _initrd("initrd-base.img", "systemd", "bootc-live", default=True),
        _initrd("initrd-net.img", "systemd", "bootc-live bootc-live-net", default=False),
        _initrd("initrd-registry.img", "systemd", ALL_MODULES, default=False),
        _initrd("initrd-url.img", "systemd", f"{ALL_MODULES} url-lib nfs", default=False),
        Target(
            "initrd-bookworm.img",
            ("initrd-bookworm.img", "vmlinuz-bookworm"),
            lambda: [
                *(REPO / "modules.d" / name for name in _MODULES),
                ZIPAPP,
                VM / "initrd",
                VM / "roots/bookworm.conf",
            ],
            _old,
            default=False,
        ),
        Target(
            "live.oci",
            ("live.oci",),
            lambda: [
                OUT / "initrd.img",
                OUT / "id_ed25519.pub",
                VM / "image",
                VM / "buildah",
                *_made_of(_LIVE),
            ],
            _live,
            needs=("initrd.img", "id_ed25519"),
        ),
        _full_target("full"),
        _full_target("podman"),
        Target(
            "kexec.oci",
            ("kexec.oci",),
            lambda: [
                *_initrd_inputs(),
                OUT / "id_ed25519.pub",
                VM / "image",
                VM / "kexec",
                VM / "buildah",
                VM / "roots/forky.conf",
            ],
            _kexec,
            needs=("id_ed25519",),
            default=False,
        ),
        Target(
            "kexec-small.oci",
            ("kexec-small.oci",),
            lambda: [*_initrd_inputs(), VM / "image/encapsulate", VM / "kexec", VM / "roots/forky.conf"],
            _kexec_small,
            default=False,
        ),
        Target(
            "initrd-container.img",
            ("initrd-container.img",),
            lambda: [
                *(REPO / "modules.d" / name for name in _MODULES),
                ZIPAPP,
                OUT / "live.oci",
                REPO / "docs/containerfiles/debian",
                VM / "container",
                VM / "buildah",
            ],
            _container,
            needs=("live.oci",),
            default=False,
        ),
        Target(
            "server.oci",
            ("server.oci",),
            lambda: [VM / "server", VM / "buildah", VM / "roots/server.conf", *_made_of(_LIVE)],
            _server,
            default=False,
        ),
        Target(
            "guest.oci",
            ("guest.oci", "guest.tar.xz", "guest.ext4"),
            lambda: [ZIPAPP, VM / "guest", VM / "roots/guest.conf"],
            _guest,
            default=False,
        ),
        Target("rootfs.cpio", ("rootfs.cpio",), lambda: [OUT / "live.oci"], _rootfs_cpio, ("live.oci",)),
        Target(
            "initrd-embedded.img",
            ("initrd-embedded.img",),
            lambda: [OUT / "initrd.img", OUT / "rootfs.cpio"],
            _embedded,
            needs=("initrd.img", "rootfs.cpio"),
        ),
    )
}


def default_targets() -> list[str]:
    """Give the names of what is made when no target is named."""
    return [target.name for target in TARGETS.values() if target.default]
