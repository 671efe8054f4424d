"""The command line of the image's own kernel: the image's arguments, this boot's, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.kexec import is_about_kexec
from bootc_live.config.cmdline.tokens import Token, read_word, redact_cmdline, split_cmdline, split_words
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.image_kargs import image_may_ask
from bootc_live.config.source_spec import ROOT_PREFIX

_OF_BOOT_LOADER = frozenset({"BOOT_IMAGE", "initrd"})
# What parse-bootc-live.sh writes into /etc/cmdline.d.
_OF_HOOK = Token("rd.neednet", "1")
_PIN = "bootc.live.digest"
_REGISTRY = "docker://"
_SOURCES = {"root": f"{ROOT_PREFIX}{_REGISTRY}", "bootc.live.fallback": _REGISTRY}


def next_cmdline(text: str, image: Sequence[str], kexec: Kexec, digest: str | None, proc: str) -> str:
    """Give the command line for the next kernel.

    ``text`` is this boot's, as dracut's getcmdline gives it, ``proc`` what of it the kernel got (/proc/cmdline).
    ``image`` holds the image's arguments as they are typed; those that it may not ask for are left out. They come
    first, what is appended last, for the last one counts. ``digest`` pins every registry image that is not yet.
    Raises ConfigError where no root=bootc-live: is left.
    """
    words, to_init = split_words(text)
    here = [word for word in words if not _left_out(read_word(word), proc)]
    stands_here = {read_word(word) for word in here}
    own = [word for word in image if image_may_ask(word) and read_word(word) not in stands_here]
    removed = [read_word(word) for word in kexec.remove]
    kept = [word for word in (*own, *here) if not any(_matches(read_word(word), out) for out in removed)]
    result = list(_pinned([*kept, *_appended(kexec)], digest))
    if not _has_root(read_word(word) for word in result):
        typed = [f"remove={text}" for text in kexec.remove] + [f"append={text}" for text in kexec.append]
        said = redact_cmdline(" ".join(f"bootc.kexec.{argument}" for argument in typed))
        raise ConfigError(
            f"'{said}' leaves the next kernel without a root={ROOT_PREFIX}…",
            hint="correct these arguments on the kernel command line",
        )
    return " ".join([*result, *(["--", to_init] if to_init else [])])


def _left_out(token: Token, proc: str) -> bool:
    if token == _OF_HOOK:
        return token not in split_cmdline(proc)
    return token.name in _OF_BOOT_LOADER or is_about_kexec(token.name)


def _matches(token: Token, removed: Token) -> bool:
    return token == removed or (removed.value is None and token.name == removed.name)


def _appended(kexec: Kexec) -> list[str]:
    return [word for text in kexec.append for word in split_words(text)[0]]


def _pinned(words: Sequence[str], digest: str | None) -> Iterator[str]:
    tokens = [read_word(word) for word in words]
    given = [token.value or "" for token in tokens if token.name == _PIN]
    if digest and given and given[-1].partition(":")[0] == digest.partition(":")[0]:
        # It is right, and may be that of an index: one command line must not ask for both.
        digest = given[-1]
    for word, token in zip(words, tokens, strict=True):
        before = _SOURCES.get(token.name)
        if digest and before and token.value and token.value.startswith(before) and "@" not in token.value:
            yield str(Token(token.name, f"{token.value}@{digest}"))
        else:
            # A quote that nobody closed would take in what follows.
            yield word + '"' * (word.count('"') % 2)
    if digest and not _is_pinned(tokens, digest):
        yield f"{_PIN}={digest}"


def _is_pinned(tokens: Sequence[Token], digest: str) -> bool:
    """Tell whether another digest is given already: that of an index, for all sources there are, or a pin."""
    names = {token.name for token in tokens}
    root = next((token.value or "" for token in reversed(tokens) if token.name == "root"), "")
    index = root.partition("@")[2] if root.startswith(_SOURCES["root"]) else ""
    return _PIN in names or (index not in {"", digest} and "bootc.live.fallback" not in names)


def _has_root(tokens: Iterable[Token]) -> bool:
    last = [token.value or "" for token in tokens if token.name == "root"][-1:]
    return any(value.startswith(ROOT_PREFIX) for value in last)
