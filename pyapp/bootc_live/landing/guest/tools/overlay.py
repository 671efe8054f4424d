"""Put layers over a root: an overlay whose uppermost, writable part is a directory or lives in RAM."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations

from bootc_live.base.errors import ConfigError, RunError
from bootc_live.landing.guest.tools.places import attach, directory
from bootc_live.rootfs.memory.host import kind_of
from bootc_live.rootfs.writable.overlays import copy_attributes
from bootc_live.system.cleanup.directories import remove_tree
from bootc_live.system.cleanup.guard import commit, unescaped
from bootc_live.system.mounts import mount_tree
from bootc_live.system.namespaces import mount_at

_UPPER, _WORK = "upper", "temp/w"
# What separates options, layers, and quotes both.
_SPECIAL = re.compile(r"[\\,:]")
# The kernel takes one page of options (mount(2)).
_LONGEST = 4095
_INITIAL = ["0", "0", str(2**32 - 1)]
_QUOTED = re.compile(rb"\\(.)", re.DOTALL)
_PRIVILEGE = "run it as root, with CAP_SYS_ADMIN"


@dataclass(frozen=True)
class Memory:
    """Changes are kept in RAM, and gone with the mount; ``size`` limits them in bytes, None is half of the RAM."""

    size: int | None = None


def mount_overlay(path: str, layers: Sequence[str], changes: str | Memory) -> None:
    """Mount an overlay at ``path``: what is there lowest, the last layer uppermost; raise BootcLiveError.

    ``changes`` is the directory for changes, made if missing, or RAM.
    """
    lowest = directory("--path", path)
    stack = [lowest, *(directory("LAYER", layer) for layer in layers)]
    if isinstance(changes, Memory):
        _check_apart(stack)
        with _in_directory(lowest):
            _mount_memory(lowest, changes)
            _mount([".", *stack[1:]], lowest, lowest, path)
    else:
        if not changes:
            raise ConfigError("--cache '' is empty", hint="name a directory, or use --volatile")
        cache = os.path.realpath(changes)
        _check_apart([*stack, cache])
        with _prepared(changes, cache, lowest):
            _mount(stack, cache, lowest, path)


def _check_apart(places: Sequence[str]) -> None:
    for first, second in combinations(places, 2):
        if os.path.commonpath([first, second]) in (first, second):
            raise ConfigError(
                f"{first!r} and {second!r} are the same or inside of each other",
                hint="--path, --cache and all layers are directories beside each other",
            )


def _mount(stack: Sequence[str], cache: str, where: str, path: str) -> None:
    """Mount the overlay, and hand it to the parent; ``cache`` has the directories for changes."""
    options = _options(stack, cache)
    if len(os.fsencode(options)) > _LONGEST:
        raise ConfigError(
            f"the paths of {len(stack) - 1} layers are too long for the kernel together", hint="use shorter ones"
        )
    try:
        mount_at("overlay", "overlay", where, options=options)
    except OSError as error:
        raise _refused(error, path, cache) from error
    tree = mount_tree(where, recursive=False)
    try:
        commit(attach, path, descriptors=[tree])
    finally:
        os.close(tree)


def _options(stack: Sequence[str], cache: str) -> str:
    lower = ":".join(map(quoted, reversed(stack)))
    upper, work = (quoted(os.path.join(cache, name)) for name in (_UPPER, _WORK))
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    with open("/proc/self/uid_map", encoding="ascii") as file:
        # Only the initial user namespace may set the attributes that overlays normally use.
        return options if file.read().split() == _INITIAL else f"{options},userxattr"


def quoted(path: str) -> str:
    r"""Return a path as an option of an overlay: commas, colons and backslashes get a backslash."""
    return _SPECIAL.sub(r"\\\g<0>", path)


@contextmanager
def _in_directory(path: str) -> Iterator[None]:
    """Work in a directory, which stays in reach when it is mounted over."""
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
        os.fchdir(before)
    finally:
        os.close(before)


def _mount_memory(where: str, memory: Memory) -> None:
    """Mount a tmpfs for changes over the working directory, and make the directories in it."""
    options = "mode=700" if memory.size is None else f"mode=700,size={memory.size}"
    try:
        mount_at("tmpfs", "tmpfs", where, options=options)
    except OSError as error:
        raise RunError(f"no tmpfs can be mounted for the changes: {error.strerror}", hint=_PRIVILEGE) from error
    os.makedirs(os.path.join(where, _WORK))
    _make_upper(os.path.join(where, _UPPER), ".")


@contextmanager
def _prepared(typed: str, cache: str, lowest: str) -> Iterator[None]:
    """Make what is missing of the directories for changes, and remove that again if the block fails."""
    work, upper = os.path.join(cache, _WORK), os.path.join(cache, _UPPER)
    missing = [path for path in (upper, *_up_to_root(work)) if not os.path.lexists(path)]
    try:
        try:
            os.makedirs(cache, mode=0o700, exist_ok=True)
            os.makedirs(work, exist_ok=True)
            if upper in missing:
                _make_upper(upper, lowest)
        except OSError as error:
            raise ConfigError(
                f"--cache {typed!r} cannot be used: {error.strerror}", hint="name a directory that can be written to"
            ) from error
        _check_unused(upper, typed)
        yield
    except BaseException:
        if work in missing:
            # The kernel may have made a directory in it.
            remove_tree(work)
        for path in missing:
            with suppress(OSError):
                os.rmdir(path)
        raise


def _up_to_root(path: str) -> Iterator[str]:
    while path != "/":
        yield path
        path = os.path.dirname(path)


def _make_upper(upper: str, lowest: str) -> None:
    os.mkdir(upper)
    try:
        # The overlay's own directory shows the attributes of its upper half.
        copy_attributes(lowest, upper)
    except OSError as error:
        raise RunError(
            f"the changes cannot get the owner and the attributes of {lowest!r}: {error.strerror}",
            hint="run it as root, where the owner has an ID (/proc/self/uid_map)",
        ) from error


def _check_unused(upper: str, typed: str) -> None:
    """Raise ConfigError if an overlay writes to a directory already: the kernel would only warn."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = [line.split() for line in file]
    for line in lines:
        for option in line[-1].split(b","):
            with suppress(OSError):
                if os.path.samefile(_upper_of(option), upper):
                    raise ConfigError(
                        f"--cache {typed!r} has the changes of the overlay at {os.fsdecode(unescaped(line[4]))!r}",
                        hint="give each overlay a --cache of its own, or name all layers at once",
                    )


def _upper_of(option: bytes) -> bytes:
    """Return the upper directory in an option of proc_pid_mountinfo(5); empty for another option."""
    name, _, value = option.partition(b"=")
    return _QUOTED.sub(rb"\1", unescaped(value)) if name == b"upperdir" else b""


def _refused(error: OSError, path: str, cache: str) -> RunError:
    if error.errno == errno.EPERM:
        return RunError(f"no overlay can be mounted at {path!r}: {error.strerror}", hint=_PRIVILEGE)
    if error.errno == errno.ENODEV:
        return RunError(
            "this kernel has no overlay file system", hint="load the module overlay, outside of the container"
        )
    return RunError(
        f"no overlay can be mounted at {path!r}: {error.strerror}; changes would go to the file system "
        f"{kind_of(cache) or 'unknown'!r}",
        hint="keep changes on ext4, xfs or btrfs, or in RAM with --volatile; the kernel log (dmesg) has the reason",
    )
