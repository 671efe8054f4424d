"""Which programs run-parts runs, in which order and how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, ConfigError, FailedProgramError, LandingError, RunError
from bootc_live.config.guest.model import Command
from bootc_live.landing.guest.hooks import run_hooks
from bootc_live.landing.guest.tools.run_parts import command_for, programs, run_parts, tolerant


def listed(path: Path) -> tuple[list[str], list[str]]:
    """The names of programs in a directory, and of those that are skipped, relative to it."""
    skipped: list[str] = []
    found = [os.path.relpath(one, path) for one in programs(str(path), skipped.append)]
    return found, [os.path.relpath(one, path) for one in skipped]


RUN = ("0", "00-first", "10-a", "9", "A", "B.sh", "a", "a.conf", "a.py", "b c", "bak", "ä", "x.dpkg", "README", "c.d.e")
LEFT = (
    *(".hidden", "#a#", "a~", "a,", "a.bak", "a.orig", "a.rej", "a.swp", "a.tmp", "a.disabled"),
    *("a.rpmnew", "a.rpmsave", "a.rpmorig", "a.dpkg-old", "a.dpkg-dist", "a.ucf-new"),
)


def test_names(tmp_path: Path) -> None:
    for name in (*RUN, *LEFT):
        (tmp_path / name).touch()
    found, skipped = listed(tmp_path)
    assert found == sorted(RUN, key=os.fsencode)
    assert skipped == sorted(LEFT, key=os.fsencode)


def test_directories_in_directories(tmp_path: Path) -> None:
    for name in ("10-dir/b", "10-dir/a", "10-dir/.c", "05-file", "20-file", ".git/hook", "15-empty/.keep"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "17-link").symlink_to("10-dir")
    found, skipped = listed(tmp_path)
    assert found == ["05-file", "10-dir/a", "10-dir/b", "17-link/a", "17-link/b", "20-file"]
    assert skipped == [".git", "10-dir/.c", "15-empty/.keep", "17-link/.c"]


def test_a_file_is_itself_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / ".hook~").touch()
    assert list(programs(str(tmp_path / ".hook~"), lambda _: None)) == [str(tmp_path / ".hook~")]


@pytest.mark.parametrize("target", ["nowhere", "20-loop", ".", ".."])
def test_what_cannot_be_listed(tmp_path: Path, target: str) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "10-a").touch()
    (top / "20-loop").symlink_to(target)
    with pytest.raises(ConfigError, match=r"20-loop|inside of itself"):
        listed(top)


def test_many_directories_in_each_other(tmp_path: Path) -> None:
    (tmp_path / "/".join("d" * 300)).mkdir(parents=True)
    with pytest.raises(ConfigError, match="too many directories"):
        listed(tmp_path)


SCRIPTS = [
    (b"#!/bin/sh\n", ["/bin/sh"]),
    (b"#!/bin/sh", ["/bin/sh"]),
    (b"#! /bin/sh -e\necho\n", ["/bin/sh", "-e"]),
    (b"#!\t/bin/sh\t -e  -x \t\n", ["/bin/sh", "-e  -x"]),
    (b"#!/usr/bin/env -S sh -e\n", ["/usr/bin/env", "-S sh -e"]),
    (b"#!sh\n", ["sh"]),
    (b"#!/bin/sh\r\n", ["/bin/sh\r"]),
    (b"#!/bin/" + b"x" * 248, ["/bin/" + "x" * 248]),
]


@pytest.mark.parametrize(("content", "command"), SCRIPTS)
def test_a_script_is_given_to_its_interpreter(tmp_path: Path, content: bytes, command: list[str]) -> None:
    script = tmp_path / "script"
    script.write_bytes(content)
    if (command[0].startswith("/bin/sh") and "\r" not in command[0]) or command[0] in ("sh", "/usr/bin/env"):
        assert command_for(str(script), ["a", "b"]) == [*command, str(script), "a", "b"]
    else:
        # It does not exist.
        with pytest.raises(RunError, match="No such file"):
            command_for(str(script), [])
    script.chmod(0o755)
    assert command_for(str(script), ["a"]) == [str(script), "a"]


def test_an_interpreter_may_be_a_script(tmp_path: Path) -> None:
    for number, interpreter in enumerate(["/bin/sh -e", *(f"{tmp_path}/{number}" for number in range(5))]):
        (tmp_path / str(number)).write_text(f"#!{interpreter}\n")
    wanted = ["/bin/sh", "-e", *(f"{tmp_path}/{number}" for number in range(3))]
    assert command_for(str(tmp_path / "2"), ["x"]) == [*wanted, "x"]
    with pytest.raises(RunError, match="script for a script"):
        command_for(str(tmp_path / "5"), [])


@pytest.mark.parametrize(
    "content",
    [b"", b"#", b"#!", b"#!\n", b"#! \t\n", b"echo\n", b"\x7fELF\x02", b" #!/bin/sh\n", b"#!/bin/" + b"x" * 256],
)
def test_neither_executable_nor_a_script(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(RunError, match="not executable, and no script"):
        command_for(str(tmp_path / "file"), [])


def test_what_could_be_read_for_ever(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "script").write_text(f"#!{tmp_path}/fifo\n")
    for name in ("fifo", "script"):
        with pytest.raises(RunError, match="/fifo' is no program"):
            command_for(str(tmp_path / name), [])


def test_a_name_without_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For run-parts it is a file; in a command it is a program."""
    (tmp_path / "true").write_text("#!/bin/sh\nexit 9\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FailedProgramError, match=r"'\./true' exited with 9"):
        run_parts(["true"], [])
    assert list(tolerant(["true", "a"])) == [("true", ["true", "a"])]


def test_hooks_are_tolerant(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("20", "10", "30~"):
        (tmp_path / name).write_text('#!/bin/sh -e\nread -r line; echo "${0##*/} $1 $line"\n')
    command = Command((str(tmp_path), "word"), "setup.before[0]", "text\n")
    run_hooks([command], {"PATH": "/usr/bin:/bin"})
    assert capfd.readouterr().out.splitlines() == ["10 word text", "20 word text"]
    (tmp_path / "15").write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(LandingError, match=rf"setup.before\[0\]: '{tmp_path}/15' exited with 3"):
        run_hooks([command], {"PATH": "/usr/bin:/bin"})
    assert capfd.readouterr().out.splitlines() == ["10 word text"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("exit 7", 7, "exited with 7"),
        ("exit 1", 1, "exited with 1"),
        ("kill -TERM $$", 143, "was killed by signal 15"),
        ("kill -KILL $$", 137, "was killed by signal 9"),
    ],
)
def test_the_first_failure_ends_it(tmp_path: Path, body: str, status: int, said: str) -> None:
    ran = tmp_path / "ran"
    parts = tmp_path / "parts"
    parts.mkdir()
    for name, script in (("10", "true"), ("20", body), ("30", "true")):
        (parts / name).write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >>{ran}\n{script}\n')
    with pytest.raises(FailedProgramError) as caught:
        run_parts([str(parts)], ["one", "two three"])
    assert caught.value.status == status
    assert f"'{parts}/20' {said}" in caught.value.message
    assert ran.read_text() == "10 one two three\n20 one two three\n"


def test_order_of_arguments(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for name in ("b/1", "b/0", "a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f'#!/bin/sh\necho "${{0##*/}}" >>{ran}\n')
    assert run_parts([str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "b/0")], []) == 0
    assert ran.read_text().split() == ["0", "1", "a", "0"]


@pytest.mark.parametrize("content", ["#!/no/interpreter\n", "#!/bin/sh\r\nexit 0\n", "#!/etc\n"])
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_what_cannot_be_started(tmp_path: Path, content: str, mode: int) -> None:
    (tmp_path / "part").write_text(content)
    (tmp_path / "part").chmod(mode)
    with pytest.raises(BootcLiveError) as caught:
        run_parts([str(tmp_path)], [])
    assert f"'{tmp_path}/part'" in caught.value.message or "/etc" in caught.value.message
