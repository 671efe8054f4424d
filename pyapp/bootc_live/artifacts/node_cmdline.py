"""The kernel command line for other machines: the source of the image, and its digest."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.tokens import Token, redact_cmdline, split_cmdline, split_words
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.cmdline import check_next_cmdline, next_cmdline
from bootc_live.config.source_spec import (
    ROOT_PREFIX,
    ArchiveFile,
    DeviceArchive,
    HandlerArchive,
    RegistryImage,
    SourceSpec,
    WebArchive,
    WebPointer,
)

ARCHIVE = "rootfs.oci"


def node_cmdline(first: Sequence[Token], image: Sequence[str], append: str, digest: str | None) -> str:
    """Return the command line: the image's arguments, then ``first``, then ``append``; the last of a name counts.

    ``digest`` pins the image, if it is not None. Raise ConfigError, also for mistakes that would end the boot.
    """
    cmdline = next_cmdline(" ".join(map(str, first)), image, Kexec(append=(append,)), digest, "")
    check_next_cmdline(cmdline)
    return cmdline


def check_append(append: str) -> str | None:
    """Return the ``root=`` in ``append``, which replaces SOURCE, or None; raise ConfigError."""
    if split_words(append)[1] or append.count('"') % 2 or not append.isprintable():
        raise ConfigError(
            f"'--append {redact_cmdline(append)}' is not a list of kernel arguments",
            hint="close quotes, and leave out '--'",
        )
    roots = [token.value or "" for token in split_cmdline(append) if token.name == "root"]
    if roots and not roots[-1].startswith(ROOT_PREFIX):
        raise ConfigError(f"'--append root={redact_value(roots[-1])}' is not ours", hint=f"write root={ROOT_PREFIX}…")
    return roots[-1] if roots else None


def boots_other_image(append: str) -> bool:
    """Return whether ``append`` requests kexec into an image that it names, which may be another one."""
    asked = [token for token in split_cmdline(append) if token.name in ("root", "bootc.kexec")]
    text = " ".join(map(str, asked))
    return check_append(text) is not None and parse_cmdline(text).kexec is not None


def check_base(text: str) -> str:
    """Return the URL of a directory without the slash at its end; raise ConfigError."""
    base = text.rstrip("/")
    if not base.startswith(("http://", "https://", "tftp://")) or set(" '\"\\$") & set(base) or not base.isprintable():
        raise ConfigError(
            f"'--url {redact_value(text)}' is not the URL of a directory", hint="write it as http://boot.example/os"
        )
    return base


def node_source(spec: SourceSpec, source_text: str, digest: str, base: str | None) -> str | None:
    """Return the source for other machines: the one used here, in a registry with its digest.

    An archive of this machine is served as ``ARCHIVE`` below ``base``. Return None if other machines could not read
    it; raise ConfigError for a directory, which cannot be served.
    """
    match spec:
        case RegistryImage():
            return f"docker://{spec.reference.partition('@')[0]}@{digest}"
        case DeviceArchive():
            return f"{spec.device}:{spec.path}"
        case ArchiveFile():
            if base is not None and os.path.isdir(spec.path):
                raise ConfigError(
                    f"{source_text!r} is a directory: machines cannot boot from one over the network",
                    hint="include it with --rootfs, or name an archive of it",
                )
            return None if base is None else f"{base}/{ARCHIVE}"
        case WebArchive() | WebPointer() | HandlerArchive():
            return spec.url
        case _:
            return None
