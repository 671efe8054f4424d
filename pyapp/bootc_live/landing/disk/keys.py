"""The key for Secure Boot that a machine keeps, if it was asked to, in order to sign what it boots next."""

from __future__ import annotations

import os
import shutil

from bootc_live.artifacts.uki import Signing
from bootc_live.base.errors import LandingError
from bootc_live.landing.disk.deployments import Deployments, disk_errors
from bootc_live.landing.disk.settings import Settings
from bootc_live.system.cleanup.directories import remove_tree

_KEY, _CERTIFICATE = "key.pem", "cert.pem"


def kept_signing(disk: Deployments) -> Signing | None:
    """Return the files of the key and the certificate on a disk; None if it has none."""
    found = Signing(*(os.path.join(_directory(disk), name) for name in (_KEY, _CERTIFICATE)))
    return found if os.path.isfile(found.key) and os.path.isfile(found.certificate) else None


def keep_signing(disk: Deployments, signing: Signing) -> None:
    """Copy key and certificate to a disk, where only root can read them; raise RootfsError."""
    directory = _directory(disk)
    with disk_errors("the key for Secure Boot"):
        # Of an installation that was interrupted.
        remove_tree(directory)
        os.mkdir(directory, 0o700)
        for source, name in ((signing.key, _KEY), (signing.certificate, _CERTIFICATE)):
            target = os.path.join(directory, name)
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            shutil.copyfile(source, target)


def check_can_sign(disk: Deployments, settings: Settings) -> None:
    """Raise LandingError if a machine has to sign what it boots next, and has no key."""
    if settings.secure_boot and settings.loader == "uki" and kept_signing(disk) is None:
        raise LandingError(
            "what this machine boots has to be signed for Secure Boot, and the key did not stay on it",
            hint="install it anew; with --keep-key, it can sign its upgrades itself",
        )


def _directory(disk: Deployments) -> str:
    return os.path.join(disk.top, "keys")
