"""Show a directory or a file at another place with other owners: an id-mapped mount (mount_setattr(2))."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

from bootc_live.base.errors import ConfigError, RunError
from bootc_live.config.guest.model import IdMap
from bootc_live.landing.guest.plan import lines
from bootc_live.landing.guest.tools.places import attach, existing
from bootc_live.rootfs.memory.host import kind_of
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.mounts import map_owners, mount_tree
from bootc_live.system.namespaces import user_namespace

_PRIVILEGE = "run it as root, with CAP_SYS_ADMIN in the user namespace where the file system was mounted"


def mount_idmapped(owners: IdMap, source: str, target: str, *, recursive: bool) -> None:
    """Mount ``source`` at ``target`` with other owners, with mounts below it if ``recursive``; raise BootcLiveError."""
    existing("SRC", source)
    existing("DST", target)
    if os.path.isdir(source) != os.path.isdir(target):
        raise ConfigError(
            f"one of {source!r} and {target!r} is a directory, the other is none", hint="name two of the same kind"
        )
    with ExitStack() as stack:
        try:
            namespace = stack.enter_context(user_namespace(lines(owners.users), lines(owners.groups)))
        except OSError as error:
            raise RunError(
                f"there is no user namespace with the map: {error.strerror}",
                hint="run it as root and not in a chroot, map only IDs that this container has, and allow user "
                "namespaces (/proc/sys/user/max_user_namespaces)",
            ) from error
        _mount(namespace, source, target, recursive=recursive)


def _mount(namespace: int, source: str, target: str, *, recursive: bool) -> None:
    try:
        tree = mount_tree(source, recursive=recursive)
    except OSError as error:
        raise RunError(f"{source!r} cannot be mounted elsewhere: {error.strerror}", hint=_PRIVILEGE) from error
    try:
        map_owners(tree, namespace)
        commit(attach, target, descriptors=[tree])
    except OSError as error:
        raise _refused(error, source) from error
    finally:
        os.close(tree)


def _refused(error: OSError, source: str) -> RunError:
    kind = kind_of(source) or "unknown"
    match error.errno:
        case errno.ENOSYS:
            return RunError("this kernel has no id-mapped mounts", hint="use Linux 5.12 or later")
        case errno.EINVAL:
            return RunError(
                f"{source!r} cannot have other owners: the file system {kind!r} has no id-mapped mounts on this kernel",
                hint="use ext4, xfs, btrfs or, on newer kernels, erofs and tmpfs; of an overlay, map the layers",
            )
        case errno.EPERM:
            return RunError(
                f"{source!r} cannot have other owners: the file system {kind!r} belongs to another user namespace, or "
                "it is mapped already",
                hint=_PRIVILEGE,
            )
    return RunError(f"{source!r} cannot have other owners: {error.strerror}", hint=_PRIVILEGE)
