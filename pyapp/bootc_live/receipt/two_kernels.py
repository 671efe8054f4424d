"""The receipt's part about a boot with two kernels."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from bootc_live import __version__
from bootc_live.base.log import Recorder
from bootc_live.config.next_kernel.handover import Handover
from bootc_live.image.trust import TrustVerdict
from bootc_live.image.verified import ResolvedImage
from bootc_live.rootfs.boot_files.extract import BootArtifacts


def trust_parts(verdict: TrustVerdict) -> dict[str, object]:
    """Return what the receipt says about signatures: which lines of policies decided, which keys signed."""
    state = "verified" if verdict.signed else "switched off" if verdict.unchecked else "not checked"
    return {
        "signatures": state,
        "rules": list(verdict.rules),
        "keys": list(verdict.keys),
        "signed_identity": verdict.identity,
    }


def decided(verdict: TrustVerdict, before: Handover | None) -> dict[str, object]:
    """Return the same about this boot: after kexec, the first kernel has decided."""
    checked = None if before is None else before.receipt.get("trust")
    return checked if isinstance(checked, dict) else trust_parts(verdict)


def first_stage(artifacts: BootArtifacts, hosts: Mapping[str, int], peak: int, recorder: Recorder) -> dict[str, object]:
    """Return the receipt of the first kernel as JSON-ready data: bytes, seconds by phase, and why sources failed.

    ``peak`` is the largest memory use so far, with that of the kernel.
    """
    resolved = artifacts.image
    return {
        "version": __version__,
        "kernel": os.uname().release,
        "source": resolved.source_text,
        "sources": [
            {"source": attempt.source, "used": attempt.error is None, "error": attempt.error}
            for attempt in artifacts.attempts
        ],
        "manifest_digest": resolved.manifest_digest,
        "insecure": resolved.insecure,
        "trust": trust_parts(artifacts.verdict),
        "bytes": {"fetched": resolved.compressed_size, "transferred": sum(hosts.values())},
        "hosts": dict(hosts),
        "peak_memory": peak,
        "phases": dict(recorder.phases),
        "warnings": list(recorder.warnings),
    }


def both_stages(before: Handover | None, resolved: ResolvedImage) -> dict[str, object] | None:
    """Return the second kernel's record of both kernels, or None without kexec.

    ``reused`` counts the bytes of layers that were handed over, ``seconds`` the time from packing the initrd to the
    start of this kernel.
    """
    if before is None:
        return None
    handed = {layer.digest: layer.size for layer in resolved.manifest.layers if layer.digest not in before.missing}
    at = before.receipt.get("handed_over")
    seconds = round(time.time() - _uptime() - at, 3) if isinstance(at, float) else None
    return {
        "first": before.receipt,
        "kernel": os.uname().release,
        "reused": 0 if before.layout is None else sum(handed.values()),
        # Negative if the clock was set in between.
        "seconds": None if seconds is None or seconds < 0 else seconds,
    }


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
