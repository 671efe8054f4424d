"""Users and groups of a new image and of this machine in one file."""

from __future__ import annotations

import pytest

from bootc_live.landing.disk.merge_accounts import ACCOUNT_FILES, MergedAccounts, merge_accounts

# A file; its lines in the old image, the new image and here, with blanks between; the result; what conflicts are about.
ROWS = {
    "the same": ("passwd", "root:x:0", "root:x:0", "root:x:0", "root:x:0", ""),
    "user of the new image": ("passwd", "root:x:0", "root:x:0 sshd:x:74", "root:x:0 me:x:1000",
                              "root:x:0 me:x:1000 sshd:x:74", ""),
    "user removed by the image": ("passwd", "root:x:0 ftp:x:14", "root:x:0", "root:x:0 ftp:x:14 me:x:1000",
                                  "root:x:0 me:x:1000", ""),
    "user changed by the image": ("passwd", "ftp:x:14:/ftp", "ftp:x:14:/srv", "ftp:x:14:/ftp me:x:1000:",
                                  "ftp:x:14:/srv me:x:1000:", ""),
    "user removed here": ("passwd", "root:x:0 ftp:x:14", "root:x:0 ftp:x:14 a:x:5", "root:x:0", "root:x:0 a:x:5", ""),
    "user removed here, changed there": ("passwd", "a:x:5:/", "a:x:5:/a", "b:x:6:", "b:x:6:", "'a' was removed here"),
    "user changed here, removed there": ("passwd", "a:x:5:/bin/sh", "", "a:x:5:/bin/zsh", "a:x:5:/bin/zsh",
                                         "'a' was changed here"),
    "user added on both sides": ("passwd", "", "a:x:5:/", "a:x:5:/", "a:x:5:/", ""),
    "shell changed here, home there": ("passwd", "a:x:5:/home/a:/sh", "a:x:5:/var/a:/sh", "a:x:5:/home/a:/zsh",
                                       "a:x:5:/var/a:/zsh", ""),
    "shell changed on both sides": ("passwd", "a:x:5:/a:/sh", "a:x:5:/b:/bash", "a:x:5:/a:/zsh", "a:x:5:/b:/zsh",
                                    "'a' has other values in field 5"),
    "added with two numbers": ("passwd", "", "a:x:990:", "a:x:1000:", "a:x:1000:", "'a' has other values in field 3"),
    "another number of fields": ("passwd", "a:x", "a:x:1", "a:y", "a:y", "'a' was changed both here"),
    "twice the same name": ("passwd", "a:x:1", "a:x:2", "a:x:1 a:x:3", "a:x:1 a:x:3", "'a' was changed both here"),
    "order is the image's": ("passwd", "a:x:1 b:x:2", "b:x:2 c:x:3 a:x:1", "a:x:1 b:x:2", "b:x:2 c:x:3 a:x:1", ""),
    "order is this machine's": ("passwd", "a:x:1 b:x:2", "a:x:1 b:x:2", "b:x:2 a:x:1", "b:x:2 a:x:1", ""),
    "lines that are no users": ("passwd", "#old +::::", "#new +::::", "#old #mine +::::", "#mine +:::: #new", ""),
    "no line end": ("passwd", "a:x:1", "a:x:1 b:x:2", "a:x:1 c:x:3", "a:x:1 c:x:3 b:x:2", ""),
    "names that are not text": ("passwd", "", "\udcff:x:1", "b:x:2", "b:x:2 \udcff:x:1", ""),
    "password changed here": ("shadow", "root:*:1:0", "root:*:1:0 a:!:1:0", "root:$6$x:9:0",
                              "root:$6$x:9:0 a:!:1:0", ""),
    "password changed here, image built anew": ("shadow", "root:*:1:0", "root:*:2:0", "root:$6$x:9:0",
                                                "root:$6$x:9:0", ""),
    "password changed by the image": ("shadow", "root:*:1:0", "root:$6$y:2:0", "root:*:1:0 me:$6$:8:0",
                                      "root:$6$y:2:0 me:$6$:8:0", ""),
    "password changed on both sides": ("shadow", "root:*:1:0", "root:$6$y:2:0", "root:$6$x:9:0", "root:$6$x:9:0",
                                       "'root' has other values in field 2"),
    "password removed here, image built anew": ("shadow", "a:!:1:0 b:!:1:0", "a:!:2:0 b:!:2:0", "b:!:1:0",
                                                "b:!:2:0", ""),
    "password changed here, age by the image": ("shadow", "a:!:1:0:99", "a:!:1:0:30", "a:$6$:9:0:99",
                                                "a:$6$:9:0:30", ""),
    "member added here": ("group", "wheel:x:10:", "wheel:x:10: new:x:11:", "wheel:x:10:me",
                          "wheel:x:10:me new:x:11:", ""),
    "members added on both sides": ("group", "wheel:x:10:", "wheel:x:10:core", "wheel:x:10:me",
                                    "wheel:x:10:me,core", ""),
    "members removed on both sides": ("group", "g:x:10:a,b,c", "g:x:10:b,c", "g:x:10:a,b", "g:x:10:b", ""),
    "group added with two numbers": ("group", "", "g:x:990:a", "g:x:1000:b", "g:x:1000:b,a",
                                     "'g' has other values in field 3"),
    "group removed by the image": ("group", "a:x:1: b:x:2:", "a:x:1:", "a:x:1: b:x:2:", "a:x:1:", ""),
    "administrators and members": ("gshadow", "g:!:a:a", "g:!:a,b:a", "g:!:a:a,c", "g:!:a,b:a,c", ""),
    "ranges": ("subuid", "a:1:5", "a:1:5 b:6:5", "a:1:5 me:100:5", "a:1:5 me:100:5 b:6:5", ""),
    "two ranges of one name": ("subgid", "", "b:6:5", "me:100:5 me:200:5", "me:100:5 me:200:5 b:6:5", ""),
    "ranges changed on both sides": ("subuid", "a:1:5", "a:1:6", "a:1:7", "a:1:7",
                                     "'a' has other values in field 3"),
}  # fmt: skip


