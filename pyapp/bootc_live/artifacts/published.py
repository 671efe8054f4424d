"""Put archives into a directory from which machines update themselves: immutable names, and a pointer to the newest."""

from __future__ import annotations

import fcntl
import filecmp
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from bootc_live.base.errors import ConfigError
from bootc_live.formats.pointer import Pointer, archive_name, pointer_text
from bootc_live.image.detached import ENDINGS
from bootc_live.system.cleanup.directories import private_directory, remove_tree
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.cleanup.new_results import link_new
from bootc_live.system.files import sync_filesystem

POINTER = "latest.json"
_STAGE = ".bootc-live."
_ARCHIVE = re.compile(r"[0-9a-f]{64}\.oci")
# Another user serves it.
_MODE = 0o644


@contextmanager
def publishing(directory: str) -> Iterator[str]:
    """Yield a directory for temporary files in the one to publish in, where nobody else publishes meanwhile.

    Raise ConfigError.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Of runs that were killed.
        for name in os.listdir(directory):
            if name.startswith(_STAGE):
                remove_tree(os.path.join(directory, name))
        with private_directory(directory, _STAGE, purpose=repr(directory)) as stage:
            yield stage
    except BlockingIOError as error:
        raise ConfigError(f"another program publishes in {directory!r}", hint="wait until it has ended") from error
    finally:
        os.close(fd)


def publish_archive(
    directory: str, stage: str, digest: str, archive: str, signatures: Mapping[str, str], *, keep: int | None
) -> Pointer:
    """Move a finished archive into a directory, then what signs it, then a pointer to it; remove older archives.

    ``stage`` is a directory on the same file system, ``digest`` that of the manifest; ``signatures`` are finished
    files by the endings of their names. The pointer is the last file that changes, at once, and only when all others
    are on the disk. Raise ConfigError if the directory has another archive of the same image, and OSError.
    """
    name = archive_name(digest)
    target = os.path.join(directory, name)
    try:
        os.chmod(archive, _MODE)
        link_new(archive, target)
    except FileExistsError as error:
        if not filecmp.cmp(archive, target, shallow=False):
            raise ConfigError(
                f"{target!r} is another archive of the image {digest}, and machines may be fetching it",
                hint="publish to another directory, or remove it when no machine needs it",
            ) from error
        os.utime(target)
    for ending, path in signatures.items():
        os.chmod(path, _MODE)
        os.rename(path, f"{target}{ending}")
    signed = tuple(f"{name}{ending}" for ending in ENDINGS if os.path.isfile(f"{target}{ending}"))
    created = datetime.now(UTC).isoformat(timespec="seconds")
    pointer = Pointer(digest, name, os.stat(target).st_size, created, signed)
    sync_filesystem(directory)
    finished = os.path.join(stage, POINTER)
    with open(finished, "x", encoding="ascii") as file:
        file.write(pointer_text(pointer))
        os.fchmod(file.fileno(), _MODE)
        file.flush()
        os.fsync(file.fileno())
    commit(os.rename, finished, os.path.join(directory, POINTER))
    sync_filesystem(directory)
    if keep is not None:
        _prune(directory, name, keep)
    return pointer


def _prune(directory: str, newest: str, keep: int) -> None:
    """Remove all but the archives that were published last."""
    archives = [name for name in os.listdir(directory) if _ARCHIVE.fullmatch(name) and name != newest]
    archives.sort(key=lambda name: os.stat(os.path.join(directory, name)).st_mtime_ns, reverse=True)
    for name in archives[keep - 1 :]:
        for ending in ("", *ENDINGS):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, f"{name}{ending}"))
