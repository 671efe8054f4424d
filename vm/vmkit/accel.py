"""Chooses between KVM and emulation by booting a kernel."""

import os
import subprocess
from pathlib import Path
from typing import Final

from vmkit.emulator import qemu
from vmkit.paths import OUT

KVM: Final = ("-accel", "kvm", "-cpu", "host")
TCG: Final = ("-accel", "tcg,thread=multi", "-cpu", "max,la57=off,erms=off,fsrm=off")
"""A fifth level of page tables costs an emulated machine an eighth of its time. A tenth goes by moving memory bytewise,
which kernels and libraries take for the fastest way on a processor that says so."""

_TIMEOUT: Final = 15.0
"""Seconds; a kernel under KVM that works is through in about two."""


def accelerator(kernel: Path) -> tuple[str, ...]:
    """Return QEMU's accelerator and CPU options for this machine.

    KVM is tried by a boot of ``kernel``, since /dev/kvm may exist and still hang guests:
    even one that runs a boot sector may stop at the kernel. The answer is kept in
    ``vm/out`` until this machine restarts or its /dev/kvm changes.
    """
    memory = OUT / "accelerator"
    key = _machine()
    try:
        known, name = memory.read_text().split("\n")[:2]
        if known == key:
            return KVM if name == "kvm" else TCG
    except (FileNotFoundError, ValueError):
        pass
    works = kvm_works(kernel)
    OUT.mkdir(exist_ok=True)
    memory.write_text(f"{key}\n{'kvm' if works else 'tcg'}\n")
    return KVM if works else TCG


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        kvm = os.stat("/dev/kvm")
    except FileNotFoundError:
        return f"{boot} no-kvm"
    return f"{boot} {kvm.st_rdev} {kvm.st_mode} {os.access('/dev/kvm', os.R_OK | os.W_OK)}"


def kvm_works(kernel: Path, timeout: float = _TIMEOUT) -> bool:
    """Boot ``kernel`` alone under KVM; True if it looks for its root within ``timeout`` s."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    argv = qemu(*KVM, "-m", "512", "-nodefaults", "-display", "none", "-no-reboot")
    argv += ["-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and b"Unable to mount root fs" in done.stdout
