"""The cache: a directory with unpacked layers by diffID, ``layers/sha256/…``, which earlier runs fetched.

Nothing in it decides anything. Every run asks anew which layers an image has, and hashes each again while it is copied.
There are no names of images or servers, no manifests, configs or logins, and all of it can be removed at any time.
Several runs may use it at once: a layer appears complete, and who has one open can read it to its end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from bootc_live.base.errors import ConfigError, RootfsError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.source.interface import CHUNK
from bootc_live.system.cleanup.directories import private_directory, remove_entries
from bootc_live.system.cleanup.new_results import write_error_hint
from bootc_live.system.files import copy_part

DEFAULT = "/var/cache/bootc-live"
_LAYERS = "layers"
# Nothing else in the directories below is ever removed.
_NAMES = {"sha256": re.compile(r"[0-9a-f]{64}"), "sha512": re.compile(r"[0-9a-f]{128}")}
_WORK = "work."
_LEFT = re.compile(r"work\.[0-9a-f]{16}")
_OTHERS_WRITE = 0o022
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True)
class Trimmed:
    """What ``trim`` removed, and what it left: numbers of layers, and their bytes."""

    removed: int
    removed_size: int
    left: int
    left_size: int


@dataclass(frozen=True)
class _Entry:
    """A layer, or what is in the place of one; ``used`` is when, in nanoseconds."""

    used: int
    directory: str
    name: str
    size: int


class DiskCache:
    """The layers below the directory ``path``; a ``LayerCache``.

    ``used`` are the diffIDs of layers that came from it, ``added`` of those that were put into it.
    """

    def __init__(self, path: str, recorder: Recorder, *, limit: int | None = None, required: bool = False) -> None:
        """Use a directory, which is made when something is put into it.

        Layers that take it above ``limit`` bytes are removed. It is an error if a ``required`` cache cannot be filled,
        else a warning.
        """
        self.path = path
        self.used: set[str] = set()
        self.added: set[str] = set()
        self._recorder, self._limit, self._required = recorder, limit, required
        self._wrong: set[str] = set()

    def check(self, name: str) -> None:
        """Raise ConfigError if it cannot be a cache of this user; ``name`` is the directory as typed."""
        hint = "name a directory of your own with --cache, or use --no-cache"
        try:
            found = os.stat(self.path)
        except FileNotFoundError as error:
            if not os.access(os.path.dirname(self.path), os.W_OK | os.X_OK):
                raise ConfigError(f"{name} cannot be made", hint=hint) from error
            return
        except OSError as error:
            raise ConfigError(f"{name} cannot be used: {error.strerror}", hint=hint) from error
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigError(f"{name} is not a directory", hint=hint)
        if found.st_uid != os.geteuid():
            raise ConfigError(f"{name} belongs to another user", hint=hint)
        if found.st_mode & _OTHERS_WRITE:
            raise ConfigError(f"{name} can be written to by other users", hint=f"chmod go-w, or {hint}")

    def size(self, diff_id: str) -> int | None:
        """Return the size of a layer in bytes; None if it is not there."""
        directory, (name,) = self._place(diff_id)
        try:
            found = os.lstat(os.path.join(directory, name))
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def is_known(self, diff_id: str) -> bool:  # noqa: ARG002
        """Return False: every layer here has to be verified."""
        return False

    def place(self, diff_id: str, data: int, offset: int, most: int) -> None:
        """Return None: every layer here has to be verified."""

    @contextmanager
    def open_layer(self, diff_id: str) -> Iterator[Iterator[bytes] | None]:
        """Open a layer, from now on the one that was used last; None if it is not there."""
        fd = None if diff_id in self._wrong else self._opened(diff_id)
        if fd is None:
            yield None
            return
        try:
            # A cache that cannot be written to can be read.
            with suppress(OSError):
                _used_now(fd)
            self.used.add(diff_id)
            yield _pieces(fd)
        finally:
            os.close(fd)

    def discard(self, diff_id: str) -> None:
        """Remove a layer that is wrong, and do not open it again."""
        self._wrong.add(diff_id)
        self.used.discard(diff_id)
        with suppress(OSError):
            remove_entries(*self._place(diff_id))

    def keep(self, data: int, layers: Sequence[tuple[str, int, int]]) -> None:
        """Add layers: diffID, offset and size in the data file, a descriptor; then trim. Raise RootfsError."""
        wanted = [layer for layer in layers if layer[0] not in self.used]
        if self._limit is not None:
            large = [layer for layer in wanted if layer[2] > self._limit]
            wanted = [layer for layer in wanted if layer not in large]
            if large:
                self._recorder.warn(
                    f"{_layers(len(large))} would alone be more than the cache may have: {mib(self._limit)}"
                )
        try:
            if wanted:
                with (
                    self._recorder.phase("cache", f"putting {_layers(len(wanted))} into the cache {self.path}"),
                    self.workspace() as place,
                ):
                    # The base is in more images than what is above it, so it is to go last.
                    for layer in reversed(wanted):
                        self._add(place, data, *layer)
            if self._limit is not None and os.path.isdir(self.path):
                self.trim(self._limit)
        except (OSError, ConfigError) as error:
            self._failed(error)
        if self.used:
            self._recorder.say(f"{_layers(len(self.used))} came from the cache {self.path}")

    @contextmanager
    def workspace(self) -> Iterator[str]:
        """Make a private directory in the cache, and the cache if it is missing; raise ConfigError.

        What a run leaves there that was killed is removed by the next.
        """
        with ExitStack() as stack:
            try:
                with suppress(FileExistsError):
                    os.mkdir(self.path, 0o700)
                with self._locked():
                    self._remove_leftovers()
                    place = stack.enter_context(private_directory(self.path, _WORK))
                    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    stack.callback(os.close, held)
                    # Held by this process alone, and as long as it lives.
                    fcntl.flock(held, fcntl.LOCK_EX)
            except OSError as error:
                raise ConfigError(
                    f"the cache {self.path!r} cannot be used: {error.strerror}",
                    hint="check its permissions and free space",
                ) from error
            yield place

    def trim(self, limit: int) -> Trimmed:
        """Remove the layers that were not used for longest until the cache has at most ``limit`` bytes; raise OSError.

        0 removes all. What killed runs left is removed, too.
        """
        with self._locked():
            self._remove_leftovers()
            entries = sorted(self._entries(), key=lambda entry: entry.used)
            size, removed = sum(entry.size for entry in entries), 0
            before = size
            for entry in entries:
                if limit and size <= limit:
                    break
                with suppress(FileNotFoundError):
                    remove_entries(entry.directory, [entry.name])
                size -= entry.size
                removed += 1
        return Trimmed(removed, before - size, len(entries) - removed, size)

    def _opened(self, diff_id: str) -> int | None:
        """Return a descriptor of a layer, None if there is none that can be read."""
        directory, (name,) = self._place(diff_id)
        path = os.path.join(directory, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            if error.errno != errno.ELOOP:
                self._recorder.warn(f"{path!r} cannot be read: {error.strerror}; the layer is fetched")
                # So that it is replaced.
                self._wrong.add(diff_id)
                return None
        else:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
            os.close(fd)
        self._recorder.warn(f"{path!r} is removed from the cache: it is not a file; the layer is fetched")
        self.discard(diff_id)
        return None

    def _add(self, place: str, data: int, diff_id: str, offset: int, size: int) -> None:
        directory, (name,) = self._place(diff_id)
        final, temporary = os.path.join(directory, name), os.path.join(place, name)
        if diff_id not in self._wrong and os.path.isfile(final):
            # Another run was faster.
            _used_now(final)
            self.added.add(diff_id)
            return
        for part in (os.path.join(self.path, _LAYERS), directory):
            with suppress(FileExistsError):
                os.mkdir(part, 0o700)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_part(data, offset, size, fd)
            _used_now(fd)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, final)
        self._wrong.discard(diff_id)
        self.added.add(diff_id)

    def _failed(self, error: OSError | ConfigError) -> None:
        why = error.message if isinstance(error, ConfigError) else error.strerror
        message = f"layers are missing in the cache {self.path!r}, which could not be filled: {why}"
        if self._required:
            hint = error.hint if isinstance(error, ConfigError) else write_error_hint(error)
            raise RootfsError(message, hint=hint) from error
        self._recorder.warn(message)

    def _place(self, diff_id: str) -> tuple[str, list[str]]:
        """Return the directory and the name of a layer."""
        algorithm, _, encoded = diff_id.partition(":")
        return os.path.join(self.path, _LAYERS, algorithm), [encoded]

    def _entries(self) -> Iterator[_Entry]:
        for algorithm, valid in _NAMES.items():
            directory = os.path.join(self.path, _LAYERS, algorithm)
            with suppress(FileNotFoundError), os.scandir(directory) as found:
                for entry in found:
                    if valid.fullmatch(entry.name):
                        with suppress(FileNotFoundError):
                            status = entry.stat(follow_symlinks=False)
                            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                            yield _Entry(status.st_mtime_ns, directory, entry.name, size)

    def _remove_leftovers(self) -> None:
        """Remove the directories of runs that were killed: nobody holds their locks."""
        for name in os.listdir(self.path):
            if not _LEFT.fullmatch(name):
                continue
            with suppress(OSError):
                fd = os.open(os.path.join(self.path, name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_entries(self.path, [name])
                finally:
                    os.close(fd)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other runs from making and removing things in the cache; raise OSError."""
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def _layers(count: int) -> str:
    return "1 layer" if count == 1 else f"{count} layers"


def _used_now(file: int | str) -> None:
    # The kernel's own clock is too coarse to tell which of two layers came first.
    now = time.time_ns()
    os.utime(file, ns=(now, now))


def _pieces(fd: int) -> Iterator[bytes]:
    try:
        while piece := os.read(fd, CHUNK):
            yield piece
    except OSError as error:
        raise SourceError(f"it cannot be read: {error.strerror}", hint="check the disk") from error
