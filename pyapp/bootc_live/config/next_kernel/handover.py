"""What one kernel hands to the next by kexec, in files of the next one's initramfs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from bootc_live.base.errors import ConfigError
from bootc_live.config.source_spec import HandedImage, SourceSpec

DIRECTORY = "/usr/lib/bootc-live/handover"
STAGE = f"{DIRECTORY}/stage.json"
LAYOUT = f"{DIRECTORY}/image"
# Tells the hooks that nothing has to be fetched.
WHOLE = f"{DIRECTORY}/whole"
# Files about servers that cannot have their own paths, below the same ones.
HOST = f"{DIRECTORY}/host"
_MOUNTED_OVER = ("/run", "/dev", "/proc", "/sys")


def is_mounted_over(path: str) -> bool:
    """Tell whether a file of an initramfs is hidden at an absolute path, by what is mounted over it early."""
    real = os.path.realpath(path)
    return any(real == top or real.startswith(f"{top}/") for top in _MOUNTED_OVER)


@dataclass(frozen=True)
class Handover:
    """What the kernel before this one found: the image's manifest digest, and the receipt of its own work.

    ``layout`` is a directory with the image's blobs, ``missing`` are layers that are not in it. Where there is one of
    these at all, this kernel was started by kexec, and must not do that again.
    """

    digest: str | None = None
    layout: str | None = None
    missing: tuple[str, ...] = ()
    receipt: dict[str, object] = field(default_factory=dict)

    def sources(self, asked: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
        """Give where to take the image from: what was handed over, what it came from, then the others asked for."""
        used = str(self.receipt.get("source"))
        # A source that failed the kernel before this one would cost the same time again. The command line of this
        # one has the digest behind the name of an image in a registry.
        asked = tuple(sorted(asked, key=lambda spec: spec.typed != used and not spec.typed.startswith(f"{used}@")))
        if self.layout is None or not asked:
            return asked
        rest = asked[0] if self.missing else None
        return (HandedImage(self.layout, rest, asked[0].typed), *asked)


def read_handover(path: str = STAGE) -> Handover | None:
    """Give what was handed over, None where this kernel was not started by kexec; raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        digest, receipt = data["digest"], data["receipt"]
        missing = tuple(str(layer) for layer in data["missing"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path!r}, left by the kernel before this one, cannot be read: {error}",
            hint="boot again; if it stays so, boot without bootc.kexec",
        ) from error
    layout = os.path.join(os.path.dirname(path), os.path.basename(LAYOUT))
    return Handover(
        digest=None if digest is None else str(digest),
        layout=layout if os.path.isdir(layout) else None,
        missing=missing,
        receipt=receipt if isinstance(receipt, dict) else {},
    )


def stage_json(digest: str | None, missing: frozenset[str], receipt: dict[str, object]) -> bytes:
    """Give the file that ``read_handover`` reads."""
    data = {"digest": digest, "missing": sorted(missing), "receipt": receipt}
    return json.dumps(data, separators=(",", ":")).encode()
