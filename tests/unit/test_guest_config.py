"""The YAML file of a guest: every key in every spelling, and every mistake with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.guest.model import (
    Command,
    GuestConfig,
    GuestRoot,
    IdMap,
    IdRange,
    ImageSource,
    RootMode,
    SetupMode,
)
from bootc_live.config.guest.parse import parse_guest_config, read_guest_config

PLAIN = GuestConfig("guest.yml")
ALL = IdRange(0, 1000000, 65536)
MAPPED = replace(PLAIN, id_map=IdMap((ALL,), (ALL,)))


def users(*ranges: IdRange) -> GuestConfig:
    return replace(PLAIN, id_map=IdMap(ranges, (ALL,)))


def before(*argv: str, given: str | None = None) -> GuestConfig:
    return replace(PLAIN, before_setup=(Command(argv, "setup.before", given),))


def image(source: str, cmdline: str = "", mode: RootMode = RootMode.PIVOT) -> GuestConfig:
    return replace(PLAIN, root=GuestRoot(mode=mode, source=ImageSource(source, cmdline)))


def rooted(path: str, mode: str = "pivot") -> GuestConfig:
    return replace(PLAIN, root=GuestRoot(path, RootMode(mode)))


def running(*argv: str) -> GuestConfig:
    return replace(PLAIN, command=argv)


G = "  groups: 0 1000000 65536\n"
SPELLINGS = {
    "": PLAIN,
    "# nothing\n": PLAIN,
    "{}": PLAIN,
    "root: /mnt/root": PLAIN,
    "root: /srv//guest/": rooted("/srv/guest"),
    "root: //srv": rooted("/srv"),
    "root: {}": PLAIN,
    "root: {path: /srv/guest}": rooted("/srv/guest"),
    "root: {mode: pivot}": PLAIN,
    "root: {mode: chroot}": rooted("/mnt/root", "chroot"),
    "root: {mode: none}": rooted("/mnt/root", "none"),
    "root: {mode: }": rooted("/mnt/root", "none"),
    "root: {path: /a, mode: chroot}": rooted("/a", "chroot"),
    "root: {source: docker://registry.example/os}": image("docker://registry.example/os"),
    "root: {source: /x.oci, layout: index}": image("/x.oci", "bootc.live.layout=index"),
    "root: {source: /x.oci, layout: auto}": image("/x.oci", "bootc.live.layout=auto"),
    "root: {source: /x.oci, layout: erofs, cmdline: rw=0}": image("/x.oci", "bootc.live.layout=erofs rw=0"),
    "root: {source: /x.oci, mode: chroot}": image("/x.oci", mode=RootMode.CHROOT),
    "id_map: false": PLAIN,
    "id_map: {users: 0 1000000 65536, groups: 0 1000000 65536}": MAPPED,
    f"id_map:\n  users: 0 1000000\n{G}": users(IdRange(0, 1000000)),
    f"id_map:\n  users: ' 0   1000000  65536 '\n{G}": users(ALL),
    f"id_map:\n  users: [0 1000000 65536]\n{G}": users(ALL),
    f"id_map:\n  users: [0 1000000, 1 1000001 9]\n{G}": users(IdRange(0, 1000000), IdRange(1, 1000001, 9)),
    f"id_map:\n  users: [0, 1000000]\n{G}": users(IdRange(0, 1000000)),
    f"id_map:\n  users: [0, 1000000, 65536]\n{G}": users(ALL),
    f"id_map:\n  users: [[0, 1000000, 65536]]\n{G}": users(ALL),
    f"id_map:\n  users: [[0, 1000000], [5, 7, 3]]\n{G}": users(IdRange(0, 1000000), IdRange(5, 7, 3)),
    f"id_map:\n  users: {{internal: 0, external: 1000000}}\n{G}": users(IdRange(0, 1000000)),
    f"id_map:\n  users: {{internal: 0, external: 1000000, size: 65536}}\n{G}": users(ALL),
    f"id_map:\n  users: [0 5, [1, 6], {{internal: 2, external: 7}}]\n{G}": users(
        IdRange(0, 5), IdRange(1, 6), IdRange(2, 7)
    ),
    f"id_map:\n  users: 0 0 65536\n{G}": users(IdRange(0, 0, 65536)),
    "initctl: true": replace(PLAIN, initctl=True),
    "initctl: false": PLAIN,
    "initctl: yes": replace(PLAIN, initctl=True),
    "devices: {}": PLAIN,
    "devices: {exclude: fuse}": replace(PLAIN, excluded_devices=("fuse",)),
    "devices: {exclude: [net/tun, /dev/fuse]}": replace(PLAIN, excluded_devices=("net/tun", "fuse")),
    "setup: {}": PLAIN,
    **{f"setup: {{mode: {mode}}}": replace(PLAIN, setup=mode) for mode in SetupMode},
    "setup: {mode: }": replace(PLAIN, setup=SetupMode.NONE),
    "setup: {before: false}": PLAIN,
    "setup: {before: []}": PLAIN,
    "setup: {before: mount -a}": before("mount", "-a"),
    "setup: {before: {command: mount -a}}": before("mount", "-a"),
    "setup: {before: {command: [sh, -e], input: 'exit 1'}}": before("sh", "-e", given="exit 1"),
    "setup: {before: {command: sh -e, input: ''}}": before("sh", "-e", given=""),
    "setup: {before: [echo a]}": replace(PLAIN, before_setup=(Command(("echo", "a"), "setup.before[0]"),)),
    "setup:\n  before:\n  - echo 'a b'\n  - [echo, $c]\n  - command: cat\n    input: |\n      d\n": replace(
        PLAIN,
        before_setup=(
            Command(("echo", "a b"), "setup.before[0]"),
            Command(("echo", "$c"), "setup.before[1]"),
            Command(("cat",), "setup.before[2]", "d\n"),
        ),
    ),
    "exec: {}": PLAIN,
    "exec: {before: date}": replace(PLAIN, before_exec=(Command(("date",), "exec.before"),)),
    "exec: {command: /sbin/init}": PLAIN,
    "exec: {command: /sbin/init 'a b' c}": running("/sbin/init", "a b", "c"),
    "exec: {command: [/sbin/init, '']}": running("/sbin/init", ""),
    "exec: {command: {command: /bin/true x}}": running("/bin/true", "x"),
    "exec: {command: {command: [/bin/true, x]}}": running("/bin/true", "x"),
    "rescue: true": replace(PLAIN, rescue=True),
    "rescue: false": PLAIN,
}


@pytest.mark.parametrize("text", SPELLINGS, ids=lambda text: text[:60])
def test_spelling(text: str) -> None:
    assert parse_guest_config(text, "guest.yml") == SPELLINGS[text]


# What is written, and for each mistake its line and a part of its sentence.
MISTAKES: dict[str, list[tuple[int, str]]] = {
    "[a": [(1, "this is not YAML")],
    "a: b\n c: d": [(2, "this is not YAML")],
    "a: 1\n---\nb: 2": [(2, "this is not YAML")],
    "- a": [(1, "the file is a list, not a mapping")],
    "root": [(1, "the file is a text, not a mapping")],
    "rooot: /a": [(1, "rooot is unknown")],
    "? [a]\n: b": [(1, "a key is unknown")],
    "root: /a\nroot: /b": [(2, "root is written twice, first on line 1")],
    "root: 5": [(1, "root is a number, not a text or a mapping")],
    "root:": [(1, "root is empty, not a text")],
    "root: a/b": [(1, "root is 'a/b', not a path")],
    "root: ''": [(1, "root is '', not a path")],
    "root: {mode: jail}": [(1, "root.mode is 'jail', not one of pivot, chroot, none")],
    "root: {mode: 1}": [(1, "root.mode is a number, not a text")],
    "root: {path: /a, source: /b}": [(1, "root.path and source cannot both be the root")],
    "root: {source: /b, mode: none}": [(1, "root.mode is none, but source makes a root")],
    "root: {source: ''}": [(1, "root.source '' is neither an absolute path nor a URL")],
    "root: {source: os}": [(1, "root.source 'os' is neither")],
    "root: {source: [/a]}": [(1, "root.source is a list, not a text")],
    "root:\n  source: /a\n  cmdline: bootc.live.layout=x bootc.nope=1": [(3, "root.cmdline is wrong: ")],
    "root: {source: /a, cmdline: 'root=bootc-live:/b'}": [(1, "root.cmdline has root= or bootc.kexec")],
    "root: {source: /b, layout: zip}": [(1, "root.layout is 'zip', not one of")],
    "root: {layout: index}": [(1, "root.layout is of no use without source")],
    "root: {pth: /a}": [(1, "root.pth is unknown")],
    "id_map: true": [(1, "id_map is true")],
    "id_map: 0 1000000": [(1, "id_map is a text, not a mapping")],
    "id_map: {}": [(1, "id_map has no groups"), (1, "id_map has no users")],
    "id_map: {users: 0 1 1}": [(1, "id_map has no groups")],
    "id_map: {groups: 0 1 1}": [(1, "id_map has no users")],
    f"id_map:\n  users: []\n{G}": [(2, "id_map.users has no 0")],
    f"id_map:\n  users: 1 1000000 5\n{G}": [(2, "id_map.users has no 0")],
    f"id_map:\n  users: 0\n{G}": [(2, "id_map.users is a number")],
    f"id_map:\n  users: '0'\n{G}": [(2, "id_map.users is not 'internal external'")],
    f"id_map:\n  users: 0 1 2 3\n{G}": [(2, "id_map.users is not 'internal external'")],
    f"id_map:\n  users: 0 -1 2\n{G}": [(2, "id_map.users is '-1', not a number")],
    f"id_map:\n  users: 0 0x10 2\n{G}": [(2, "id_map.users is '0x10', not a number")],
    f"id_map:\n  users: [[0, 010]]\n{G}": [(2, "id_map.users[0][1] is '010', not a number")],
    f"id_map:\n  users: [[0, '5']]\n{G}": [(2, "id_map.users[0][1] is a text, not a number")],
    f"id_map:\n  users: 0 1000000 0\n{G}": [(2, "id_map.users has the size 0")],
    f"id_map:\n  users: 0 4294967295 1\n{G}": [(2, "id_map.users ends above 4294967294")],
    f"id_map:\n  users: 0 1 4294967295\n{G}": [(2, "id_map.users ends above 4294967294")],
    f"id_map:\n  users: 0 4294967296 1\n{G}": [(2, "id_map.users is '4294967296'")],
    f"id_map:\n  users: [0 10 5, 4 100 5]\n{G}": [(2, "id_map.users has 4 twice inside the guest")],
    f"id_map:\n  users: [0 10 5, 5 14 5]\n{G}": [(2, "id_map.users has 14 twice outside the guest")],
    f"id_map:\n  users: {{internal: 0}}\n{G}": [(2, "id_map.users has no external")],
    f"id_map:\n  users: {{internal: 0, external: 1, more: 2}}\n{G}": [(2, "id_map.users.more is unknown")],
    f"id_map:\n  users: {[f'{at} {at}' for at in range(341)]}\n{G}": [(2, "has 341 ranges, and the kernel takes 340")],
    f"id_map:\n  users: {['0 9', *(f'{at}000000 {at}000000 {at}' for at in range(1, 200))]}\n{G}": [
        (2, "id_map.users has more than 4095 characters")
    ],
    "id_map: {users: 0 1, groups: 0 1, other: 1}": [(1, "id_map.other is unknown")],
    "initctl: 1": [(1, "initctl is a number, not true or false")],
    "initctl: 'true'": [(1, "initctl is a text, not true or false")],
    "devices: [fuse]": [(1, "devices is a list, not a mapping")],
    "devices: {include: fuse}": [(1, "devices.include is unknown")],
    "devices: {exclude: [../sda]}": [(1, "devices.exclude[0] is '../sda'")],
    "devices: {exclude: ''}": [(1, "devices.exclude is ''")],
    "devices: {exclude: [1]}": [(1, "devices.exclude[0] is a number, not a text; write it in quotes")],
    "setup: none": [(1, "setup is a text, not a mapping")],
    "setup: {mode: guess}": [(1, "setup.mode is 'guess', not one of auto")],
    "setup: {after: true}": [(1, "setup.after is unknown")],
    "setup: {before: true}": [(1, "setup.before is true")],
    "setup: {before: 5}": [(1, "setup.before is a number, not a list, a text, a mapping")],
    "setup: {before: [[]]}": [(1, "setup.before[0] names no program")],
    "setup: {before: ['']}": [(1, "setup.before[0] names no program")],
    "setup: {before: [[sleep, 5]]}": [(1, "setup.before[0][1] is a number, not a text; write it in quotes")],
    "setup: {before: [echo 'a]}": [(1, "setup.before[0] cannot be split into words: no closing quotation")],
    "setup: {before: [{input: a}]}": [(1, "setup.before[0] has no command")],
    "setup: {before: [{command: a, inptu: b}]}": [(1, "setup.before[0].inptu is unknown")],
    "setup: {before: [{command: {command: a}}]}": [(1, "setup.before[0].command is a mapping")],
    'setup: {before: ["a\\0b"]}': [(1, "setup.before[0] has a NUL character")],
    'setup: {before: ["a \\uD800"]}': [(1, "setup.before[0] has a character that is none")],
    "setup: {before: [!!binary aGk=]}": [(1, "setup.before[0] has the tag !!binary, and is not a text")],
    "!!map [a]": [(1, "the file has the tag !!map, and is not a mapping")],
    "root: !!str [/a]": [(1, "root has the tag !!str, and is not a text or a mapping")],
    "root: !!map /a": [(1, "root has the tag !!map")],
    "root: {mode: !!null [a]}": [(1, "root.mode has the tag !!null")],
    "root: !!python/name:os.system x": [(1, "root has the tag !!python/name:os.system")],
    "initctl: !!bool [a]": [(1, "initctl has the tag !!bool")],
    "initctl: !!bool maybe": [(1, "initctl is 'maybe', not true or false")],
    "setup: {before: !!seq a}": [(1, "setup.before has the tag !!seq")],
    "exec: {command: !!seq {a: b}}": [(1, "exec.command has the tag !!seq")],
    f"id_map:\n  users: !!str [0, 1]\n{G}": [(2, "id_map.users has the tag !!str")],
    f"id_map:\n  users: [!!int [0], !!int a]\n{G}": [
        (2, "id_map.users[0] has the tag !!int"),
        (2, "id_map.users[1] is a number"),
    ],
    "# one\nroot: /a\0b": [(2, "this is not YAML: '\\x00' is not allowed")],
    "root:\n\t/a": [(2, "this is not YAML")],
    '"\\e[2J": a': [(1, "\\x1b[2J is unknown")],
    f"setup: {{mode: {'a' * 10000}}}": [(1, "(cut)")],
    "exec: /sbin/init": [(1, "exec is a text, not a mapping")],
    "exec: {command: {command: a, input: b}}": [(1, "exec.command has input")],
    "exec: {command: [a, [b]]}": [(1, "exec.command[1] is a list, not a text")],
    "exec: {command: 2026-01-01}": [(1, "exec.command is a date")],
    "rescue: maybe": [(1, "rescue is a text, not true or false")],
    "root: a\nid_map: {}\n\nexec:\n  command: ''\n  befor: x": [
        (1, "root is 'a'"),
        (2, "id_map has no groups"),
        (2, "id_map has no users"),
        (5, "exec.command names no program"),
        (6, "exec.befor is unknown"),
    ],
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:60])
def test_mistakes(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_guest_config(text, "guest.yml")
    message = caught.value.message
    assert message.startswith("'guest.yml' has ")
    listed = message.partition(": ")[2].split("; line ")
    assert len(listed) == len(MISTAKES[text]), message
    for said, (line, part) in zip(listed, MISTAKES[text], strict=True):
        assert said.removeprefix("line ").startswith(f"{line}: "), message
        assert part in said


def test_endless_document() -> None:
    """A node that contains itself is a mistake, and not a loop."""
    with pytest.raises(ConfigError, match="not a text"):
        parse_guest_config("setup:\n  before: [&a [*a]]", "guest.yml")
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_guest_config("[" * 100_000, "guest.yml")
    with pytest.raises(ConfigError, match=r"setup.before\[\d+\]\[\d+\] is where the file has more than 100000 values"):
        parse_guest_config(f"setup:\n  before: [&a [{'x,' * 500}], {'*a,' * 500}]", "guest.yml")


def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "init.yml"
    monkeypatch.setattr("bootc_live.config.guest.parse.DEFAULT_PATH", str(path))
    assert read_guest_config(None) == GuestConfig()
    with pytest.raises(ConfigError, match="No such file"):
        read_guest_config(str(path))
    path.symlink_to("nowhere")
    with pytest.raises(ConfigError, match="No such file"):
        read_guest_config(None)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        read_guest_config(None)
    path.rmdir()
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match="more than 1 MiB"):
        read_guest_config(None)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_guest_config("a\0b")
    path.unlink()
    path.write_bytes(b"root: \xff")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read_guest_config(None)
    path.write_text("rescue: true")
    assert read_guest_config(None) == GuestConfig(str(path), rescue=True)
