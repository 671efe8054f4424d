"""Measure into a TPM what is about to be landed: the image, what was decided about it, and the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from bootc_live.base.errors import LandingError, RunError
from bootc_live.base.log import Recorder
from bootc_live.config.cmdline.tokens import redact_cmdline
from bootc_live.config.model import Config, Measure
from bootc_live.config.next_kernel.handover import Handover
from bootc_live.image.recipe import Fetched
from bootc_live.receipt.two_kernels import decided
from bootc_live.system.devices.tpm import extend, tpm_obstacle

# "system-identity" in systemd's list of PCRs, where systemd measures what the root file system is.
PCR = 15
# Texts whose digests extend the PCR, in this order.
Facts = Sequence[str]
# Nothing else than a boot is measured unless that was asked for.
_INITRAMFS = "/etc/initrd-release"
_REQUIRED = "bootc.trust.measure=required"
_HINT = f"check the TPM, and that its driver is in the initramfs, or boot without {_REQUIRED}"


def facts_of(fetched: Fetched[Any], before: Handover | None, cmdline: str) -> Facts:
    """Return the digest of the image, what was decided about it, and the command line, in which blanks are single.

    They have no secrets, because the log has them, too. ``before`` is what the first kernel handed over.
    """
    return facts(fetched.image.resolved.identity, decided(fetched.verdict, before), cmdline)


def facts(image: str, trust: Mapping[str, object], cmdline: str) -> Facts:
    """Return the same of an image's digest and what the receipt says about trust."""
    keys = trust.get("keys")
    by = f" by {', '.join(map(str, keys))}" if isinstance(keys, list) and keys else ""
    return [
        f"bootc-live:image:{image}",
        f"bootc-live:trust:{trust.get('signatures')}{by}",
        f"bootc-live:cmdline:{' '.join(redact_cmdline(cmdline).split())}",
    ]


def require_measure(wish: Measure) -> None:
    """Raise LandingError if measuring is required, and cannot be done here."""
    if wish is Measure.REQUIRED:
        obstacle = tpm_obstacle()
        if obstacle:
            raise LandingError(f"'{_REQUIRED}' cannot be met: {obstacle}", hint=_HINT)


def measure(facts: Facts, config: Config, recorder: Recorder) -> dict[str, object] | None:
    """Extend the PCR as wished, and return what the receipt says about it; None if nothing was measured.

    Raise LandingError if it fails although it is required.
    """
    wish = config.trust.measure
    require_measure(wish)
    if wish is Measure.OFF or (wish is Measure.AUTO and (not os.path.exists(_INITRAMFS) or tpm_obstacle())):
        return None
    try:
        with recorder.phase("measure", f"measuring into PCR {PCR}"):
            for fact in facts:
                extend(PCR, fact)
    except RunError as error:
        if wish is Measure.REQUIRED:
            raise LandingError(f"'{_REQUIRED}' cannot be met: {error.message}", hint=_HINT) from error
        recorder.warn(f"the boot is not measured: {error.message}")
        return None
    return {"pcr": PCR, "events": list(facts)}
