"""What the receipt of a boot says."""

from __future__ import annotations

from bootc_live import __version__
from bootc_live.base.log import Recorder
from bootc_live.config.model import Config
from bootc_live.config.next_kernel.handover import Handover
from bootc_live.image.recipe import Fetched
from bootc_live.receipt.figures import Figures, root_parts
from bootc_live.receipt.two_kernels import both_stages, decided
from bootc_live.rootfs.plan import RootPlan

__all__ = ["Figures", "make_receipt"]


def make_receipt(
    config: Config, fetched: Fetched[RootPlan], figures: Figures, recorder: Recorder, before: Handover | None = None
) -> dict[str, object]:
    """Return the receipt as JSON-ready data; sizes are bytes, phases are seconds.

    ``before`` is what the first kernel handed over, or None.
    """
    image = fetched.image
    resolved = image.resolved
    return {
        "version": __version__,
        "image": {
            "reference": resolved.source_text,
            "manifest_digest": resolved.manifest_digest,
            "config_digest": resolved.manifest.config.digest,
            "platform": str(resolved.config.platform),
            "layers": [
                {"digest": layer.digest, "diff_id": made.diff_id, "size": layer.size, "unpacked": made.size}
                for layer, made in zip(resolved.manifest.layers, image.layers, strict=True)
            ],
        },
        "source": resolved.source_text,
        "sources": [
            {"source": attempt.source, "used": attempt.error is None, "error": attempt.error}
            for attempt in fetched.attempts
        ],
        "policy": {
            "digests": "verified",
            "pin": config.pin,
            # Whose word the image's name is, where mirrors might answer.
            "named_by": resolved.named_by,
            **decided(fetched.verdict, before),
            # Over an insecure connection of the first kernel, an attacker may have chosen the image.
            "insecure": resolved.insecure or (before is not None and before.receipt.get("insecure") is True),
        },
        **root_parts(config, figures, resolved.compressed_size, image.size),
        "phases": dict(recorder.phases),
        "hosts": dict(figures.hosts),
        "kexec": both_stages(before, resolved),
        "warnings": list(recorder.warnings),
    }
