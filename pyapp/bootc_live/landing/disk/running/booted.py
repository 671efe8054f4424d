"""Which deployment runs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from bootc_live.base.errors import LandingError
from bootc_live.config.source_spec import DeploymentRoot
from bootc_live.receipt.file import DEFAULT_PATH, read_receipt


def booted_root(started: DeploymentRoot | None, receipt_path: str = DEFAULT_PATH) -> DeploymentRoot | None:
    """Return the root that runs, of the one that the kernel was started for; None if that is not on a disk.

    After a soft reboot, the receipt in /run names another one of the same disk.
    """
    if started is None:
        return None
    with suppress(LandingError):
        match read_receipt(receipt_path).get("deployment"):
            case {"number": int(number), "root": str(digest), "device": started.device}:
                return replace(started, number=number, digest=digest)
    return started
