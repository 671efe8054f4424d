"""Check the store of a disk, and remove what nothing refers to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bootc_live.base.errors import RootfsError
from bootc_live.formats.fsverity import DIGITS
from bootc_live.rootfs.layouts.composefs.layers import LAYERS
from bootc_live.rootfs.layouts.composefs.metadata import Listed, listed_objects, object_path
from bootc_live.rootfs.layouts.composefs.mount import checked_image
from bootc_live.rootfs.layouts.composefs.store import (
    IMAGES,
    OBJECTS,
    UNFINISHED,
    content_digest,
    image_path,
    locked,
)
from bootc_live.system import fsverity
from bootc_live.system.files import forget_cached

_HEXADECIMAL = frozenset("0123456789abcdef")


class WrongObject(NamedTuple):
    """An object that does not have the content of its name, and what is wrong."""

    digest: str
    problem: str


def referred_objects(store: str, digest: str) -> frozenset[str]:
    """Return the objects that a root refers to; raise RootfsError if its metadata is missing or has another digest."""
    return listed(store, digest).objects


def listed(store: str, digest: str) -> Listed:
    """Return what the metadata of a root lists; raise as ``referred_objects``."""
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
        problem = object_problem(store, name)
        if problem:
            yield WrongObject(name, problem)


def object_problem(store: str, digest: str, *, verity: bool = False) -> str:
    """Read an object, and return what is wrong with it; empty if nothing is.

    With ``verity``, fs-verity must protect it, as far as this kernel can tell.
    """
    try:
        fd = os.open(_object(store, digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            forget_cached(fd)
            found = content_digest(fd, os.fstat(fd).st_size)
            protected = not verity or fsverity.measure(fd) is not None
        finally:
            os.close(fd)
    except OSError as error:
        return error.strerror or "cannot be read"
    except ValueError:
        return "its file became shorter"
    if found != digest:
        return "its content has changed"
    return "" if protected else "fs-verity does not protect it"


def stored_objects(store: str) -> tuple[set[str], list[str]]:
    """Return the objects that are there, and the paths of what has no place among them; raise OSError."""
    found, strange = set[str](), list[str]()
    top = os.path.join(store, OBJECTS)
    for prefix in os.listdir(top):
        path = os.path.join(top, prefix)
        names = os.listdir(path) if os.path.isdir(path) and not os.path.islink(path) else None
        for name in names if names is not None else [""]:
            digest = prefix + name
            if len(prefix) == 2 and len(digest) == DIGITS and _HEXADECIMAL.issuperset(digest):  # as object_path
                found.add(digest)
            else:
                strange.append(os.path.join(path, name) if name else path)
    return found, strange


def remove_object(store: str, digest: str) -> None:
    """Remove an object that nothing refers to; raise OSError, and RootfsError if another process changes the store."""
    with locked(store):
        os.unlink(_object(store, digest))


def unfinished(store: str) -> list[str]:
    """Return the paths of what interrupted writers have left in a store; raise OSError."""
    layers = os.path.join(store, LAYERS)
    return [
        *(os.path.join(store, name) for name in os.listdir(store) if name.startswith(UNFINISHED)),
        *(os.path.join(layers, name) for name in _listed(layers) if name.endswith(".new")),
    ]


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


def _object(store: str, digest: str) -> str:
    return os.path.join(store, OBJECTS, object_path(digest))


def _listed(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []


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
