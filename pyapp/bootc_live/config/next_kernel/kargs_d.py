"""The kernel arguments that an image brings along in /usr/lib/bootc/kargs.d, as bootc reads them."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from bootc_live.base.errors import ImageError
from bootc_live.config.cmdline.tokens import split_words

DIRECTORY = "usr/lib/bootc/kargs.d"

# bootc uses the names of Rust, which are those of uname(2) but for these.
_RUST = {"i686": "x86", "armv6l": "arm", "armv7l": "arm", "ppc64": "powerpc64", "ppc64le": "powerpc64"}
_KNOWN = frozenset({"kargs", "match-architectures"})


def image_arguments(files: Mapping[str, bytes], machine: str) -> tuple[str, ...]:
    """Give the arguments of all files as they are typed, in the order of the files' names.

    ``files`` holds contents by name or path; those that do not end in ``.toml`` do not count. ``machine`` is as
    uname(2) has it. Raises ImageError naming the file.
    """
    arguments: list[str] = []
    for name in sorted(files, key=posixpath.basename):
        if posixpath.splitext(name)[1] == ".toml":
            arguments += _arguments(name, files[name], _RUST.get(machine, machine))
    return tuple(arguments)


def _arguments(name: str, content: bytes, architecture: str) -> list[str]:
    # Late, because few images have such files.
    import tomllib

    try:
        document = tomllib.loads(content.decode())
        unknown = sorted(document.keys() - _KNOWN)
        if unknown:
            raise ValueError(f"the key {unknown[0]!r} is unknown")
        kargs = _strings(document, "kargs")
        matching = _strings(document, "match-architectures") if "match-architectures" in document else [architecture]
        # One string may hold several arguments.
        words = printable_words(" ".join(kargs))
    except (ValueError, RecursionError) as error:
        raise ImageError(
            f"cannot read the kernel arguments in {name!r} of the image: {error}",
            hint='it has to hold kargs = ["…"], and may hold match-architectures = ["…"]; correct the image',
        ) from error
    return words if architecture in matching else []


def printable_words(text: str) -> list[str]:
    """Return the arguments as they are typed, and as the last one what stands behind ``--``, with that in front.

    Raises ValueError for what would end a line of a command line.
    """
    words, to_init = split_words(text)
    if to_init:
        words.append(f"-- {to_init}")
    for word in words:
        if not word.isprintable():
            raise ValueError(f"the argument {word!r} holds characters that cannot be printed")
    return words


def _strings(document: Mapping[str, object], key: str) -> list[str]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{key!r} is not a list of strings")
    return value
