"""Configuration of boot loaders for one kernel, its initrds and a command line: iPXE, GRUB and PXELINUX.

Each loader reads the command line by rules of its own before the kernel does; what one cannot carry is an error here.
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
    """What a loader loads: file names that count from the directory of its configuration, and a command line.

    ``base`` is the URL of that directory, where one was given; it ends without a slash.
    """

    title: str
    kernel: str
    initrds: Sequence[str]
    cmdline: str
    base: str | None = None


def loader_files(entry: Entry) -> dict[str, str]:
    """Give the content of each file by its name; raises ConfigError where a loader cannot carry the command line."""
    return {
        "boot.ipxe": _ipxe(entry),
        "grub.cfg": _grub(entry),
        "pxelinux.cfg/default": _pxelinux(entry),
    }


def _ipxe(entry: Entry) -> str:
    """Give a script; names without a base count from where the script came from."""
    under = f"{entry.base}/" if entry.base else ""
    words = _each(entry.cmdline, "iPXE", _ipxe_word)
    # The kernel's EFI stub wants them named; a BIOS's kernel does not care.
    named = [f"initrd={name}" for name in entry.initrds]
    lines = ["#!ipxe", " ".join(["kernel", f"{under}{entry.kernel}", *named, *words])]
    lines += [f"initrd {under}{name}" for name in entry.initrds]
    return "\n".join([*lines, "boot", ""])


def _grub(entry: Entry) -> str:
    """Give a menu entry, which may be the only one; its files count from the directory of this file."""
    words = _each(entry.cmdline, "GRUB", _grub_word)
    initrds = [f'"$2/{name}"' for name in entry.initrds]
    lines = [
        # Where it is the whole configuration, and not a part of one that says when to go on.
        'if [ -z "$timeout" ]; then set timeout=3; fi',
        # The variable holds for the reading of this file alone, an entry's parameters for ever.
        f"menuentry '{entry.title}' \"$config_directory\" {{",
        " ".join([f'    linux "$2/{entry.kernel}"', *words]),
        " ".join(["    initrd", *initrds]),
        "}",
    ]
    return "\n".join([*lines, ""])


def _pxelinux(entry: Entry) -> str:
    """Give a configuration with one label; its files count from the directory of the loader."""
    lines = [
        "DEFAULT bootc-live",
        "LABEL bootc-live",
        f"  MENU LABEL {entry.title}",
        f"  KERNEL {entry.kernel}",
        f"  INITRD {','.join(entry.initrds)}",
        # Taken as it is, to the end of the line.
        f"  APPEND {entry.cmdline}",
    ]
    return "\n".join([*lines, ""])


def _each(cmdline: str, loader: str, written: Callable[[str], str | None]) -> list[str]:
    words = []
    for word in split_words(cmdline)[0]:
        found = written(word)
        if found is None:
            raise ConfigError(
                f"the kernel argument {redact_value(word)!r} cannot be written for {loader}, "
                "which would read it differently",
                hint="leave it out, or write it without quotes inside, backslashes, ${ and blanks side by side",
            )
        words.append(found)
    return words


def _ipxe_word(word: str) -> str | None:
    """Give it as it is: iPXE splits at white space, knows no quotes and puts the parts together with one space."""
    parts = word.split()
    if "${" in word or " ".join(parts) != word or any(part.startswith("#") or part in _IPXE_ENDS for part in parts):
        return None
    return word


def _grub_word(word: str) -> str | None:
    """Give it in single quotes; GRUB puts double quotes around what has spaces, as the kernel wants them."""
    if _GRUB_PLAIN.fullmatch(word):
        return word
    name, mark, value = word.partition("=")
    if word.startswith('"') and word.endswith('"') and len(word) > 1:
        word = word[1:-1]
    elif value.startswith('"') and value.endswith('"') and len(value) > 1:
        word = f"{name}{mark}{value[1:-1]}"
    return None if set("'\"\\") & set(word) else f"'{word}'"
