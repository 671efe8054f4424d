"""The kernel command line of machines that boot what is made here: where the image is, and which one it has to be."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bootc_live.base.errors import ConfigError
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.tokens import Token, redact_cmdline, split_cmdline, split_words
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.cmdline import next_cmdline
from bootc_live.config.source_spec import (
    ROOT_PREFIX,
    ArchiveFile,
    DeviceArchive,
    HandlerArchive,
    RegistryImage,
    SourceSpec,
    WebArchive,
)

ARCHIVE = "rootfs.oci"
# COMMAND_LINE_SIZE of x86 and arm64, less the byte that ends it.
MOST_BYTES = 2047


def node_cmdline(first: Sequence[Token], image: Sequence[str], append: str, digest: str | None) -> str:
    """Give the command line: the image's arguments, then ``first``, then what is to be added, for the last one counts.

    ``digest`` pins the image, if it is not None. Raises ConfigError, also for mistakes that would end such a boot.
    """
    cmdline = next_cmdline(" ".join(map(str, first)), image, Kexec(append=(append,)), digest, "")
    parse_cmdline(cmdline)
    size = len(cmdline.encode())
    if size > MOST_BYTES:
        raise ConfigError(
            f"the kernel command line has {size} bytes, kernels read {MOST_BYTES} at the most",
            hint="ask for less with --append, or take kernel arguments out of the image",
        )
    return cmdline


def check_append(append: str) -> str | None:
    """Give the ``root=`` among the arguments to add, which takes the place of what SOURCE gives; raises ConfigError."""
    if split_words(append)[1] or append.count('"') % 2 or not append.isprintable():
        raise ConfigError(
            f"'--append {redact_cmdline(append)}' is no list of kernel arguments",
            hint="close quotes, and leave '--' out",
        )
    roots = [token.value or "" for token in split_cmdline(append) if token.name == "root"]
    if roots and not roots[-1].startswith(ROOT_PREFIX):
        raise ConfigError(f"'--append root={redact_value(roots[-1])}' is not ours", hint=f"write root={ROOT_PREFIX}…")
    return roots[-1] if roots else None


def goes_on_elsewhere(append: str) -> bool:
    """Tell whether the arguments to add ask for kexec into an image that they name: that may be any."""
    asked = [token for token in split_cmdline(append) if token.name in ("root", "bootc.kexec")]
    text = " ".join(map(str, asked))
    return check_append(text) is not None and parse_cmdline(text).kexec is not None


def check_base(text: str) -> str:
    """Give the URL of a directory without a slash at its end; raises ConfigError."""
    base = text.rstrip("/")
    if not base.startswith(("http://", "https://", "tftp://")) or set(" '\"\\$") & set(base) or not base.isprintable():
        raise ConfigError(
            f"'--url {redact_value(text)}' is not the URL of a directory", hint="write it as http://boot.example/os"
        )
    return base


def node_source(spec: SourceSpec, typed: str, digest: str, base: str | None) -> str | None:
    """Give the source that other machines are to boot from: the one used here, with its digest if it is in a registry.

    An archive of this machine is served as ``ARCHIVE`` below ``base``. None where nobody else could read it.
    Raises ConfigError for a directory, which cannot be served.
    """
    match spec:
        case RegistryImage():
            return f"docker://{spec.reference.partition('@')[0]}@{digest}"
        case DeviceArchive():
            return f"{spec.device}:{spec.path}"
        case ArchiveFile():
            if base is not None and os.path.isdir(spec.path):
                raise ConfigError(
                    f"{typed!r} is a directory: machines cannot boot from one over the network",
                    hint="take it along with --rootfs, or name an archive of it",
                )
            return None if base is None else f"{base}/{ARCHIVE}"
        case WebArchive() | HandlerArchive():
            return spec.url
        case _:
            return None
