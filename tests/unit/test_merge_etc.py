"""The /etc of a new deployment: what the new image has, with what was changed on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.landing.disk.merge_etc import SUFFIX, Conflict, MergeReport, changes, merged_etc
from tests.lib.etc_trees import make_tree, show_tree
from tests.lib.needs import needs

# Of each file: the old image's, the new image's, and this machine's tree; the result; the paths with conflicts.
ROWS = {
    "nothing": ("", "", "", "", ""),
    "the same everywhere": ("a=1 d/b=2", "a=1 d/b=2", "a=1 d/b=2", "a=1 d/b=2", ""),
    # What was not changed here follows the image.
    "image changes": ("a=1", "a=2", "a=1", "a=2", ""),
    "image changes the same size": ("a=one", "a=two", "a=one", "a=two", ""),
    "image empties": ("a=1", "a=", "a=1", "a=", ""),
    "image adds": ("", "a=1 d/b=2", "", "a=1 d/b=2", ""),
    "image adds to a directory": ("d/a=1", "d/a=1 d/b=2", "d/a=1", "d/a=1 d/b=2", ""),
    "image removes": ("a=1 b=1", "b=1", "a=1 b=1", "b=1", ""),
    "image removes a directory": ("d/e/a=1", "", "d/e/a=1", "", ""),
    "image removes the last file": ("d/a=1", "d/", "d/a=1", "d/", ""),
    "image changes a mode": ("a=1", "a:600=1", "a=1", "a:600=1", ""),
    "image changes a directory's mode": ("d/a=1", "d:700/ d/a=1", "d/a=1", "d:700/ d/a=1", ""),
    "image changes a link": ("a>b", "a>c", "a>b", "a>c", ""),
    "image makes a file a directory": ("a=1", "a/b=2", "a=1", "a/b=2", ""),
    "image makes a directory a file": ("a/b=2", "a=1", "a/b=2", "a=1", ""),
    "image makes a link a file": ("resolv.conf>/run/r", "resolv.conf=x", "resolv.conf>/run/r", "resolv.conf=x", ""),
    "image makes a directory a link": ("d/a=1", "d>/usr/d", "d/a=1", "d>/usr/d", ""),
    # What was changed here stays.
    "changed here": ("a=1", "a=1", "a=2", "a=2", ""),
    "added here": ("", "", "a=1 d/b=2 e/", "a=1 d/b=2 e/", ""),
    "added to a directory of the image": ("d/a=1", "d/a=2", "d/a=1 d/b=1", "d/a=2 d/b=1", ""),
    "removed here": ("a=1 b=1", "a=1 b=2", "b=1", "b=2", ""),
    "directory removed here": ("d/a=1 d/e/b=1", "d/a=1 d/e/b=1", "", "", ""),
    "emptied here": ("d/a=1", "d/a=1", "d/", "d/", ""),
    "mode changed here": ("a=1", "a=1", "a:600=1", "a:600=1", ""),
    "directory's mode changed here": ("d/a=1", "d/a=2", "d:700/ d/a=1", "d:700/ d/a=2", ""),
    "file became a link here": ("resolv.conf=", "resolv.conf=", "resolv.conf>/run/r", "resolv.conf>/run/r", ""),
    "link became a file here": ("localtime>a", "localtime>a", "localtime=x", "localtime=x", ""),
    "file became a directory here": ("a=1", "a=1", "a/b=2", "a/b=2", ""),
    "directory became a file here": ("a/b=1", "a/b=1", "a=2", "a=2", ""),
    "unit masked here": ("s/x.service=1", "s/x.service=1", "s/x.service>/dev/null", "s/x.service>/dev/null", ""),
    "names of one file": ("", "c=2", "a=1 b<a", "a=1 b<a c=2", ""),
    "names of one file of the image": ("", "a=1 d/b<a", "", "a=1 d/b<a", ""),
    "names of one link": ("", "", "a>x b<a", "a>x b>x", ""),
    # Both did the same.
    "same change": ("a=1", "a=2", "a=2", "a=2", ""),
    "same addition": ("", "a=1 d/b>c", "a=1 d/b>c", "a=1 d/b>c", ""),
    "same removal": ("a=1 d/b=1", "", "", "", ""),
    "same addition beside others": ("", "d/a=1 d/b=1", "d/a=1 d/c=1", "d/a=1 d/b=1 d/c=1", ""),
    # Both did something else.
    "both changed": ("a=1", "a=2", "a=3", "a=3 a*=2", "a"),
    "both changed below": ("d/e/a=1", "d/e/a=2", "d/e/a=3", "d/e/a=3 d/e/a*=2", "d/e/a"),
    "both added": ("", "a=2", "a=3", "a=3 a*=2", "a"),
    "content here, mode there": ("a=1", "a:600=1", "a=3", "a=3 a*:600=1", "a"),
    "mode here, content there": ("a=1", "a=2", "a:600=1", "a:600=1 a*=2", "a"),
    "modes of a directory": ("d/a=1", "d:750/ d/a=2", "d:700/ d/a=1", "d:700/ d/a=2", "d"),
    "links": ("a>1", "a>2", "a>3", "a>3 a*>2", "a"),
    "removed here, changed there": ("a=1", "a=2", "", "a*=2", "a"),
    "directory removed here, changed there": ("d/a=1", "d/a=1 d/b=1", "", "d*/a=1 d*/b=1", "d"),
    "changed here, removed there": ("a=1", "", "a=2", "a=2", "a"),
    "changed in a directory removed there": ("d/a=1 d/b=1", "", "d/a=2 d/b=1", "d/a=2", "d/a"),
    "added in a directory removed there": ("d/a=1", "", "d/a=1 d/b=2", "d/b=2", ""),
    "mode of a directory removed there": ("d/a=1", "", "d:700/ d/a=1", "d:700/", ""),
    "file here, directory there": ("", "a/b=1", "a=2", "a=2 a*/b=1", "a"),
    "directory here, file there": ("", "a=1", "a/b=2", "a*=1 a/b=2", "a"),
    "directory changed here, a file there": ("a/b=1 a/c=1", "a=1", "a/b=2 a/c=1", "a*=1 a/b=2 a/c=1", "a"),
    "directory is a link here, changed there": ("d/a=1", "d/a=2", "d>/srv/d", "d*/a=2 d>/srv/d", "d"),
    "directory is a link there, changed here": ("d/a=1", "d>/usr/d", "d/a=2", "d*>/usr/d d/a=2", "d"),
    "three kinds": ("a=1", "a>b", "a/c=1", "a*>b a/c=1", "a"),
    # What earlier merges kept.
    "kept earlier, unchanged since": ("a=2", "a=2", "a=3 a*=2", "a=3 a*=2", ""),
    "kept earlier, a new one": ("a=2", "a=4", "a=3 a*=2", "a=3 a*=4", "a"),
    "kept earlier, a directory": ("a=2", "a=4", "a=3 a*/b=2", "a=3 a*=4", "a"),
    # Files with rules of their own.
    "machine-id": ("machine-id=", "machine-id=new", "machine-id=own", "machine-id=own", ""),
    "machine-id of an image": ("machine-id=1", "machine-id=2", "machine-id=1", "machine-id=1", ""),
    "machine-id that the image drops": ("machine-id=1", "", "machine-id=1", "machine-id=1", ""),
    "machine-id below": ("d/machine-id=1", "d/machine-id=2", "d/machine-id=3", "d/machine-id*=2 d/machine-id=3",
                         "d/machine-id"),
    "no machine-id here": ("", "machine-id=", "", "machine-id=", ""),
    "cache of libraries": ("ld.so.cache=1", "ld.so.cache=2", "ld.so.cache=3", "ld.so.cache=2", ""),
    "cache only here": ("", "", "ld.so.cache=3", "ld.so.cache=3", ""),
    "cache removed here": ("ld.so.cache=1", "ld.so.cache=2", "", "ld.so.cache=2", ""),
    "backup": ("passwd-=1 shadow-:600=1", "passwd-=2 shadow-:600=2", "passwd-=3 shadow-:600=1",
               "passwd-=3 shadow-:600=2", ""),
    "lock": ("", ".pwd.lock:600=", ".pwd.lock:600=", ".pwd.lock:600=", ""),
    "accounts": ("passwd=a:x:1:", "passwd=a:x:1:2", "passwd=a:y:1:", "passwd=a:y:1:2\n", ""),
    "accounts in conflict": ("passwd=a:x:1", "passwd=a:y:1", "passwd=a:z:1", "passwd*=a:y:1 passwd=a:z:1", "passwd"),
    "accounts with another mode": ("shadow:600=a:x", "shadow:600=a:y", "shadow:640=a:x", "shadow:640=a:y", ""),
    "accounts with the image's mode": ("passwd=a:x:1:", "passwd:600=a:x:1:2", "passwd=a:y:1:",
                                       "passwd:600=a:y:1:2\n", ""),
    "accounts below are files": ("d/passwd=a:x:1:", "d/passwd=a:x:1:2", "d/passwd=a:y:1:",
                                 "d/passwd*=a:x:1:2 d/passwd=a:y:1:", "d/passwd"),
    "accounts that are a link": ("passwd=1", "passwd=2", "passwd>p", "passwd*=2 passwd>p", "passwd"),
    "accounts removed here": ("group=1", "group=1", "", "", ""),
}  # fmt: skip


def paths(tmp_path: Path, *trees: str) -> list[str]:
    """Make the trees of the old image, the new image and this machine; their paths, and that of the result."""
    names = ("old", "new", "local")
    return [
        *(make_tree(tmp_path / name, tree) for name, tree in zip(names, trees, strict=True)),
        str(tmp_path / "made"),
    ]


def merge(tmp_path: Path, old: str, new: str, local: str) -> tuple[str, MergeReport]:
    """Make the three trees and merge them; the result as a line."""
    trees = paths(tmp_path, old, new, local)
    made, again = tmp_path / "made", tmp_path / "again"
    try:
        with merged_etc(*trees) as report, merged_etc(trees[1], trees[1], str(made), str(again)) as second:
            # One more upgrade to the same image changes nothing.
            assert (show_tree(again), second.conflicts) == (show_tree(made), [])
            return show_tree(made), report
    finally:
        for name in ("old", "new", "local", "made", "again"):
            shutil.rmtree(tmp_path / name)


@pytest.mark.parametrize("row", ROWS)
def test_merge(row: str, tmp_path: Path) -> None:
    old, new, local, expected, conflicts = ROWS[row]
    found, report = merge(tmp_path, old, new, local)
    assert found.split() == sorted(expected.split())
    assert [conflict.path for conflict in report.conflicts] == conflicts.split()
    kept = {conflict.kept_as for conflict in report.conflicts if conflict.kept_as}
    assert all(f" {name.replace(SUFFIX, '*')}" in f" {found}" for name in kept)


@pytest.mark.parametrize("row", ROWS)
def test_one_side_alone_is_taken_as_it_is(row: str, tmp_path: Path) -> None:
    own = ("machine-id", "*", "cache")
    old, new, local = (" ".join(word for word in tree.split() if not any(each in word for each in own))
                       for tree in ROWS[row][:3])  # fmt: skip
    for sides, expected in (((old, new, old), new), ((old, old, local), local), ((old, new, new), new)):
        found, report = merge(tmp_path, *sides)
        make_tree(tmp_path / "expected", expected)
        assert found == show_tree(tmp_path / "expected")
        assert report == MergeReport()
        shutil.rmtree(tmp_path / "expected")


# The image's tree, this machine's, and what was changed.
CHANGES = {
    "nothing": ("a=1 d/b=1 l>a", "a=1 d/b=1 l>a", ""),
    "each kind": ("a=1 b=1 d/e=1", "a=2 c=1 d/e=1 d/f=1", "M a, D b, A c, A d/f"),
    "added directory": ("", "d/e/f=1", "A d, A d/e, A d/e/f"),
    "removed directory": ("d/e/f=1 g=", "g=", "D d"),
    "other kind": ("a=1 b/c=1", "a/b=1 b=1", "M a, A a/b, M b"),
    "mode": ("a=1 d/b=1", "a:600=1 d:700/ d/b=1", "M a, M d"),
    "same size": ("a=1", "a=2", "M a"),
    "link": ("l>a", "l>b", "M l"),
}


@pytest.mark.parametrize("row", CHANGES)
def test_changes(row: str, tmp_path: Path) -> None:
    old, local, expected = CHANGES[row]
    found = changes(make_tree(tmp_path / "old", old), make_tree(tmp_path / "local", local))
    assert ", ".join(map(" ".join, found)) == expected


def test_report_says_what_happened(tmp_path: Path) -> None:
    _, report = merge(tmp_path, "d/a=1 b=1 c=1 e=1", "d/a=2 b=2 e>x f=1", "d/a=3 c=2 e=2 f=2 p|")
    assert report.conflicts == [
        Conflict("b", "removed here, and changed by the new image", f"b{SUFFIX}"),
        Conflict("c", "changed here, and removed by the new image"),
        Conflict("d/a", "changed here, and changed by the new image", f"d/a{SUFFIX}"),
        Conflict("e", "changed here, and replaced by the new image", f"e{SUFFIX}"),
        Conflict("f", "added here, and added by the new image", f"f{SUFFIX}"),
    ]
    assert report.warnings == ["/etc/p is a socket, FIFO or device, and is left out"]


def test_warns_of_a_cache_that_was_made_here(tmp_path: Path) -> None:
    same = "ld.so.cache=1", "ld.so.cache=2"
    assert "run ldconfig" in merge(tmp_path, *same, "ld.so.cache=3")[1].warnings[0]
    assert not merge(tmp_path, *same, "ld.so.cache=2")[1].warnings


def test_long_names(tmp_path: Path) -> None:
    name = "n" * 255
    kept = f"{name[: 255 - len(SUFFIX)]}*"
    found, _ = merge(tmp_path, f"{name}=1", f"{name}=2", f"{name}=3 {kept}=1")
    assert found.split() == [f"{kept}=2", f"{name}=3"]


def test_times_stay_and_do_not_count(tmp_path: Path) -> None:
    trees = paths(tmp_path, *["d/a=1"] * 3)
    for number, tree in enumerate(trees[:3]):
        for path in (tree, f"{tree}/d", f"{tree}/d/a"):
            os.utime(path, (number, 10 + number))
    assert not list(changes(trees[0], trees[2]))
    with merged_etc(*trees) as report:
        assert report == MergeReport()
        assert {(tmp_path / "made" / name).stat().st_mtime for name in (".", "d", "d/a")} == {11}


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = make_tree(tmp_path / "outside", "b=untouched")
    found, _ = merge(tmp_path, "a/b=1", "a/b=2", f"a>{outside}")
    assert found.split() == sorted(["a*/b=2", f"a>{outside}"])
    assert show_tree(tmp_path / "outside") == "b=untouched"


def test_a_tree_may_be_a_link(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", "a=1")
    (tmp_path / "link").symlink_to("tree")
    with merged_etc(*[str(tmp_path / name) for name in ("link", "link", "link", "made")]):
        assert show_tree(tmp_path / "made") == "a=1"


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    trees = paths(tmp_path, *["d/a=1"] * 3)
    with pytest.raises(KeyboardInterrupt), merged_etc(*trees) as report:
        raise KeyboardInterrupt(report)
    assert not (tmp_path / "made").exists()
    with pytest.raises(LandingError, match="cannot open 'missing'"), merged_etc(*["missing", *trees[1:]]):
        pass
    assert not (tmp_path / "made").exists()


def test_target_must_be_new(tmp_path: Path) -> None:
    trees = paths(tmp_path, *["a=1"] * 3)
    make_tree(tmp_path / "made", "a=2")
    with pytest.raises(LandingError, match="File exists"), merged_etc(*trees):
        pass
    assert show_tree(tmp_path / "made") == "a=2"


@needs("run-parts")
@pytest.mark.parametrize("options", [[], ["--lsbsysinit"], ["--regex=[^~,]$"]], ids=str)
def test_kept_files_are_not_run(options: list[str], tmp_path: Path) -> None:
    names = ("50-motd", "job")
    both = " ".join(f"cron.daily/{name}:755=1" for name in names)
    with merged_etc(*paths(tmp_path, *[both.replace("=1", f"={at}") for at in range(3)])) as report:
        assert len(report.conflicts) == 2
        where = tmp_path / "made/cron.daily"
        assert len(list(where.iterdir())) == 4
        found = subprocess.run(["run-parts", "--test", *options, where], check=True, capture_output=True, text=True)
        assert found.stdout.split() == [str(where / name) for name in names]
