"""Make the command line of the next kernel: the image's arguments, this boot's, and appended ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.table import is_about_kexec
from bootc_live.config.cmdline.tokens import Token, read_word, redact_cmdline, split_cmdline, split_words
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.image_kargs import Verdict, verdict
from bootc_live.config.source_spec import ROOT_PREFIX

_OF_BOOT_LOADER = frozenset({"BOOT_IMAGE", "initrd"})
# parse-bootc-live.sh writes this into /etc/cmdline.d.
_OF_HOOK = Token("rd.neednet", "1")
_PIN = "bootc.live.digest"
_REGISTRY = "docker://"
# COMMAND_LINE_SIZE of x86 and arm64, without the byte that ends it.
MOST_BYTES = 2047
_SOURCES = {"root": f"{ROOT_PREFIX}{_REGISTRY}", "bootc.live.fallback": _REGISTRY}


def next_cmdline(text: str, image: Sequence[str], kexec: Kexec, digest: str | None, proc: str) -> str:
    """Return the command line for the next kernel.

    ``text`` is this boot's command line from dracut's getcmdline, ``proc`` the part from /proc/cmdline. ``image``
    contains the image's arguments as typed; arguments that an image may not set are dropped. The image's arguments
    come first and appended ones last, because the last one has precedence. ``digest`` pins every registry image
    without a digest. Raise ConfigError without a root=bootc-live: in the result.
    """
    words, to_init = split_words(text)
    here = [word for word in words if not _dropped(read_word(word), proc)]
    present = {read_word(word) for word in here}
    own = [word for word in image if verdict(word) is Verdict.KEPT and read_word(word) not in present]
    removed = [read_word(word) for word in kexec.remove]
    kept = [word for word in (*own, *here) if not any(_matches(read_word(word), out) for out in removed)]
    appended = [word for text in kexec.append for word in split_words(text)[0]]
    result = list(_pinned([*kept, *appended], digest))
    roots = [token.value or "" for token in map(read_word, result) if token.name == "root"]
    if not roots or not roots[-1].startswith(ROOT_PREFIX):
        given = [f"remove={text}" for text in kexec.remove] + [f"append={text}" for text in kexec.append]
        arguments = redact_cmdline(" ".join(f"bootc.kexec.{argument}" for argument in given))
        raise ConfigError(
            f"'{arguments}' leaves the next kernel without a root={ROOT_PREFIX}…",
            hint="correct these arguments on the kernel command line",
        )
    return " ".join([*result, *(["--", to_init] if to_init else [])])


def check_next_cmdline(text: str, environ: Mapping[str, str] | None = None) -> None:
    """Raise ConfigError for a command line that no kernel accepts, or that ends a boot; see ``parse_cmdline``."""
    size = len(os.fsencode(text))
    if size > MOST_BYTES:
        raise ConfigError(
            f"the kernel command line has {size} bytes, but kernels accept at most {MOST_BYTES}",
            hint="add fewer kernel arguments, or remove some from the image (kargs.d)",
        )
    parse_cmdline(text, environ)


def _dropped(token: Token, proc: str) -> bool:
    if token == _OF_HOOK:
        return token not in split_cmdline(proc)
    return token.name in _OF_BOOT_LOADER or is_about_kexec(token.name)


def _matches(token: Token, removed: Token) -> bool:
    return token == removed or (removed.value is None and token.name == removed.name)


def _pinned(words: Sequence[str], digest: str | None) -> Iterator[str]:
    tokens = [read_word(word) for word in words]
    given = [token.value or "" for token in tokens if token.name == _PIN]
    if digest and given and given[-1].partition(":")[0] == digest.partition(":")[0]:
        # The given digest is right. It may be that of an index, which must not be mixed with a manifest's.
        digest = given[-1]
    for word, token in zip(words, tokens, strict=True):
        before = _SOURCES.get(token.name)
        if digest and before and token.value and token.value.startswith(before) and "@" not in token.value:
            yield str(Token(token.name, f"{token.value}@{digest}"))
        else:
            # Close an open quote, which would include the following arguments.
            yield word + '"' * (word.count('"') % 2)
    if digest and not _is_pinned(tokens, digest):
        yield f"{_PIN}={digest}"


def _is_pinned(tokens: Sequence[Token], digest: str) -> bool:
    """Return whether a pin exists, or the digest of an index that applies to the only source."""
    names = {token.name for token in tokens}
    root = next((token.value or "" for token in reversed(tokens) if token.name == "root"), "")
    index = root.partition("@")[2] if root.startswith(_SOURCES["root"]) else ""
    return _PIN in names or (index not in {"", digest} and "bootc.live.fallback" not in names)
