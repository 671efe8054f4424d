"""Give the files of an image to the users of a guest: the image says their IDs in the guest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bootc_live.config.guest.model import IdMap
from bootc_live.landing.guest.plan import lines
from bootc_live.landing.guest.step import step
from bootc_live.rootfs.writable.overlays import overlaid
from bootc_live.system.mounts import attach_tree, map_owners, mount_tree, unmounted_after
from bootc_live.system.namespaces import mount_at, user_namespace

_HINT = "use another root.layout, or a kernel that can map owners on its file system (erofs: 5.19, tmpfs: 6.3)"


@contextmanager
def owned_by_guest(root: str, id_map: IdMap, *, writable: bool) -> Iterator[None]:
    """Cover a read-only mount for the block with one that has the guest's owners; changes go to RAM, if any.

    Raise LandingError and RunError.
    """
    with ExitStack() as stack:
        with step("id_map", "make a user namespace", "map only IDs that the container has itself"):
            namespace = stack.enter_context(user_namespace(lines(id_map.users), lines(id_map.groups)))
        with step("id_map", "map the owners of the image's files", _HINT):
            tree = mount_tree(root, recursive=False)
            try:
                map_owners(tree, namespace)
                stack.enter_context(unmounted_after(root))
                attach_tree(tree, root)
            finally:
                os.close(tree)
        if writable:
            place = f"{root}-changes"
            with step("root", "make a place for changes"):
                os.mkdir(place, 0o700)
                stack.enter_context(unmounted_after(place))
                mount_at("tmpfs", "tmpfs", place, options="mode=700")
            stack.enter_context(overlaid(root, root, "", place))
        yield