def lines(text: str) -> bytes:
    return "".join(f"{line}\n" for line in text.split(" ") if line).encode(errors="surrogateescape")


@pytest.mark.parametrize("row", ROWS)
def test_merge_of_one_file(row: str) -> None:
    name, old, new, local, expected, conflict = ROWS[row]
    merged = merge_accounts({name: lines(old)}, {name: lines(new)}, {name: lines(local)})
    assert merged.contents == {name: lines(expected)}
    assert len(merged.conflicts) == bool(conflict)
    assert all(file == name and problem.startswith(conflict) for file, problem in merged.conflicts)


@pytest.mark.parametrize("row", ROWS)
def test_one_side_alone_is_taken_as_it_is(row: str) -> None:
    name, old, new, local, *_ = ROWS[row]
    # Such a file has blank lines and no last line end, too.
    one, two, three = ({name: b"\n\n" + lines(text).strip()} for text in (old, new, local))
    for sides, expected in (((one, two, one), two), ((one, one, three), three), ((one, two, two), two)):
        merged = merge_accounts(*sides)
        assert (merged.conflicts, merged.contents[name].split()) == ([], expected[name].split())
    assert merge_accounts(one, two, one).contents == two


def files(text: str) -> dict[str, bytes]:
    return {name: lines(each) for name, _, each in (part.partition("|") for part in text.split("; "))}


# Files of the old image, the new image and this machine; the result.
PAIRS = {
    "a removed user with a password of this machine stays": (
        "passwd|a:x:5:5; shadow|a:!:1", "passwd|; shadow|", "passwd|a:x:5:5; shadow|a:$6$:9",
        "passwd|a:x:5:5; shadow|a:$6$:9"),
    "a removed user with a shell of this machine keeps the password": (
        "passwd|a:x:5:5; shadow|a:!:1", "passwd|; shadow|", "passwd|a:x:5:9; shadow|a:!:1",
        "passwd|a:x:5:9; shadow|a:!:1"),
    "a removed user without changes goes": (
        "passwd|a:x:5:5; shadow|a:!:1", "passwd|; shadow|", "passwd|a:x:5:5; shadow|a:!:1", "passwd|; shadow|"),
    "a user removed here goes from both": (
        "passwd|a:x:5:5; shadow|a:!:1", "passwd|a:x:5:5; shadow|a:!:2", "passwd|; shadow|", "passwd|; shadow|"),
    "a removed group with an administrator of this machine stays": (
        "group|g:x:5:; gshadow|g:!::", "group|; gshadow|", "group|g:x:5:; gshadow|g:!:me:",
        "group|g:x:5:; gshadow|g:!:me:"),
    "a removed group of a user stays": (
        "passwd|; group|g:x:5:; gshadow|g:!::", "passwd|; group|; gshadow|",
        "passwd|me:x:1000:5; group|g:x:5:; gshadow|g:!::", "passwd|me:x:1000:5; group|g:x:5:; gshadow|g:!::"),
    "a group with a new name goes": (
        "passwd|; group|g:x:5:", "passwd|; group|h:x:5:", "passwd|me:x:1000:5; group|g:x:5:",
        "passwd|me:x:1000:5; group|h:x:5:"),
}  # fmt: skip


