"""Make the reference page of kernel arguments from the table."""

from __future__ import annotations

import re
from textwrap import wrap

from bootc_live.config.cmdline.karg import Karg, Subject
from bootc_live.config.cmdline.table import SUBJECTS
from bootc_live.config.cmdline.values import BOOLEAN_WORDS

_HEAD = f"""# Kernel command line

Every argument that bootc-live reads, by subject. `bootc-live kargs TEXT` checks a command line before you boot with it.

* The command line is read as the kernel reads it: white space separates arguments, double quotes group, and everything
  after `--` is for init.
* If an argument is given more than once, the last one counts. Of those marked "repeatable", all count, in order.
* Names are lower case. One of these names with capitals is an error, except for the names of proxies.
* A boolean is one of `{BOOLEAN_WORDS}`, in any case. An argument without a value means `1`.
* A duration is a number of seconds, or a number with `s`, `m` or `h`.
* A size is a number of bytes, a number with `K`, `M`, `G` or `T` (powers of 1024), or a share of RAM such as `50%`.
* A mistake stops the boot. All mistakes are reported at once; nothing is ignored silently.

bootc-live never prints URL passwords or query strings. The kernel, however, logs its whole command line, and every user
of the booted system can read it: put secrets into files of the initramfs or into systemd credentials instead
([docs/fleets.md](docs/fleets.md#logins)).

This page is made from `table.py` and `table_trust.py` in `pyapp/bootc_live/config/cmdline` by
`bootc-live kargs --markdown`.
"""
_PAGE = re.compile(r"docs/[a-z-]+\.md")


def markdown() -> str:
    """Return the whole page, with a newline at its end."""
    return _HEAD + "".join(_section(subject) for subject in SUBJECTS)


def plain() -> str:
    """Return the table for a terminal."""
    lines: list[str] = []
    for subject in SUBJECTS:
        lines += [*([""] if lines else []), subject.title, *_indented(subject.about), ""]
        for karg in subject.kargs:
            default = f" [{karg.default}]" if karg.default else ""
            lines += [f"{karg.name} ({_kind(karg)}){default}", *_indented(karg.help), f"        {karg.example}"]
    return "\n".join(lines)


def _section(subject: Subject) -> str:
    about = _PAGE.sub(r"[\g<0>](\g<0>)", subject.about)
    head = f"\n## {subject.title}\n\n{about}\n\n| argument | value | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(_row(karg) for karg in subject.kargs)


def _row(karg: Karg) -> str:
    default = f"`{karg.default}`" if karg.default else ""
    text = f"{karg.help} Example: `{karg.example}`".replace("|", "\\|")
    return f"| `{karg.name}` | {_kind(karg)} | {default} | {text} |\n"


def _indented(text: str) -> list[str]:
    indent = " " * 4
    return wrap(text.replace("`", ""), 96, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _kind(karg: Karg) -> str:
    if karg.choices:
        return f"{', '.join(karg.choices[:-1])} or {karg.choices[-1]}"
    return f"{karg.kind}, repeatable" if karg.many else str(karg.kind)
