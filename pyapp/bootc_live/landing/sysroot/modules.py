"""Whether an image has the modules of the kernel it is to run under."""

from __future__ import annotations

import os

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import resolve_below

_HINT = "boot with bootc.kexec to run the image's own kernel, or serve the kernel that the image has modules for"
# Kernels without loadable modules need none.
_MODULAR = "/proc/modules"
# Where modprobe looks is the second; in most images it is a link to the first.
_PLACES = ("usr/lib/modules", "lib/modules")
_TELLING = ("modules.dep", "modules.builtin", "kernel")


def needs_modules() -> bool:
    """Tell whether the running kernel can load modules at all."""
    return os.path.exists(_MODULAR)


def have_modules(root: str, release: str) -> bool:
    """Tell whether the tree ``root`` has modules for the kernel of that release."""
    return any(resolve_below(root, f"{place}/{release}/{name}") is not None for place in _PLACES for name in _TELLING)


def check_modules(root: str, typed: str, *, required: bool, release: str | None = None) -> str | None:
    """Give a warning where the tree lacks modules of the running kernel; raises LandingError where they are required.

    ``typed`` is the image as the user wrote it.
    """
    release = release or os.uname().release
    if not needs_modules() or have_modules(root, release):
        return None
    message = f"{typed!r} has no modules for the running kernel {release}: there is no /usr/lib/modules/{release} in it"
    if required:
        raise LandingError(message, hint=_HINT)
    return f"{message}; what needs drivers that are not loaded yet will fail. To cure it: {_HINT}"
