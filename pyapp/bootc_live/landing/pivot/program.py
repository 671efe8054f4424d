"""Find the program that will run in a new root, by the image and the command line, as it will be found there."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from bootc_live.base.errors import LandingError
from bootc_live.base.paths import directory_below, resolve_below
from bootc_live.formats.oci.manifest import Process

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# As the kernel looks for them; a system with another init may have systemd beside it.
INITS = ("sbin/init", "etc/init", "bin/init", "usr/lib/systemd/systemd")
# Programs with the last ones are inits wherever they are.
_COMMON_NAMES = ("init", "systemd")
INIT_NAMES = (*_COMMON_NAMES, "openrc-init", "runit-init", "s6-linux-init", "dinit", "finit")
_HINT = "name another one with --entrypoint, or use another image"
_DIRECTORY_HINT = "correct the WorkingDir of the image, or leave rw=0 out"
_USER_HINT = "correct the User of the image, or build it with such a user"
_SCRIPT, _ELF = b"#!", b"\x7fELF"
# EI_CLASS of the programs of a machine, and their e_machine (elf.h).
_MACHINES = {"x86_64": (2, 62), "aarch64": (2, 183), "riscv64": (2, 243), "ppc64le": (2, 21), "s390x": (2, 22)}
_LONGEST_LINE = 256
_ELF_HEADER = 64
# 2**32 - 1 means to setresuid(2): leave it unchanged.
_NOBODY = 2**32 - 1


@dataclass(frozen=True)
class ProgramWish:
    """What the command line says: ``entrypoint`` replaces the image's, ``arguments`` replace its Cmd; None keeps it."""

    entrypoint: str | None = None
    arguments: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Program:
    """A program inside a root: its path there, its arguments with its name first, and how it is started.

    ``init`` tells whether it is made to be the first process of a system, and ``systemd`` which one; it ends at
    ``stop_signal``.
    """

    path: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    directory: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    init: bool = False
    systemd: bool = False
    stop_signal: int = 0


def find_program(root: str, source_text: str, process: Process, wish: ProgramWish) -> Program:
    """Return the program for the mounted tree ``root``; raise LandingError if it cannot be started there."""
    if process.fault and wish.entrypoint is None:
        raise LandingError(f"{source_text!r} cannot be run: {process.fault}", hint=_HINT)
    argv = _argv(root, source_text, process, wish)
    environment = dict(entry.partition("=")[::2] for entry in process.env if "=" in entry)
    environment.setdefault("PATH", SEARCH_PATH)
    directory = os.path.join("/", process.working_dir)
    path = _search(root, argv[0], environment["PATH"], directory)
    if path is None:
        raise LandingError(f"{source_text!r} has no program {argv[0]!r}", hint=_HINT)
    _check_startable(root, path, repr(argv[0]), source_text)
    uid, gid, groups = _user(root, process.user, source_text)
    place = resolve_below(root, directory)
    if place is not None and not os.path.isdir(place):
        raise LandingError(f"{source_text!r} is to run in {directory!r}, which is no directory", hint=_DIRECTORY_HINT)
    environment.setdefault("HOME", _home(root, uid))
    init = _is_init(root, path)
    systemd = init and os.path.basename(resolve_below(root, path) or "") == "systemd"
    stop = _stop_signal(process.stop_signal, systemd=systemd) if init else 0
    return Program(path, argv, environment, directory, uid, gid, groups, init, systemd, stop)


def find_shell(root: str, source_text: str) -> Program:
    """Return the shell of the mounted tree ``root``; raise LandingError if it has none."""
    try:
        return find_program(root, source_text, Process(cmd=("sh",)), ProgramWish())
    except LandingError as error:
        raise LandingError(f"{source_text!r} has no shell: {error.message}", hint="choose another --on-exit") from error


def make_directory(root: str, program: Program, source_text: str) -> None:
    """Make the directory of a program if the tree ``root`` lacks it, as container engines do; raise LandingError."""
    try:
        directory_below(root, program.directory.strip("/"))
    except OSError as error:
        raise LandingError(
            f"{source_text!r} is to run in {program.directory!r}, which cannot be made: {error.strerror}",
            hint=_DIRECTORY_HINT,
        ) from error


def _stop_signal(name: str, *, systemd: bool) -> int:
    """Return the number of a signal such as SIGRTMIN+3, TERM or 15; by default, what systemd halts at, or SIGTERM."""
    base, _, more = name.upper().removeprefix("SIG").partition("+")
    known = {each.name.removeprefix("SIG"): int(each) for each in signal.Signals}
    number = int(base) if base.isascii() and base.isdigit() else known.get(base, 0)
    number += int(more) if more.isascii() and more.isdigit() else 0
    if 0 < number < signal.NSIG:
        return number
    return int(signal.SIGRTMIN) + 3 if systemd else int(signal.SIGTERM)


