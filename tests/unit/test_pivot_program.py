"""Which program runs in a new root: by the image and the command line, and only what can be started there."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.formats.oci.manifest import Process, parse_config
from bootc_live.landing.pivot.program import Program, ProgramWish, find_program, make_directory

MACHINES = {"x86_64": 62, "aarch64": 183}


def elf(machine: int, loader: str = "") -> bytes:
    """The beginning of a 64-bit program with one program header, that of its loader."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + machine.to_bytes(2, "little")
    head += bytes(12) + (64).to_bytes(8, "little") + bytes(14) + (56).to_bytes(2, "little")
    head += (1 if loader else 0).to_bytes(2, "little") + bytes(6)
    entry = (3).to_bytes(4, "little") + bytes(4) + (120).to_bytes(8, "little") + bytes(40)
    return head + (entry + loader.encode() + b"\0" if loader else b"")


OURS = elf(MACHINES[platform.machine()])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root whose /bin is a link, with programs of all kinds."""
    programs = {
        "usr/bin/sh": OURS,
        "usr/bin/linked": elf(MACHINES[platform.machine()], "/lib/ld.so"),
        "usr/bin/loaderless": elf(MACHINES[platform.machine()], "/lib/missing.so"),
        "usr/bin/foreign": elf(8),
        "usr/bin/script": b"#! /bin/sh -e\n",
        "usr/bin/orphan": b"#!/usr/bin/perl\n",
        "opt/app/run": OURS,
        "usr/lib/systemd/systemd": OURS,
        "usr/lib/ld.so": OURS,
    }
    for name, content in programs.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    (tmp_path / "usr/bin/data").write_text("no program")
    (tmp_path / "usr/sbin").mkdir()
    (tmp_path / "etc").mkdir()
    for name, target in {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "/usr/lib"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "usr/sbin/init").symlink_to("/lib/systemd/systemd")
    (tmp_path / "usr/bin/outside").symlink_to("../../../../../../usr/bin/env")
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\njoe:x:1000:100::/home/joe:/bin/sh\n")
    (tmp_path / "etc/group").write_text("users:x:100:\naudio:x:29:mia,joe\n")
    return tmp_path


def found(root: Path, process: Process, wanted: ProgramWish | None = None) -> Program:
    return find_program(str(root), "docker://image", process, wanted or ProgramWish())


@pytest.mark.parametrize(
    ("process", "wanted", "path", "argv"),
    [
        (Process(cmd=("sh", "-c", "true")), ProgramWish(), "/usr/bin/sh", ("sh", "-c", "true")),
        (Process(entrypoint=("script",), cmd=("a",)), ProgramWish(), "/usr/bin/script", ("script", "a")),
        (
            Process(entrypoint=("script",), cmd=("a",)),
            ProgramWish(arguments=("b",)),
            "/usr/bin/script",
            ("script", "b"),
        ),
        (Process(entrypoint=("script",), cmd=("a",)), ProgramWish("sh"), "/usr/bin/sh", ("sh",)),
        (Process(entrypoint=("script",), cmd=("a",)), ProgramWish("sh", ("b",)), "/usr/bin/sh", ("sh", "b")),
        (Process(cmd=("a",)), ProgramWish(arguments=("sh", "b")), "/usr/bin/sh", ("sh", "b")),
        (Process(cmd=("./run",), working_dir="/opt/app"), ProgramWish(), "/opt/app/./run", ("./run",)),
        (Process(cmd=("run",), env=("PATH=/opt/app",)), ProgramWish(), "/opt/app/run", ("run",)),
        (Process(cmd=("/bin/linked",)), ProgramWish(), "/bin/linked", ("/bin/linked",)),
        (Process(), ProgramWish(), "/sbin/init", ("/sbin/init",)),
    ],
)
def test_program(process: Process, wanted: ProgramWish, path: str, argv: tuple[str, ...], root: Path) -> None:
    program = found(root, process, wanted)
    assert (program.path, program.argv) == (path, argv)
    assert program.init == ("init" in path)


def test_init_by_a_link(root: Path) -> None:
    program = found(root, Process(cmd=("/sbin/init",)))
    assert (program.init, program.systemd) == (True, True)


@pytest.mark.parametrize("name", ["openrc-init", "runit-init"])
def test_inits_that_are_not_called_so(name: str, root: Path) -> None:
    (root / "usr/sbin" / name).write_bytes(OURS)
    (root / "usr/sbin" / name).chmod(0o755)
    program = found(root, Process(), ProgramWish(f"/sbin/{name}"))
    assert (program.init, program.systemd) == (True, False)


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Process(cmd=("missing",)), "has no program 'missing'"),
        (Process(cmd=("/bin/data",)), "has no program '/bin/data'"),
        (Process(cmd=("/usr",)), "has no program '/usr'"),
        (Process(cmd=("outside",)), "has no program 'outside'"),
        (Process(cmd=("orphan",)), "'orphan' of 'docker://image' needs '/usr/bin/perl'"),
        (Process(cmd=("loaderless",)), "'loaderless' of 'docker://image' needs '/lib/missing.so'"),
        (Process(cmd=("foreign",)), "'foreign' of 'docker://image' is not made for this machine"),
        (Process(cmd=("sh",), user="nobody"), "runs as 'nobody', which it does not have"),
        (Process(cmd=("sh",), user="joe:nogroup"), "runs as 'joe:nogroup', which it does not have"),
        (Process(cmd=("sh",), working_dir="/usr/bin/data"), "is to run in '/usr/bin/data', which is no directory"),
        (Process(fault="its Cmd is not a list of texts"), "cannot be run: its Cmd is not a list"),
    ],
)
def test_refused(process: Process, message: str, root: Path) -> None:
    with pytest.raises(LandingError) as caught:
        found(root, process)
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, ())),
        ("root", (0, 0, ())),
        ("joe", (1000, 100, (29,))),
        ("1000", (1000, 100, (29,))),
        ("joe:audio", (1000, 29, ())),
        ("4711", (4711, 0, ())),
        ("4711:29", (4711, 29, ())),
    ],
)
def test_user(user: str, expected: tuple[int, int, tuple[int, ...]], root: Path) -> None:
    program = found(root, Process(cmd=("sh",), user=user))
    assert (program.uid, program.gid, program.groups) == expected


def test_environment_and_directory(root: Path) -> None:
    program = found(root, Process(cmd=("sh",), env=("A=b=c", "EMPTY=", "odd"), user="joe", working_dir="/missing"))
    assert program.environment["A"] == "b=c"
    assert program.environment["HOME"] == "/home/joe"
    assert "odd" not in program.environment
    assert "/usr/bin" in program.environment["PATH"].split(":")
    assert program.directory == "/missing"
    make_directory(str(root), program, "docker://image")
    assert (root / "missing").is_dir()
    assert found(root, Process(cmd=("sh",), working_dir="opt/app")).directory == "/opt/app"


@pytest.mark.parametrize(
    ("config", "process"),
    [
        ("{}", Process()),
        ('{"Cmd": ["a", "b"], "Entrypoint": null}', Process(cmd=("a", "b"))),
        ('{"Env": ["A=b"], "WorkingDir": "/x", "User": "joe"}', Process(env=("A=b",), working_dir="/x", user="joe")),
        ('{"Entrypoint": "sh -c true"}', Process(fault="its Entrypoint is not a list of texts")),
        ('{"Cmd": [1]}', Process(fault="its Cmd is not a list of texts")),
        ('{"User": 7}', Process(fault="its User is not a text")),
        ("[]", Process()),
    ],
)
def test_config(config: str, process: Process) -> None:
    """What is wrong there does not matter to a boot."""
    content = f'{{"os": "linux", "config": {config}, "rootfs": {{"diff_ids": ["sha256:{"0" * 64}"]}}}}'
    assert parse_config(content.encode(), 1).process == process


def test_a_root_without_any_program(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "etc")
    with pytest.raises(LandingError, match="says no program to run, and has no init"):
        found(tmp_path, Process())
