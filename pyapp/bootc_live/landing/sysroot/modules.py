"""Check whether an image has modules for the running kernel."""

from __future__ import annotations

import os

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below

_HINT = "boot with bootc.kexec to run the image's own kernel, or serve the kernel that the image has modules for"
# Kernels without loadable modules need none.
_MODULAR = "/proc/modules"
# modprobe uses the second; in most images it is a link to the first.
_PLACES = ("usr/lib/modules", "lib/modules")
_TYPICAL = ("modules.dep", "modules.builtin", "kernel")


def needs_modules() -> bool:
    """Return whether the running kernel can load modules."""
    return os.path.exists(_MODULAR)


def have_modules(root: str, release: str) -> bool:
    """Return whether the tree ``root`` has modules for a kernel release."""
    return any(resolve_below(root, f"{place}/{release}/{name}") is not None for place in _PLACES for name in _TYPICAL)


def check_modules(root: str, source_text: str, *, required: bool, release: str | None = None) -> str | None:
    """Return a warning if the tree has no modules for the running kernel; raise LandingError if they are required.

    ``source_text`` is the image as typed.
    """
    release = release or os.uname().release
    if not needs_modules() or have_modules(root, release):
        return None
    message = f"{source_text!r} has no modules for the running kernel {release}: it has no /usr/lib/modules/{release}"
    if required:
        raise LandingError(message, hint=_HINT)
    return f"{message}; devices whose drivers are not loaded yet will not work; {_HINT}"
