"""Make the reference page of kernel arguments from the table."""

from __future__ import annotations

from bootc_live.config.cmdline.table import KARGS, Karg
from bootc_live.config.cmdline.values import BOOLEAN_WORDS

_HEAD = f"""# Kernel command line

This page is made from the table in `pyapp/bootc_live/config/cmdline/table.py` by `bootc-live kargs --markdown`.

The command line is read as the kernel reads it: white space separates arguments, double quotes group, and what
follows `--` is for init. Names are written in small letters: one of ours with capitals in it is an error, but for the
names of proxies that all programs read in either case. Where an argument is given more than once, the last one counts;
of those marked "repeatable" all count, in the order given.
Booleans are `{BOOLEAN_WORDS}` in any case, and an argument without a value means `1`;
anything else is an error that names the argument. A duration is a number of seconds, or a number with `s`, `m` or `h`.
A size is a number of bytes, a number with `K`, `M`, `G` or `T` (powers of 1024), or a share of RAM such as `50%`.
All mistakes of a command line are reported at once, and the boot stops: nothing is ignored in silence.

Passwords and queries of URLs are left out of everything this program writes. The kernel, however, logs its whole
command line, and every user of the booted system can read it: put secrets into files of the initramfs or systemd
credentials instead.

| argument | value | default | what it does |
|---|---|---|---|
"""


def markdown() -> str:
    """Return the whole page, with a newline at its end."""
    return _HEAD + "".join(_row(karg) for karg in KARGS)


def plain() -> str:
    """Return the table for a terminal."""
    lines = []
    for karg in KARGS:
        default = f" [{karg.default}]" if karg.default else ""
        lines.append(f"{karg.name} ({_kind(karg)}){default}\n    {karg.help.replace('`', '')}")
    return "\n".join(lines)


def _row(karg: Karg) -> str:
    default = f"`{karg.default}`" if karg.default else ""
    text = karg.help.replace("|", "\\|")
    return f"| `{karg.name}` | {_kind(karg)} | {default} | {text} |\n"


def _kind(karg: Karg) -> str:
    if karg.choices:
        return f"{', '.join(karg.choices[:-1])} or {karg.choices[-1]}"
    return f"{karg.kind}, repeatable" if karg.many else str(karg.kind)
