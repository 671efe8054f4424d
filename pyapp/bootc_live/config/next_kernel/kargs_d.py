"""Read an image's kernel arguments from /usr/lib/bootc/kargs.d, as bootc does."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from bootc_live.base.errors import ImageError
from bootc_live.config.cmdline.tokens import split_words

DIRECTORY = "usr/lib/bootc/kargs.d"

# bootc uses Rust's architecture names, which differ from those of uname(2) for these.
_RUST = {"i686": "x86", "armv6l": "arm", "armv7l": "arm", "ppc64": "powerpc64", "ppc64le": "powerpc64"}
_KNOWN = frozenset({"kargs", "match-architectures"})


def image_arguments(files: Mapping[str, bytes], machine: str) -> tuple[str, ...]:
    """Return the arguments of all ``.toml`` files as typed, in the order of the files' names.

    ``files`` maps names or paths to contents. ``machine`` is an architecture of uname(2). Raise ImageError with the
    name of the file.
    """
    arguments: list[str] = []
    for name in sorted(files, key=posixpath.basename):
        if posixpath.splitext(name)[1] == ".toml":
            arguments += _arguments(name, files[name], _RUST.get(machine, machine))
    return tuple(arguments)


def _arguments(name: str, content: bytes, architecture: str) -> list[str]:
    # A late import: few images have such files.
    import tomllib

    try:
        document = tomllib.loads(content.decode())
        unknown = sorted(document.keys() - _KNOWN)
        if unknown:
            raise ValueError(f"the key {unknown[0]!r} is unknown")
        kargs = _strings(document, "kargs")
        matching = _strings(document, "match-architectures") if "match-architectures" in document else [architecture]
        # A string may contain several arguments.
        words = printable_words(" ".join(kargs))
    except (ValueError, RecursionError) as error:
        raise ImageError(
            f"cannot read the kernel arguments in {name!r} of the image: {error}",
            hint='correct the image: the file needs kargs = ["…"], and may contain match-architectures = ["…"]',
        ) from error
    return words if architecture in matching else []


def printable_words(text: str) -> list[str]:
    """Return the arguments as typed, then ``--`` and the text after it as one argument.

    Raise ValueError for unprintable characters, such as line breaks.
    """
    words, to_init = split_words(text)
    if to_init:
        words.append(f"-- {to_init}")
    for word in words:
        if not word.isprintable():
            raise ValueError(f"the argument {word!r} contains unprintable characters")
    return words


def _strings(document: Mapping[str, object], key: str) -> list[str]:
    value = document.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{key!r} is not a list of strings")
    return value
