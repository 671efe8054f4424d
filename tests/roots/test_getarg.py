"""dracut's getarg and our tokeniser give the same answer wherever both must agree; a row says where they do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline import parse_cmdline
from bootc_live.config.source_spec import ROOT_PREFIX
from bootc_live.config.tokens import split_cmdline
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
    Row("quiet root=bootc-live:/root.oci rw", "root", "bootc-live:/root.oci"),
    Row(
        "root=bootc-live:docker://r.example:5000/os@sha256:00",
        "root",
        "bootc-live:docker://r.example:5000/os@sha256:00",
    ),
    Row("root=/dev/sda1 root=bootc-live:/a", "root", "bootc-live:/a"),
    Row("root=bootc-live:/a root=/dev/sda1", "root", "/dev/sda1"),
    Row("root=a root=b root=c", "root", "c"),
    Row("", "root", None),
    Row("quiet rw", "root", None),
    Row("xroot=1 root.x=2 ROOT=3", "root", None),
    Row("root", "root", FLAG),
    Row("root=", "root", ""),
    Row("root=a root=", "root", ""),
    Row("root= root=b", "root", "b"),
    Row("root=a root", "root", FLAG),
    Row("root root=a", "root", "a"),
    Row('root="bootc-live:/a b"', "root", "bootc-live:/a b"),
    Row('"root=bootc-live:/a b"', "root", "bootc-live:/a b"),
    Row('root="bootc-live:/a" quiet', "root", "bootc-live:/a"),
    Row('root=""', "root", ""),
    Row('foo="root=x y" root=z', "root", "z"),
    Row('foo="a root=x b"', "root", None),
    Row('root=a"b c"d', "root", 'a"b c"d'),
    Row('root="a"b', "root", 'a"b'),
    Row("root='a b'", "root", "'a"),
    Row(r"root=a\ b", "root", "a\\"),
    Row("root=a=b=c", "root", "a=b=c"),
    Row("root==", "root", "="),
    Row("  root=a\tquiet  ", "root", "a"),
    Row("a\troot=b\tc", "root", "b"),
    Row("root=$HOME", "root", "$HOME"),
    Row("root=`id`", "root", "`id`"),
    Row("root=*", "root", "*"),
    Row("root=ü", "root", "ü"),
    Row("root=a#b", "root", "a#b"),
    Row("bootclabel=stable", "bootclabel", "stable"),
    Row("bootclabel=a bootclabel=b", "bootclabel", "b"),
    Row('bootclabel="two words"', "bootclabel", "two words"),
    Row("rootflags=noatime,nodev rw", "rootflags", "noatime,nodev"),
    Row('rootflags="context=a:b c"', "rootflags", "context=a:b c"),
    Row("root=a rootflags=b", "root", "a"),
    Row("rw", "rw", FLAG),
    Row("rw=0", "rw", "0"),
    Row("rw rw=0", "rw", "0"),
    Row("rw=0 rw", "rw", FLAG),
    Row("rwx=1 ro", "rw", None),
    Row("bootc.live.etc.rw=0", "bootc.live.etc.rw", "0"),
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
    ("=true", True, True),
    ("=y", True, True),
    ("=0", False, False),
    ("=no", False, False),
    ("=off", False, False),
    ("=false", False, True),
    ("=n", False, True),
    ("=Off", False, True),
    ("=NO", False, True),
    ("=FALSE", False, True),
    ("=", None, True),
    ("=maybe", None, True),
    ("=2", None, True),
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


def ask(root: Root, where: Path, cases: list[tuple[str, str]]) -> list[tuple[str, str, bool]]:
    """Dracut's answers: (text, exit status of getarg, getargbool) for each (command line, name)."""
    where.mkdir()
    for number, (text, name) in enumerate(cases):
        (where / f"{number:03}.cmdline").write_text(f"{text}\n")
        (where / f"{number:03}.name").write_text(name)
    root.stage(ASK, "", (str(where),))
    stems = [where / f"{number:03}" for number in range(len(cases))]
    return [
        (
            stem.with_suffix(".value").read_text(),
            stem.with_suffix(".status").read_text().strip(),
            stem.with_suffix(".bool").read_text() == "true\n",
        )
        for stem in stems
    ]


def answer(value: object) -> tuple[str, str]:
    """What getarg prints and exits with for a value."""
    if value is None:
        return "", "1"
    return ("", "0") if value is FLAG else (f"{value}\n", "0")


def test_getarg(root: Root, shared: Path) -> None:
    """The real dracut-getarg, asked by the real getarg() through /proc/cmdline."""
    found = ask(root, shared / f"getarg-{root.name}", [(row.text, f"{row.name}=") for row in ROWS])
    wanted = [answer(row.value if row.dracut is ... else row.dracut) for row in ROWS]
    differing = [
        f"{row.text!r}: dracut {root.dracut} gives {got[:2]}, the row says {want}"
        for row, got, want in zip(ROWS, found, wanted, strict=True)
        if got[:2] != want
    ]
    assert differing == []


@pytest.mark.parametrize("row", ROWS, ids=[f"{number}-{row.text}" for number, row in enumerate(ROWS)])
def test_our_tokeniser(row: Row) -> None:
    tokens = {token.name: token.value for token in split_cmdline(row.text)}
    if row.value is None:
        assert row.name not in tokens
    else:
        assert tokens[row.name] == (None if row.value is FLAG else row.value)


def test_rows_differ_only_where_they_say_so() -> None:
    assert all(row.dracut != row.value for row in ROWS)


def test_what_the_hook_claims_is_what_we_boot(root: Root, shared: Path) -> None:
    """The hook decides by getarg whether, Python how: they never disagree about whose root it is."""
    texts = [row.text for row in ROWS if row.name == "root" and row.dracut is ...]
    found = ask(root, shared / f"claims-{root.name}", [(text, "root=") for text in texts])
    for text, (value, _, _) in zip(texts, found, strict=True):
        try:
            ours = bool(parse_cmdline(text).sources)
        except ConfigError as error:
            # Ours all the same: this version only cannot use it.
            ours = f"'root={ROOT_PREFIX}" in error.message.replace('"', "")
        assert ours is value.startswith(ROOT_PREFIX), text


def test_booleans(root: Root, shared: Path) -> None:
    """Why no hook asks getargbool: dracut takes every other word for true."""
    cases = [(f"rw{value}", "rw") for value, _, _ in BOOLEANS]
    found = ask(root, shared / f"booleans-{root.name}", cases)
    for (value, ours, theirs), (_, _, boolean) in zip(BOOLEANS, found, strict=True):
        assert boolean is theirs, value
        if ours is None:
            with pytest.raises(ConfigError):
                parse_cmdline(f"rw{value}")
        else:
            assert parse_cmdline(f"rw{value}").parts.root is ours, value
