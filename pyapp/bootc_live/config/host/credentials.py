"""systemd credentials handed to the whole system: by SMBIOS, fw_cfg, boot loader or kernel command line."""

from __future__ import annotations

import os

SYSTEM_CREDENTIALS = "/run/credentials/@system"


def credential_path(name: str, directory: str = SYSTEM_CREDENTIALS) -> str | None:
    """Give the path of a credential's file (systemd.system-credentials(7)), or None where there is none.

    None too for those who may not look: the directory belongs to root.
    """
    path = os.path.join(directory, name)
    return path if os.access(path, os.R_OK) and os.path.isfile(path) else None


def read_credential(name: str, directory: str = SYSTEM_CREDENTIALS) -> bytes | None:
    """Give the content of a credential, or None where there is none. Raises OSError."""
    path = credential_path(name, directory)
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()
