"""The arguments about kexec: what they make together, and what of them cannot be meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from bootc_live.config.cmdline.tokens import Token, read_word, redact_cmdline, split_cmdline, split_words
from bootc_live.config.model import Kexec

# Values by name, none where what was typed is damaged.
Values = Mapping[str, list[object]]

NAME = "bootc.kexec"


def is_about_kexec(name: str) -> bool:
    """Tell ``bootc.kexec`` and what is below it, which must not reach the next kernel: it would do the same again."""
    return name == NAME or name.startswith(f"{NAME}.")


def make_kexec(values: Values) -> Kexec | None:
    """Give how kexec is to be done, None where it was not asked for."""
    if not _last(values, NAME, default=False):
        return None
    return Kexec(
        reuse=bool(_last(values, f"{NAME}.reuse-image", default=True)),
        append=_texts(values, "append"),
        remove=_texts(values, "remove"),
        boot_on_failure=_last(values, f"{NAME}.onfail", "stop") == "boot",
    )


def appended(values: Values) -> list[Token]:
    """Give the arguments that are appended for the next kernel, but for those about kexec."""
    tokens = [token for text in _texts(values, "append") for token in split_cmdline(text)]
    return [token for token in tokens if not is_about_kexec(token.name)]


def kexec_mixed_up(values: Values) -> Iterator[str]:
    """Give the mistakes that these arguments make together, and those inside ``bootc.kexec.append=``."""
    for text in _texts(values, "append"):
        words, behind = split_words(text)
        typed = f"{NAME}.append={redact_cmdline(text)}"
        if any(is_about_kexec(token.name) for token in split_cmdline(text)):
            yield f"'{typed}' would start kexec again in the next kernel; leave bootc.kexec out of it"
        if behind or not words:
            yield f"'{typed}' is no list of kernel arguments; what stands behind '--' is for init"
    for text in _texts(values, "remove"):
        if len(read_word(text).name.split()) != 1:
            typed = f"{NAME}.remove={redact_cmdline(text)}"
            yield f"'{typed}' names no argument, or several; repeat bootc.kexec.remove= for each of them"
    # Where it is written, be it to switch kexec off for once, the others may stay.
    if NAME in values:
        return
    for name, nothing in (("append", None), ("remove", None), ("onfail", "stop")):
        value = _last(values, f"{NAME}.{name}", nothing)
        if value != nothing:
            yield f"'{NAME}.{name}={redact_cmdline(str(value))}' is about kexec; add bootc.kexec"


def _texts(values: Values, name: str) -> tuple[str, ...]:
    return tuple(cast("list[str]", values.get(f"{NAME}.{name}", [])))


def _last(values: Values, name: str, default: object) -> object:
    found = values.get(name)
    return found[-1] if found else default
