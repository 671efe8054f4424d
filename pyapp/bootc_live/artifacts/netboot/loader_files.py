"""Configuration of iPXE, GRUB and PXELINUX for one kernel, its initrds and a command line.

Each loader interprets the command line by its own rules before the kernel does. An argument that one of them would
change is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.tokens import split_words

_IPXE_ENDS = frozenset({"||", "&&", ";"})
_GRUB_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


@dataclass(frozen=True)
class Entry:
    """What a loader loads: files, relative to the directory of its configuration, and a command line.

    ``base`` is the URL of that directory without a slash at its end, or None.
    """

    title: str
    kernel: str
    initrds: Sequence[str]
    cmdline: str
    base: str | None = None


def loader_files(entry: Entry) -> dict[str, str]:
    """Return the content of each file by its name; raise ConfigError if a loader would change the command line."""
    return {
        "boot.ipxe": _ipxe(entry),
        "grub.cfg": _grub(entry),
        "pxelinux.cfg/default": _pxelinux(entry),
    }


def grub_words(cmdline: str) -> list[str]:
    """Return the arguments of a kernel command line as GRUB's ``linux`` takes them; raise ConfigError."""
    before, for_init = split_words(cmdline)
    words = _words_for(before, "GRUB", _grub_word)
    return [*words, "--", *grub_words(for_init)] if for_init else words


def _ipxe(entry: Entry) -> str:
    """Return an iPXE script; without a base, names are relative to the script's URL."""
    under = f"{entry.base}/" if entry.base else ""
    words = _words_for(split_words(entry.cmdline)[0], "iPXE", _ipxe_word)
    # The kernel's EFI stub needs the names; under BIOS they are ignored.
    named = [f"initrd={name}" for name in entry.initrds]
    lines = ["#!ipxe", " ".join(["kernel", f"{under}{entry.kernel}", *named, *words])]
    lines += [f"initrd {under}{name}" for name in entry.initrds]
    return "\n".join([*lines, "boot", ""])


def _grub(entry: Entry) -> str:
    """Return a GRUB menu entry; its files are relative to the directory of this file."""
    words = _words_for(split_words(entry.cmdline)[0], "GRUB", _grub_word)
    initrds = [f'"$2/{name}"' for name in entry.initrds]
    lines = [
        # Unless a configuration that includes this file has set it.
        'if [ -z "$timeout" ]; then set timeout=3; fi',
        # The variable is valid only while this file is read; the parameters of an entry remain.
        f"menuentry '{entry.title}' \"$config_directory\" {{",
        " ".join([f'    linux "$2/{entry.kernel}"', *words]),
        " ".join(["    initrd", *initrds]),
        "}",
    ]
    return "\n".join([*lines, ""])


def _pxelinux(entry: Entry) -> str:
    """Return a PXELINUX configuration with one label; its files are relative to the directory of the loader."""
    lines = [
        "DEFAULT bootc-live",
        "LABEL bootc-live",
        f"  MENU LABEL {entry.title}",
        f"  KERNEL {entry.kernel}",
        f"  INITRD {','.join(entry.initrds)}",
        # Used unchanged to the end of the line.
        f"  APPEND {entry.cmdline}",
    ]
    return "\n".join([*lines, ""])


def _words_for(typed: Sequence[str], loader: str, written: Callable[[str], str | None]) -> list[str]:
    words = []
    for word in typed:
        found = written(word)
        if found is None:
            raise ConfigError(
                f"the kernel argument {redact_value(word)!r} cannot be written for {loader}, "
                "which would read it differently",
                hint="leave it out, or write it without inner quotes, backslashes, ${ and consecutive spaces",
            )
        words.append(found)
    return words


def _ipxe_word(word: str) -> str | None:
    """Return the argument unchanged, or None: iPXE ignores quotes, and joins words with one space."""
    parts = word.split()
    if "${" in word or " ".join(parts) != word or any(part.startswith("#") or part in _IPXE_ENDS for part in parts):
        return None
    return word


def _grub_word(word: str) -> str | None:
    """Return the argument in single quotes, or None; GRUB adds the double quotes that the kernel needs for spaces."""
    if _GRUB_PLAIN.fullmatch(word):
        return word
    name, mark, value = word.partition("=")
    if word.startswith('"') and word.endswith('"') and len(word) > 1:
        word = word[1:-1]
    elif value.startswith('"') and value.endswith('"') and len(value) > 1:
        word = f"{name}{mark}{value[1:-1]}"
    return None if set("'\"\\") & set(word) else f"'{word}'"
