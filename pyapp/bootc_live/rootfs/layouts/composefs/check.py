"""Check the store of a disk, and remove what nothing refers to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bootc_live.base.errors import RootfsError
from bootc_live.rootfs.layouts.composefs.metadata import listed_objects, object_path
from bootc_live.rootfs.layouts.composefs.mount import checked_image
from bootc_live.rootfs.layouts.composefs.store import IMAGES, OBJECTS, content_digest, image_path, locked


class WrongObject(NamedTuple):
    """An object that does not have the content of its name, and what is wrong."""

    digest: str
    problem: str


def referred_objects(store: str, digest: str) -> set[str]:
    """Return the objects that a root refers to; raise RootfsError if its metadata is missing or has another digest."""
    with checked_image(store, digest) as fd:
        try:
            return listed_objects(fd)
        except ValueError as error:
            raise RootfsError(
                f"{image_path(store, digest)!r} {error}", hint="it was not made by this program; install it anew"
            ) from error


def wrong_objects(store: str, digest: str) -> Iterator[WrongObject]:
    """Read every object that a root refers to, and yield those that are wrong; raise as ``referred_objects``."""
    for name in sorted(referred_objects(store, digest)):
        problem = _problem(os.path.join(store, OBJECTS, object_path(name)), name)
        if problem:
            yield WrongObject(name, problem)


def prune(store: str, kept: Iterable[str]) -> int:
    """Remove all roots but those kept, and all objects that none of them refers to; return how many bytes they had.

    Raise RootfsError, before anything is removed, as ``referred_objects`` or if another process changes the store.
    """
    freed, images, objects = 0, set[str](), set[str]()
    with locked(store):
        for digest in kept:
            images.add(os.path.basename(image_path(store, digest)))
            objects |= referred_objects(store, digest)
        # No root may be left without its objects.
        freed += _remove_others(os.path.join(store, IMAGES), images)
        for prefix in os.listdir(os.path.join(store, OBJECTS)):
            directory = os.path.join(store, OBJECTS, prefix)
            freed += _remove_others(directory, {name[2:] for name in objects if name.startswith(prefix)})
    return freed


def _problem(path: str, digest: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = content_digest(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
    except OSError as error:
        return error.strerror or "cannot be read"
    except ValueError:
        return "its file became shorter"
    return "" if found == digest else "its content has changed"


def _remove_others(directory: str, kept: set[str]) -> int:
    """Remove files of a directory, and write that to the disk; return their bytes."""
    freed = 0
    for name in set(os.listdir(directory)) - kept:
        path = os.path.join(directory, name)
        freed += os.stat(path).st_size
        os.unlink(path)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    return freed