@pytest.mark.parametrize("row", PAIRS)
def test_files_stay_together(row: str) -> None:
    old, new, local, expected = map(files, PAIRS[row])
    merged = merge_accounts(old, new, local)
    assert merged.contents == expected
    assert not merged.warnings


# A file in the old image, the new image and here; the warning.
WARNINGS = {
    "two users with a number": ("passwd|", "passwd|new:x:998:", "passwd|me:x:998:",
                                "the number 998 in /etc/passwd now belongs to more than one user: 'me', 'new'"),
    "leading zeros": ("passwd|", "passwd|new:x:0998:", "passwd|me:x:998:", "the number 998 in"),
    "two groups with a number": ("group|", "group|new:x:998:", "group|me:x:998:",
                                 "the number 998 in /etc/group now belongs to more than one group"),
    "a third name": ("passwd|a:x:0: b:x:0:", "passwd|a:x:0: b:x:0: d:x:0:", "passwd|a:x:0: b:x:0: c:x:0:",
                     "the number 0 in /etc/passwd now belongs to more than one user: 'a', 'b', 'c', 'd'"),
    "shared here": ("passwd|r:x:0:", "passwd|r:x:0: a:x:9:", "passwd|r:x:0: toor:x:0:", ""),
    "shared in the image": ("passwd|r:x:0:", "passwd|r:x:0: toor:x:0:", "passwd|r:x:0: me:x:9:", ""),
    "other numbers in the new image": ("passwd|a:x:98: b:x:5:", "passwd|a:x:97: b:x:6:", "passwd|a:x:98: b:x:5: c:x:1:",
                                       "numbers that the new image changes in /etc/passwd: 'b' 6 (was 5), 'a' 97 (was"),
    "ranges that overlap": ("subuid|", "subuid|new:1000:500", "subuid|me:1400:10",
                            "the ranges of 'me' and 'new' in /etc/subuid overlap"),
    "a range in another": ("subgid|", "subgid|new:1200:5", "subgid|me:1000:500", "the ranges of 'me' and 'new' in"),
    "ranges that meet": ("subuid|", "subuid|new:1000:500", "subuid|me:1500:10", ""),
    "ranges of one user": ("subuid|", "subuid|new:1:1", "subuid|me:1500:10 me:1500:10", ""),
    "ranges that overlapped before": ("subuid|", "subuid|new:1:1", "subuid|me:1500:10 you:1500:10", ""),
    "numbers that are none": ("passwd|", "passwd|b:x:-1: c:x", "passwd|a:x:-1: d", ""),
}  # fmt: skip


@pytest.mark.parametrize("row", WARNINGS)
def test_warnings(row: str) -> None:
    *sides, expected = WARNINGS[row]
    merged = merge_accounts(*map(files, sides))
    assert len(merged.warnings) == bool(expected)
    assert all(warning.startswith(expected) for warning in merged.warnings)


def test_passwords_are_not_shown() -> None:
    merged = merge_accounts({}, {"shadow": b"a:$6$one:1"}, {"shadow": b"a:$6$two:2"})
    assert merged.conflicts
    assert "$6$" not in str(merged.conflicts + [("", warning) for warning in merged.warnings])


def test_files_of_one_side_are_left_alone() -> None:
    assert merge_accounts({}, {"passwd": b""}, {"group": b""}) == MergedAccounts()
    assert {"passwd", "shadow"} < set(ACCOUNT_FILES)
