"""Read systemd credentials of the system, passed by SMBIOS, fw_cfg, boot loader or kernel command line."""

from __future__ import annotations

import os

SYSTEM_CREDENTIALS = "/run/credentials/@system"


def credential_path(name: str, directory: str = SYSTEM_CREDENTIALS) -> str | None:
    """Return the path of a credential's file (systemd.system-credentials(7)), or None if it cannot be read."""
    path = os.path.join(directory, name)
    return path if os.access(path, os.R_OK) and os.path.isfile(path) else None


def read_credential(name: str, directory: str = SYSTEM_CREDENTIALS) -> bytes | None:
    """Return the content of a credential, or None without one; raise OSError."""
    path = credential_path(name, directory)
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
