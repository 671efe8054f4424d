"""Look at the units of systemd in a tree, and write units for a system that starts in it, below /run."""

from __future__ import annotations

import os

from bootc_live.base.paths import resolve_below

_PLACES = ("etc/systemd/system", "usr/lib/systemd/system")
_TIMER, _SERVICE = "bootc-live-rollback.timer", "bootc-live-rollback.service"
# Somebody makes this file to say that all is well.
CONFIRMED = "/run/bootc-live/confirmed"
_RUN = "/run/systemd/system"


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
    content = "\n".join(timer)
    wanted = {f"{_RUN}/{target}.wants/{_TIMER}": content for target in ("sysinit.target", "emergency.target")}
    return {f"{_RUN}/{_TIMER}": content, f"{_RUN}/{_SERVICE}": "\n".join(service), **wanted}
