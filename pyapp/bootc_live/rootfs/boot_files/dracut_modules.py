"""Which of our dracut modules an initramfs lacks for a source."""

from __future__ import annotations

from collections.abc import Iterator

from bootc_live.config.source_spec import RegistryImage, SourceSpec, is_remote
from bootc_live.rootfs.boot_files.initramfs import look_for

_TOP = "usr/lib/bootc-live"
_PROGRAM, _FETCH = f"{_TOP}/bootc-live.pyz", f"{_TOP}/fetch-url"
# What the program was packed for, one word a line; see cli/freeze.py.
_FEATURES = f"{_TOP}/features"


def unfit(initramfs: Iterator[bytes], what: str, spec: SourceSpec | None) -> str | None:
    """Return why an initramfs, called ``what``, cannot boot from ``spec``, or None; raise as ``lacking_module``."""
    lacking = lacking_module(initramfs, spec)
    if lacking is None:
        return None
    if lacking == "bootc-live":
        return f"{what} does not contain bootc-live"
    return f"{what} lacks the dracut module {lacking}" + (f", which {spec.typed!r} needs" if spec else "")


def lacking_module(initramfs: Iterator[bytes], spec: SourceSpec | None) -> str | None:
    """Return the name of the first module that an initramfs lacks to boot from ``spec``, None where it has all.

    Without a source, it has what it boots from. Raises ValueError for an initramfs that cannot be looked into.
    """
    remote, registry = spec is not None and is_remote(spec), isinstance(spec, RegistryImage)
    names = [_PROGRAM, *([_FETCH] if remote else []), *([_FEATURES] if registry else [])]
    contents = look_for(initramfs, *names)
    for module, name in (("bootc-live", _PROGRAM), ("bootc-live-net", _FETCH)):
        if name in names and (has := contents.has(name)) is not True:
            if has is None:
                raise ValueError("it is damaged, or no program for its compression is here")
            return module
    features = contents.found.get(_FEATURES)
    return "bootc-live-registry" if registry and features is not None and b"registry" not in features.split() else None
