"""Programs of the emulator root, run without entering that root: they see the files of this machine."""

from pathlib import Path
from typing import Final

from vmkit.paths import ROOTS

_ROOT: Final = ROOTS / "emulator"
_QEMU: Final = _ROOT / "usr/bin/qemu-system-x86_64"
_SLIRP: Final = _ROOT / "usr/bin/slirp4netns"
_SWTPM: Final = _ROOT / "usr/bin/swtpm"
_LIBRARIES: Final = _ROOT / "usr/lib/x86_64-linux-gnu"
_FIRMWARE: Final = ("qemu", "seabios")
CODE: Final = "OVMF_CODE_4M.fd"
"""UEFI firmware without Secure Boot."""
SECURE_CODE: Final = "OVMF_CODE_4M.secboot.fd"
"""UEFI firmware that knows Secure Boot."""
VARIABLES: Final = "OVMF_VARS_4M.fd"
"""An empty variable store for both."""
VENDOR_VARIABLES: Final = "OVMF_VARS_4M.ms.fd"
"""A variable store with Secure Boot on, for the keys in machines that are sold; they sign the shim of distributions."""


def installed() -> bool:
    """Tell whether the emulator root has been made."""
    return _QEMU.exists() and _SLIRP.exists()


def qemu(*options: str, resolver: Path | None = None) -> list[str]:
    """Give the command line of QEMU with ``options``: its own loader and libraries, its own firmware.

    ``resolver`` is what it reads in place of this machine's /etc/resolv.conf.
    """
    argv = [*_resolving(resolver), "env", f"QEMU_MODULE_DIR={_LIBRARIES}/qemu", *_program(_QEMU)]
    for name in _FIRMWARE:
        argv += ["-L", f"{_ROOT}/usr/share/{name}"]
    return [*argv, *options]


def slirp(*options: str, resolver: Path | None = None) -> list[str]:
    """Return the command line of slirp4netns, QEMU's user network for a network namespace, with ``options``.

    ``resolver`` is what it reads in place of this machine's /etc/resolv.conf.
    """
    return [*_resolving(resolver), *_program(_SLIRP), *options]


def swtpm(*options: str) -> list[str]:
    """Return the command line of swtpm, a TPM as a program, with ``options``."""
    return [*_program(_SWTPM, "swtpm"), *options]


def _resolving(resolver: Path | None) -> list[str]:
    if resolver is None:
        return []
    script = 'mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", script, str(resolver)]


def _program(path: Path, libraries: str = "pulseaudio") -> list[str]:
    loader = f"{_ROOT}/lib64/ld-linux-x86-64.so.2"
    return [loader, "--library-path", f"{_LIBRARIES}:{_LIBRARIES}/{libraries}", str(path)]


def uefi(name: str) -> Path:
    """Give the path of a file of the UEFI firmware."""
    return _ROOT / "usr/share/OVMF" / name