def _argv(root: str, source_text: str, process: Process, wish: ProgramWish) -> tuple[str, ...]:
    entrypoint = process.entrypoint if wish.entrypoint is None else (wish.entrypoint,)
    arguments = wish.arguments
    if arguments is None:
        # A Cmd is made for the image's own Entrypoint.
        arguments = process.cmd if wish.entrypoint is None else ()
    argv = (*entrypoint, *arguments)
    # An empty --entrypoint clears that of the image, as for podman.
    argv = argv[1:] if argv and not argv[0] else argv
    if argv and argv[0]:
        return argv
    for name in INITS:
        if _is_program(resolve_below(root, name)):
            return (f"/{name}",)
    raise LandingError(
        f"{source_text!r} says no program to run, and has no init (/sbin/init)",
        hint="name a program with --entrypoint, or after --",
    )


def _search(root: str, name: str, path: str, directory: str) -> str | None:
    """Return the path of a program as execvp(3) would find it inside the root."""
    places = [directory] if "/" in name else [os.path.join("/", place) for place in path.split(":")]
    for place in places:
        found = os.path.join(place, name)
        if _is_program(resolve_below(root, found)):
            return found
    return None


def _is_program(path: str | None) -> bool:
    if path is None:
        return False
    mode = os.lstat(path).st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _is_init(root: str, path: str) -> bool:
    # All programs of busybox are one file, its init too.
    name = os.path.basename(path)
    if name not in INIT_NAMES:
        return False
    if name not in _COMMON_NAMES:
        return True
    found = resolve_below(root, path)
    return found is not None and found in {resolve_below(root, name) for name in INITS}


def _check_startable(root: str, path: str, shown: str, source_text: str) -> None:
    head = b""
    # A script may name a script.
    for _ in range(4):
        real = resolve_below(root, path)
        if not _is_program(real) or real is None:
            raise LandingError(f"{shown} of {source_text!r} needs {path!r}, which it has not", hint=_HINT)
        with open(real, "rb") as file:
            head = file.read(4096)
        interpreter = interpreter_of(head)
        if interpreter is None:
            break
        path = interpreter
    machine = _MACHINES.get(os.uname().machine)
    if machine is not None and head.startswith(_ELF) and len(head) >= _ELF_HEADER:
        order = "little" if head[5] == 1 else "big"
        if (head[4], int.from_bytes(head[18:20], order)) != machine:  # type: ignore[arg-type]
            raise LandingError(
                f"{shown} of {source_text!r} is not made for this machine, {os.uname().machine}", hint=_HINT
            )


def interpreter_of(head: bytes) -> str | None:
    """Return the program that starts a program: of a script, or the loader that an ELF file names (PT_INTERP)."""
    if head.startswith(_SCRIPT):
        words = head[len(_SCRIPT) : _LONGEST_LINE].partition(b"\n")[0].split()
        return os.fsdecode(words[0]) if words else None
    if not head.startswith(_ELF) or len(head) < _ELF_HEADER or head[4] != 2 or head[5] != 1:
        return None
    begin, size, count = (
        int.from_bytes(head[at : at + length], "little") for at, length in ((32, 8), (54, 2), (56, 2))
    )
    for number in range(count):
        entry = head[begin + number * size :][:56]
        if entry[:4] == b"\x03\0\0\0":
            offset = int.from_bytes(entry[8:16], "little")
            name = head[offset:].partition(b"\0")[0]
            return os.fsdecode(name) if name else None
    return None


def _user(root: str, user: str, source_text: str) -> tuple[int, int, tuple[int, ...]]:
    """Return the numbers of a User (config.md): ``user[:group]``, names or numbers."""
    name, _, group = user.partition(":")
    if not name:
        return 0, 0, ()
    users, groups = read_table(root, "etc/passwd"), read_table(root, "etc/group")
    entry = next((fields for fields in users if name in (fields[0], fields[2])), None)
    try:
        uid = int(entry[2] if entry else name)
        gid = int(entry[3]) if entry else 0
        if group:
            found = next((fields for fields in groups if group in (fields[0], fields[2])), None)
            gid = int(found[2] if found else group)
    except ValueError as error:
        raise LandingError(f"{source_text!r} runs as {user!r}, which it does not have", hint=_USER_HINT) from error
    if not (0 <= uid < _NOBODY and 0 <= gid < _NOBODY):
        raise LandingError(f"{source_text!r} runs as {user!r}, which is no user", hint=_USER_HINT)
    known = entry[0] if entry else ""
    member = tuple(int(fields[2]) for fields in groups if known and known in fields[3].split(",")) if not group else ()
    return uid, gid, member


def read_table(root: str, name: str) -> Sequence[list[str]]:
    """Return the fields of passwd(5) or group(5) in the tree ``root``, without lines that are damaged."""
    path = resolve_below(root, name)
    if path is None or not os.path.isfile(path):
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip("\n").split(":") for line in file]
    return [fields for fields in lines if len(fields) >= 4 and fields[2].isascii() and fields[2].isdigit()]


def _home(root: str, uid: int) -> str:
    homes = [fields[5] for fields in read_table(root, "etc/passwd") if int(fields[2]) == uid and len(fields) > 5]
    return homes[0] if homes and homes[0] else "/"
