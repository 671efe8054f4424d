"""Go on in the deployment that boots next by a soft reboot of systemd: all services end, the kernel stays.

The root is mounted when everything has stopped, after /etc was taken over: by ``bootc-live-finalize.service``, which
finds the request in /run. systemd looks for the root after that. See systemd-soft-reboot.service(8).
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from bootc_live.base.errors import LandingError, RunError
from bootc_live.formats import pe
from bootc_live.formats.boot_entry import Entry
from bootc_live.landing.disk.boot_partition.interface import entry_of
from bootc_live.landing.disk.machine import Machine
from bootc_live.landing.pivot.machine import NEXT_ROOT, soft_reboot_obstacle
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.system.mounts import is_mount_point
from bootc_live.system.run import run

_REQUEST = "/run/bootc-live/soft-reboot"
_FINALIZE = "bootc-live-finalize.service"
_OTHERWISE = "use --apply"


def check_possible() -> None:
    """Raise LandingError if this system cannot do it, whatever the next deployment is."""
    obstacle = soft_reboot_obstacle()
    if obstacle:
        raise LandingError(f"'--soft-reboot' is not possible here: {obstacle}", hint=_OTHERWISE)
    if is_mount_point(NEXT_ROOT):
        raise LandingError(
            f"another root waits at {NEXT_ROOT}", hint=f"run 'umount -R {NEXT_ROOT}' to forget it, or {_OTHERWISE}"
        )
    try:
        run(["systemctl", "--quiet", "is-active", _FINALIZE])
    except RunError as error:
        raise LandingError(
            f"'--soft-reboot' is not possible here: {_FINALIZE} does not run, which prepares the next root",
            hint=f"start it with 'systemctl enable --now {_FINALIZE}', or {_OTHERWISE}",
        ) from error


def check_kernel(machine: Machine, following: Entry) -> None:
    """Raise LandingError if the deployment of an entry has another kernel than the one that runs; raise OSError."""
    current = machine.current()
    after = machine.disk.read(following.name.deployment)
    running = entry_of(machine.entries(), current.number)
    why = ""
    if current.kernel != after.kernel:
        why = f"its kernel is {after.kernel}, and {current.kernel} runs"
    elif _kernel(machine, running) != _kernel(machine, following):
        why = f"its kernel {after.kernel} is not the one that runs, but another build"
    if why:
        raise LandingError(
            f"deployment {after.number} boots next, but cannot follow by a soft reboot: {why}",
            hint="restart with: systemctl reboot",
        )


def _kernel(machine: Machine, entry: Entry) -> str:
    """Return the digest of the kernel that an entry starts, without its initramfs and command line."""
    path = f"{machine.boot}{entry.kernel}"
    file = BootFile(path, 0, os.path.getsize(path))
    if not entry.initrd:
        file = file.part(*pe.sections(file.read_at, file.size).get(".linux", (0, file.size)))
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def request(number: int) -> None:
    """Ask systemd to stop everything and to go on in a deployment; raise RunError if it refuses, and OSError."""
    os.makedirs(os.path.dirname(_REQUEST), exist_ok=True)
    with open(_REQUEST, "w", encoding="ascii") as file:
        file.write(f"{number}\n")
    try:
        # systemd may end its processes before systemctl has read the answer.
        run(["sh", "-c", "trap '' HUP TERM; exec systemctl --no-block soft-reboot"])
    except BaseException:
        with suppress(OSError):
            os.unlink(_REQUEST)
        raise


def requested() -> int | None:
    """Return the deployment that somebody asked for, None if nobody did, and forget it; raise OSError."""
    try:
        with open(_REQUEST, encoding="ascii") as file:
            text = file.read().strip()
        os.unlink(_REQUEST)
    except FileNotFoundError:
        return None
    return int(text) if text.isdecimal() else None
