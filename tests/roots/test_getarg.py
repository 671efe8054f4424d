"""dracut's getarg and our tokeniser give the same answer wherever both must agree; a row says where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.tokens import split_cmdline
from bootc_live.config.source_spec import ROOT_PREFIX
from tests.roots.root import Root

FLAG = object()
"""The argument is there without a value."""


@dataclass(frozen=True)
class Row:
    """A command line, a name, and what its value is: text, FLAG, or None. `dracut` where that says something else."""

    text: str
    name: str
    value: object
    dracut: object = ...


ROWS = (
    Row("root=bootc-live:/root.oci", "root", "bootc-live:/root.oci"),
    Row(
        "root=bootc-live:docker://r.example:5000/os@sha256:00",
        "root",
        "bootc-live:docker://r.example:5000/os@sha256:00",
    ),
    Row("root=/dev/sda1 root=bootc-live:/a", "root", "bootc-live:/a"),
    Row("root=bootc-live:/a root=/dev/sda1", "root", "/dev/sda1"),
    Row("", "root", None),
    Row("xroot=1 root.x=2 ROOT=3", "root", None),
    Row("root", "root", FLAG),
    Row("root=", "root", ""),
    Row("root=a root=", "root", ""),
    Row("root=a root", "root", FLAG),
    Row('root="bootc-live:/a b"', "root", "bootc-live:/a b"),
    Row('"root=bootc-live:/a b"', "root", "bootc-live:/a b"),
    Row('root=""', "root", ""),
    Row('foo="root=x y" root=z', "root", "z"),
    Row('foo="a root=x b"', "root", None),
    Row('root=a"b c"d', "root", 'a"b c"d'),
    Row('root="a"b', "root", 'a"b'),
    Row("root='a b'", "root", "'a"),
    Row(r"root=a\ b", "root", "a\\"),
    Row("root=a=b=c", "root", "a=b=c"),
    Row("  root=a\tquiet  ", "root", "a"),
    Row("root=$HOME", "root", "$HOME"),
    Row("root=ü", "root", "ü"),
    Row('bootclabel="two words"', "bootclabel", "two words"),
    Row('rootflags="context=a:b c"', "rootflags", "context=a:b c"),
    Row("rw rw=0", "rw", "0"),
    Row("rw=0 rw", "rw", FLAG),
    Row("rwx=1 ro", "rw", None),
    Row("bootc.live.etc.rw=0", "bootc.live.etc", None),
    # What stands behind a lone "--" is for init: the kernel and we stop there, dracut reads on.
    Row("root=a -- root=b", "root", "a", dracut="b"),
    Row("-- rw", "rw", None, dracut=FLAG),
    Row("root=a --x root=b", "root", "b"),
)

# (value, what we make of it, what dracut makes of it)
BOOLEANS: tuple[tuple[str, bool | None, bool], ...] = (
    ("=1", True, True),
    ("", True, True),
    ("=yes", True, True),
    ("=on", True, True),
    ("=0", False, False),
    ("=off", False, False),
    ("=false", False, True),
    ("=Off", False, True),
    ("=NO", False, True),
    ("=", None, True),
    ("=maybe", None, True),
)

# Every case is a file NAME.cmdline beside NAME.name; the answers go to NAME.value and NAME.status.
ASK = """
. "$lib"
for case in "$1"/*.cmdline; do
    case=${case%.cmdline}
    cp "$case.cmdline" "$cmdline"
    name=$(cat "$case.name")
    (getarg "$name" || exit 1) >"$case.value"
    echo $? >"$case.status"
    (getargbool 0 "$name" && echo true || echo false) >"$case.bool"
done
"""


Answer = tuple[str, str, bool]
"""What getarg prints and exits with, and what getargbool makes of the same name."""


@pytest.fixture(scope="module")
def dracut_says(every_root: Root, shared: Path) -> Callable[[str, str], Answer]:
    """Ask for every command line and name once; give what dracut answered to one of them."""
    where = shared / f"getarg-{every_root.name}"
    where.mkdir()
    cases = {(row.text, f"{row.name}=") for row in ROWS} | {(f"rw{value}", "rw") for value, _, _ in BOOLEANS}
    stems = {case: where / f"{number:03}" for number, case in enumerate(sorted(cases))}
    for (text, name), stem in stems.items():
        stem.with_suffix(".cmdline").write_text(f"{text}\n")
        stem.with_suffix(".name").write_text(name)
    every_root.stage(ASK, "", (str(where),))

    def answered(text: str, name: str) -> Answer:
        value, status, boolean = (
            stems[text, name].with_suffix(suffix).read_text() for suffix in (".value", ".status", ".bool")
        )
        return value, status.strip(), boolean == "true\n"

    return answered


def answer(value: object) -> tuple[str, str]:
    """What getarg prints and exits with for a value."""
    if value is None:
        return "", "1"
    return ("", "0") if value is FLAG else (f"{value}\n", "0")


def test_getarg(dracut_says: Callable[[str, str], Answer]) -> None:
    """The real dracut-getarg, asked by the real getarg() through /proc/cmdline."""
    differing = []
    for row in ROWS:
        want = answer(row.value if row.dracut is ... else row.dracut)
        got = dracut_says(row.text, f"{row.name}=")[:2]
        if got != want:
            differing.append(f"{row.text!r}: dracut gives {got}, the row says {want}")
    assert differing == []


def test_our_tokeniser() -> None:
    for row in ROWS:
        found = {token.name: FLAG if token.value is None else token.value for token in split_cmdline(row.text)}
        assert found.get(row.name) == row.value, row.text


def test_rows_differ_only_where_they_say_so() -> None:
    assert all(row.dracut != row.value for row in ROWS)


def test_what_the_hook_claims_is_what_we_boot(dracut_says: Callable[[str, str], Answer]) -> None:
    """The hook decides by getarg whether, Python how: they never disagree about whose root it is."""
    for text in (row.text for row in ROWS if row.name == "root" and row.dracut is ...):
        value, _, _ = dracut_says(text, "root=")
        try:
            ours = bool(parse_cmdline(text).sources)
        except ConfigError as error:
            # Ours all the same: this version only cannot use it.
            ours = f"'root={ROOT_PREFIX}" in error.message.replace('"', "")
        assert ours is value.startswith(ROOT_PREFIX), text


def test_booleans(dracut_says: Callable[[str, str], Answer]) -> None:
    """Why no hook asks getargbool: dracut takes every other word for true."""
    for value, ours, theirs in BOOLEANS:
        _, _, boolean = dracut_says(f"rw{value}", "rw")
        assert boolean is theirs, value
        if ours is None:
            with pytest.raises(ConfigError):
                parse_cmdline(f"rw{value}")
        else:
            assert parse_cmdline(f"rw{value}").parts.root is ours, value
