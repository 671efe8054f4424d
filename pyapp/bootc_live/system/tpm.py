"""Extend PCRs of a TPM 2.0 with systemd-pcrextend(8), which also writes /run/log/systemd/tpm2-measure.log."""

from __future__ import annotations

import ctypes
import glob
import os
import time

from bootc_live.base.errors import RunError
from bootc_live.system.run import run

# The kernel makes this device only for a TPM 2.0.
_DEVICE = "/dev/tpmrm0"
# There if the firmware has a TPM 2.0: its driver may not be loaded yet.
_FIRMWARE = "/sys/firmware/acpi/tables/TPM2"
_PCRS = "/sys/class/tpm/tpm0/pcr-*"
_TOOL = "/usr/lib/systemd/systemd-pcrextend"
# It starts without them, and fails.
_LIBRARIES = ("libtss2-esys.so.0", "libtss2-rc.so.0", "libtss2-mu.so.0", "libtss2-tcti-device.so.0")
# Seconds to wait for the driver.
_TIMEOUT, _STEP = 10.0, 0.05


def tpm_obstacle() -> str:
    """Return why nothing can be measured here, or an empty string; wait for a driver that is being loaded."""
    if not os.access(_TOOL, os.X_OK):
        return f"the program {os.path.basename(_TOOL)!r} is missing"
    for name in _LIBRARIES:
        try:
            ctypes.CDLL(name)
        except OSError as error:
            return f"a library is missing ({error})"
    deadline = time.monotonic() + _TIMEOUT
    while not os.path.exists(_DEVICE):
        if not os.path.exists(_FIRMWARE):
            return "this machine has no TPM 2.0"
        if time.monotonic() > deadline:
            return "the kernel has no driver for this machine's TPM 2.0"
        time.sleep(_STEP)
    return ""


def extend(pcr: int, text: str) -> None:
    """Extend a PCR with the digest of a text, in all banks, and log that; raise RunError."""
    before = _values(pcr)
    # Without the variable, the program does nothing for a kernel that was not started as a UKI.
    run([_TOOL, f"--pcr={pcr}", text], env={"SYSTEMD_FORCE_MEASURE": "1"})
    # Kernels before 5.12 do not show PCRs.
    if before and _values(pcr) == before:
        raise RunError(
            f"{os.path.basename(_TOOL)} did not change PCR {pcr}", hint="use systemd 255 or later in the initramfs"
        )


def _values(pcr: int) -> dict[str, str]:
    found = {}
    for bank in glob.glob(_PCRS):
        try:
            with open(f"{bank}/{pcr}", encoding="ascii") as file:
                found[bank] = file.read()
        except OSError as error:
            # The kernel asks the TPM, which may be broken.
            raise RunError(f"cannot read PCR {pcr}: {error.strerror}", hint="check the TPM") from error
    return found
