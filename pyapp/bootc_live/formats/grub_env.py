"""GRUB's environment block: variables in a file of 1024 bytes, which GRUB itself writes in place."""

from __future__ import annotations

from collections.abc import Mapping

SIZE = 1024
SECTOR = 512
_SIGNATURE = b"# GRUB Environment Block\n"
_FILL = b"#"


def read_block(data: bytes) -> dict[str, str]:
    """Return the variables; raise ValueError if it is not an environment block."""
    if not data.startswith(_SIGNATURE):
        raise ValueError("it has no signature")
    found: dict[str, str] = {}
    # A backslash stands before a line break or a backslash in a value.
    line, escaped = bytearray(), False
    for byte in data[len(_SIGNATURE) :]:
        if escaped or byte not in b"\\\n":
            line.append(byte)
            escaped = False
        elif byte == ord("\\"):
            escaped = True
        else:
            name, mark, value = line.decode(errors="surrogateescape").partition("=")
            if mark and not name.startswith("#"):
                found[name] = value
            line.clear()
    return found


def write_block(variables: Mapping[str, str]) -> bytes:
    """Return a block with these variables; raise ValueError if they need more than one sector.

    What follows the first sector is always the same, so a block is the old or the new one whenever power is cut.
    """
    text = _SIGNATURE
    for name, value in variables.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\\n")
        text += f"{name}={escaped}\n".encode(errors="surrogateescape")
    if len(text) > SECTOR:
        raise ValueError(f"it would have {len(text)} bytes, but {SECTOR} can be written at once")
    return text.ljust(SIZE, _FILL)
