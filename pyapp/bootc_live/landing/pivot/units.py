"""Look at the units of systemd in a tree, and write units for a system that starts in it, below /run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

from bootc_live.base.paths import resolve_below

_PLACES = ("etc/systemd/system", "usr/lib/systemd/system")
_TIMER, _SERVICE = "bootc-live-rollback.timer", "bootc-live-rollback.service"
# Somebody makes this file to say that all is well.
CONFIRMED = "/run/bootc-live/confirmed"
RUN = "/run/systemd/system"
# Files with these ends are for root alone: NetworkManager uses no file that others can read.
PRIVATE = "authkey"
_FOR_ROOT = (".nmconnection", f"/{PRIVATE}")
# systemd takes only links for what a target wants.
LINK = "-> "


def is_enabled(root: str, unit: str) -> bool:
    """Return whether a target of the system in the tree ``root`` starts a unit."""
    own = os.path.join(resolve_below(root, _PLACES[0]) or root, unit)
    if os.path.islink(own) and os.readlink(own) == "/dev/null":
        return False
    for place in _PLACES:
        top = resolve_below(root, place)
        for name in os.listdir(top) if top and os.path.isdir(top) else ():
            if name.endswith((".wants", ".requires")) and os.path.lexists(os.path.join(top or "", name, unit)):
                return True
    return False


def rollback_units(seconds: int) -> dict[str, str]:
    """Return units by path that reboot some seconds after the start, unless CONFIRMED exists by then.

    They need no program of the image, and go on if it ends in an emergency shell.
    """
    timer = [
        *("[Unit]", "Description=Reboot into the installed system, unless somebody confirms the pivot"),
        *("DefaultDependencies=no", "IgnoreOnIsolate=yes", ""),
        *("[Timer]", f"OnActiveSec={seconds}", "AccuracySec=1s", ""),
    ]
    service = [
        *("[Unit]", "Description=Reboot into the installed system: nobody confirmed the pivot"),
        *("DefaultDependencies=no", f"ConditionPathExists=!{CONFIRMED}", "SuccessAction=reboot-force", ""),
        *("[Service]", "Type=oneshot", ""),
    ]
    wanted = wanted_by(_TIMER, "sysinit.target") | wanted_by(_TIMER, "emergency.target")
    return {f"{RUN}/{_TIMER}": "\n".join(timer), f"{RUN}/{_SERVICE}": "\n".join(service), **wanted}


def wanted_by(unit: str, target: str) -> dict[str, str]:
    """Return the link by which a target starts a unit below /run, by its path, for ``written_files``."""
    return {f"{RUN}/{target}.wants/{unit}": f"{LINK}../{unit}"}


@contextmanager
def written_files(files: Mapping[str, str]) -> Iterator[None]:
    """Write files by path, and links for texts that begin with LINK; if the block fails, all is as before.

    Raise OSError.
    """
    with ExitStack() as undo:
        for path, content in files.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            undo.callback(_restore, path, _content(path))
            _remove(path)
            if content.startswith(LINK):
                os.symlink(content.removeprefix(LINK), path)
                continue
            with open(path, "x", encoding="utf-8") as file:
                os.fchmod(file.fileno(), 0o600 if path.endswith(_FOR_ROOT) else 0o644)
                file.write(content)
        yield
        undo.pop_all()


def _content(path: str) -> tuple[str, int] | None:
    """Return content and mode of a file, or where a link leads, as ``written_files`` takes it."""
    if os.path.islink(path):
        return f"{LINK}{os.readlink(path)}", 0
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(), os.fstat(file.fileno()).st_mode
    except FileNotFoundError:
        return None


def _restore(path: str, before: tuple[str, int] | None) -> None:
    _remove(path)
    if before is None:
        return
    content, mode = before
    if content.startswith(LINK):
        os.symlink(content.removeprefix(LINK), path)
        return
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(file.fileno(), mode & 0o7777)
        file.write(content)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
