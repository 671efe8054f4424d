"""QEMU of the emulator root, run without entering that root: it sees the files of this machine."""

from typing import Final

from vmkit.paths import ROOTS

_ROOT: Final = ROOTS / "emulator"
_PROGRAM: Final = _ROOT / "usr/bin/qemu-system-x86_64"
_LIBRARIES: Final = _ROOT / "usr/lib/x86_64-linux-gnu"
_FIRMWARE: Final = ("qemu", "seabios")


def installed() -> bool:
    """Tell whether the emulator root has been made."""
    return _PROGRAM.exists()


def qemu(*options: str) -> list[str]:
    """Give the command line of QEMU with ``options``: its own loader and libraries, its own firmware."""
    argv = ["env", f"QEMU_MODULE_DIR={_LIBRARIES}/qemu", f"{_ROOT}/lib64/ld-linux-x86-64.so.2"]
    argv += ["--library-path", f"{_LIBRARIES}:{_LIBRARIES}/pulseaudio", str(_PROGRAM)]
    for name in _FIRMWARE:
        argv += ["-L", f"{_ROOT}/usr/share/{name}"]
    return [*argv, *options]
