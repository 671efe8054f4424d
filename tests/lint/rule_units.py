"""Units of the initramfs say what they come before; without it nothing holds the boot back for them."""

from __future__ import annotations


def without_order(name: str, text: str) -> list[str]:
    """One finding if the [Unit] section has no non-empty `Before=` (systemd.unit(5))."""
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip()
        key, _, value = line.partition("=")
        if section == "[Unit]" and key.strip() == "Before" and value.strip():
            return []
    return [f"{name} has no Before= in [Unit]"]
