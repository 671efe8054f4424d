"""The receipt of a boot: ``/run/bootc-live/receipt.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bootc_live import __version__
from bootc_live.base.errors import LandingError
from bootc_live.base.log import Recorder
from bootc_live.base.output import format_json
from bootc_live.config.model import Config
from bootc_live.config.next_kernel.handover import Handover
from bootc_live.image.recipe import Fetched
from bootc_live.receipt.figures import Figures, root_parts
from bootc_live.receipt.two_kernels import both_stages, decided
from bootc_live.rootfs.plan import RootPlan
from bootc_live.system.cleanup.directories import make_in

__all__ = ["DEFAULT_PATH", "Figures", "make_receipt", "read_receipt", "written_receipt"]

DEFAULT_PATH = "/run/bootc-live/receipt.json"


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


@contextmanager
def written_receipt(receipt: dict[str, object], path: str) -> Iterator[None]:
    """Write a receipt atomically before the block, and remove it if the block fails; raise LandingError."""
    # A unique name: another run may write the same receipt now.
    part = f"{path}.{os.urandom(8).hex()}.part"
    try:
        try:
            with make_in(os.path.dirname(path) or ".", lambda: open(part, "x", encoding="utf-8")) as file:
                file.write(f"{format_json(receipt)}\n")
            os.replace(part, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
    except OSError as error:
        raise LandingError(
            f"cannot write the receipt {path!r}: {error.strerror}", hint="correct --receipt, or free space"
        ) from error
    try:
        yield
    except BaseException:
        # Another run may have removed its receipt of the same name.
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise


def read_receipt(path: str) -> dict[str, object]:
    """Return a receipt; raise LandingError if there is none or it is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except FileNotFoundError as error:
        raise LandingError(
            f"there is no receipt at {path!r}", hint="this system was not booted by bootc-live"
        ) from error
    except (OSError, ValueError) as error:
        raise LandingError(f"the receipt {path!r} cannot be read: {error}", hint="boot again") from error
    if not isinstance(data, dict):
        raise LandingError(f"the receipt {path!r} is not a JSON object", hint="boot again")
    return data
