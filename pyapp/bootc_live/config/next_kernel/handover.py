"""Read and write the files that a kernel adds to the next kernel's initramfs at kexec."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from bootc_live.base.errors import ConfigError
from bootc_live.base.installed import TOP
from bootc_live.config.source_spec import HandoverImage, SourceSpec

DIRECTORY = f"{TOP}/handover"
STAGE = f"{DIRECTORY}/stage.json"
LAYOUT = f"{DIRECTORY}/image"
# Tells the hooks that nothing must be fetched.
WHOLE = f"{DIRECTORY}/whole"
# The settings of the host whose own paths are hidden by mounts; the same paths, below this directory.
HOST = f"{DIRECTORY}/host"
_MOUNTED_OVER = ("/run", "/dev", "/proc", "/sys")


def is_mounted_over(path: str) -> bool:
    """Return whether an early mount hides an absolute path of the initramfs."""
    real = os.path.realpath(path)
    return any(real == top or real.startswith(f"{top}/") for top in _MOUNTED_OVER)


@dataclass(frozen=True)
class Handover:
    """The results of the previous kernel: the image's manifest digest and the receipt.

    ``layout`` is a directory with the image's blobs, without the ``missing`` layers. A handover means that this kernel
    was started by kexec, and must not start another one.
    """

    digest: str | None = None
    layout: str | None = None
    missing: tuple[str, ...] = ()
    receipt: dict[str, object] = field(default_factory=dict)

    def sources(self, asked: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
        """Return the sources in the order to try: the handed over image, its original source, all others."""
        used = str(self.receipt.get("source"))
        # Sources that failed before come last. This kernel's command line may have a digest appended to the name.
        asked = tuple(
            sorted(asked, key=lambda spec: spec.source_text != used and not spec.source_text.startswith(f"{used}@"))
        )
        if self.layout is None or not asked:
            return asked
        rest = asked[0] if self.missing else None
        return (HandoverImage(self.layout, rest, asked[0].source_text), *asked)


def read_handover(path: str = STAGE) -> Handover | None:
    """Return the handover, or None if this kernel was not started by kexec; raise ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        digest, receipt = data["digest"], data["receipt"]
        missing = tuple(str(layer) for layer in data["missing"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"cannot read {path!r}, which the previous kernel left: {error}",
            hint="boot again; if this fails again, boot without bootc.kexec",
        ) from error
    layout = os.path.join(os.path.dirname(path), os.path.basename(LAYOUT))
    return Handover(
        digest=None if digest is None else str(digest),
        layout=layout if os.path.isdir(layout) else None,
        missing=missing,
        receipt=receipt if isinstance(receipt, dict) else {},
    )


def stage_json(digest: str | None, missing: frozenset[str], receipt: dict[str, object]) -> bytes:
    """Return the content of the file that ``read_handover`` reads."""
    data = {"digest": digest, "missing": sorted(missing), "receipt": receipt}
    return json.dumps(data, separators=(",", ":")).encode()
