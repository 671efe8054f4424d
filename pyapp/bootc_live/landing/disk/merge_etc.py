"""Merge /etc at an upgrade: what the old image had, what the new one has, and what was changed on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bootc_live.base.errors import LandingError
from bootc_live.base.units import mib
from bootc_live.landing.disk.etc_entries import Copier, Entry, children, new_directory, new_file, same, top
from bootc_live.landing.disk.merge_accounts import ACCOUNT_FILES, merge_accounts
from bootc_live.system.cleanup.directories import remove_tree
from bootc_live.system.files import no_space

# "~" at the end is what programs that read or run all files of a directory leave out: cron, run-parts in all of its
# forms, sudo, systemd, logrotate, NetworkManager, grub-mkconfig.
SUFFIX = ".bootc-live-new~"
_LONGEST_NAME = 255
# What makes this machine this one.
_IDENTITY = b"machine-id"
# A cache of libraries, which are the new image's.
_GENERATED = b"ld.so.cache"
# Copies of the files of accounts before their last change, which was made here.
_BACKUPS = frozenset(f"{name}-".encode() for name in ACCOUNT_FILES)


@dataclass(frozen=True)
class Conflict:
    """A file that was changed both here and by the new image: this machine's won.

    Paths are relative to /etc; the new image's version is at ``kept_as``, if it has one.
    """

    path: str
    problem: str
    kept_as: str | None = None


@dataclass
class MergeReport:
    """What a person should look at after a merge."""

    conflicts: list[Conflict] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def merged_etc(old: str, new: str, local: str, target: str) -> Iterator[MergeReport]:
    """Make the directory ``target`` as the /etc of a new deployment; remove it if its making or the block fails.

    ``old`` and ``new`` are the /etc of images, ``local`` that of this machine; nothing is mounted in them. Nothing is
    synced. Raise LandingError.
    """
    try:
        os.mkdir(target, 0o700)
    except OSError as error:
        raise LandingError(
            f"cannot make {target!r} for the new /etc: {error.strerror}", hint="check the disk, and its free space"
        ) from error
    try:
        yield _merged(old, new, local, target)
    except BaseException:
        remove_tree(target)
        raise


def changes(old: str, local: str) -> Iterator[tuple[str, str]]:
    """Yield what was changed in /etc since the image's, as a letter and a path: A (added), M (modified), D (deleted).

    Raise LandingError.
    """
    try:
        with top(old) as before, top(local) as after:
            for letter, path in _changes(before, after, b""):
                yield letter, os.fsdecode(path)
    except OSError as error:
        raise LandingError(f"cannot compare {local!r} with {old!r}: {error.strerror}", hint="try again") from error


def _merged(old: str, new: str, local: str, target: str) -> MergeReport:
    with ExitStack() as stack:
        try:
            first, second, own = (stack.enter_context(top(path)) for path in (old, new, local))
            made = stack.enter_context(top(target))
        except OSError as error:
            raise LandingError(f"cannot open {error.filename!r}: {error.strerror}", hint="check the disk") from error
        merge = _Merge(made.parent)
        try:
            merge.directory(first, second, own, made.parent, b"")
        except OSError as error:
            raise _problem(error, merge.at, target) from error
        return merge.report


def _problem(error: OSError, path: bytes, target: str) -> LandingError:
    shown = repr(os.fsdecode(os.path.join(b"/etc", path)))
    if no_space(error):
        usage = os.statvfs(target)
        free = f"{mib(usage.f_bavail * usage.f_frsize)} and {usage.f_favail} files are free"
        return LandingError(
            f"there is no space for the new deployment's {shown}: {free} on its file system",
            hint="remove deployments that are not needed, or other files of that file system",
        )
    return LandingError(
        f"cannot merge {shown}: {error.strerror}", hint="try again if something changed it meanwhile; check the disk"
    )


class _Merge:
    """One merge; ``at`` is the path in work."""

    def __init__(self, made: int) -> None:
        self.at = b""
        self.report = MergeReport()
        self._copier = Copier(made, self._warn)

    def directory(self, old: Entry | None, new: Entry | None, local: Entry, made: int, path: bytes) -> None:
        """Merge two or three directories, and what is in them, into the open directory ``made``."""

        def leave_out(name: bytes) -> None:
            self._warn(f"/etc/{os.fsdecode(os.path.join(path, name))} is a socket, FIFO or device, and is left out")

        with children(old) as olds, children(new) as news, children(local, leave_out) as locals_:
            accounts = {} if path else self._accounts(olds, news, locals_)
            kept = set[bytes]()
            # What earlier merges kept comes last: it gives way to what this one keeps.
            for name in sorted({*olds, *news, *locals_}, key=lambda name: (name.endswith(SUFFIX.encode()), name)):
                was, image, own = olds.get(name), news.get(name), locals_.get(name)
                self.at = at = os.path.join(path, name)
                if at in kept:
                    continue
                if image is not None and own is not None and name in accounts:
                    content, conflicting = accounts[name]
                    with new_file(made, name, content):
                        pass
                    described = image if was is not None and own.traits == was.traits else own
                    self._copier.describe(described, made, name, _labels(was, image, own))
                else:
                    conflicting = self._entry(was, image, own, made, at)
                if conflicting and image is not None:
                    kept.add(_beside(at))
                    self._copier.copy(image, made, _beside(at), image.labels)
        self.at = path
        chosen = self._choose_traits(old, new, local, path)
        self._copier.describe(chosen, made, b".", _labels(old, new, local))

    def _entry(self, old: Entry | None, new: Entry | None, local: Entry | None, made: int, path: bytes) -> bool:
        """Merge what has one path; return whether the image's version is kept as well."""
        was_directory = old is not None and old.is_directory
        if local is not None and local.is_directory and (new.is_directory if new is not None else was_directory):
            with new_directory(made, os.path.basename(path)) as below:
                self.directory(old, new, local, below, path)
                empty = new is None and not os.listdir(below)
            if empty and old is not None and old.traits == local.traits:
                os.rmdir(os.path.basename(path), dir_fd=made)
            return False
        chosen, conflict = local, False
        if path == _IDENTITY and local is not None:
            pass
        elif path == _GENERATED and new is not None:
            chosen = new
            if not (same(local, old) or same(local, new)):
                self._warn("/etc/ld.so.cache is the new image's: run ldconfig if libraries were added here")
        elif same(local, old):
            chosen = new
        elif path not in _BACKUPS:
            conflict = not (same(new, old) or same(local, new))
        if chosen is not None:
            self._copier.copy(chosen, made, path, _labels(old, new, local))
        if conflict:
            self._conflict(path, old, new, local, keep=new is not None)
        return conflict

    def _choose_traits(self, old: Entry | None, new: Entry | None, local: Entry, path: bytes) -> Entry:
        """Return whose owner, mode and attributes a directory gets."""
        was = old.traits if old is not None and old.is_directory else None
        if new is None or local.traits != was:
            if new is not None and new.traits not in (was, local.traits):
                self._conflict(path, old, new, local, keep=False)
            return local
        return new

    def _accounts(
        self, olds: dict[bytes, Entry], news: dict[bytes, Entry], locals_: dict[bytes, Entry]
    ) -> dict[bytes, tuple[bytes, bool]]:
        """Return the new content of each file of accounts, and whether it has a conflict."""
        contents = []
        for entries in (olds, news, locals_):
            found = {name: entries.get(name.encode()) for name in ACCOUNT_FILES}
            contents.append({name: each.content() for name, each in found.items() if each is not None and each.is_file})
        merged = merge_accounts(*contents)
        self.report.warnings += merged.warnings
        for name, problem in merged.conflicts:
            self.report.conflicts.append(Conflict(name, problem, name + SUFFIX))
        conflicting = {name for name, _ in merged.conflicts}
        return {name.encode(): (content, name in conflicting) for name, content in merged.contents.items()}

    def _conflict(self, path: bytes, old: Entry | None, new: Entry | None, local: Entry | None, *, keep: bool) -> None:
        problem = f"{_what_happened(old, local)} here, and {_what_happened(old, new)} by the new image"
        self.report.conflicts.append(
            Conflict(os.fsdecode(path) or ".", problem, os.fsdecode(_beside(path)) if keep else None)
        )

    def _warn(self, warning: str) -> None:
        if warning not in self.report.warnings:
            self.report.warnings.append(warning)


def _labels(old: Entry | None, new: Entry | None, local: Entry | None) -> dict[bytes, bytes]:
    """Return the labels of a merged file: the new image's, unless another one was set here or it has none."""
    was, image, own = (entry.labels if entry is not None else {} for entry in (old, new, local))
    return image if image and own in (was, {}) else own or image


def _beside(path: bytes) -> bytes:
    parent, name = os.path.split(path)
    return os.path.join(parent, name[: _LONGEST_NAME - len(SUFFIX)] + SUFFIX.encode())


def _what_happened(old: Entry | None, now: Entry | None) -> str:
    if now is None:
        return "removed"
    if old is None:
        return "added"
    return "changed" if old.kind == now.kind else "replaced"


def _changes(old: Entry | None, local: Entry, path: bytes) -> Iterator[tuple[str, bytes]]:
    with children(old) as olds, children(local) as locals_:
        for name in sorted(olds.keys() | locals_.keys()):
            was, now, at = olds.get(name), locals_.get(name), os.path.join(path, name)
            if now is None:
                yield "D", at
                continue
            if was is None:
                yield "A", at
            elif was.traits != now.traits or not (now.is_directory or same(was, now)):
                yield "M", at
            if now.is_directory:
                yield from _changes(was, now, at)
