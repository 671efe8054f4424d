"""Mount a whole live root: the root of a layout, with /, /etc and /var writable as requested."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import RootfsError, RunError
from bootc_live.base.log import Recorder
from bootc_live.config.model import WritableParts
from bootc_live.formats.oci.manifest import NO_PROCESS, Process
from bootc_live.image.verified import ResolvedImage
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.tree.live import PLACES
from bootc_live.rootfs.writable.overlays import covered, frozen, is_plain_directory, overlaid, ram_place, seeded
from bootc_live.rootfs.writable.state import State, kept_etc, opened_state, var_place

_LABELS_LOST = (
    "SELinux: files on a tmpfs lose their labels, and no one can set them again on a read-only root; "
    "boot it with rw, with bootc.zram=, or in the layout index or erofs"
)


@dataclass(frozen=True)
class MountedRoot:
    """A root mounted with all its parts below ``path``; ``source_text`` is the image as typed.

    ``process`` is what the image says about its program. ``state`` is the partition that keeps /var and /etc, if any.
    ``unlabelled`` are directories on a tmpfs, as absolute paths in the root, to be labelled once the kernel has a
    policy: a tmpfs forgets labels that were set before.
    """

    path: str
    source_text: str
    state: State | None = None
    unlabelled: tuple[str, ...] = ()
    process: Process = NO_PROCESS


@contextmanager
def mounted_root(
    built: BuiltRoot, image: ResolvedImage, directory: str, parts: WritableParts, recorder: Recorder
) -> Iterator[MountedRoot]:
    """Mount the root built of ``image`` below the empty ``directory``; all mounts end with the block.

    A partition for state remembers the image's digest. Raise RunError with the message of mount(8), RootfsError for
    mount options that are refused or a required partition that cannot be used, and OutOfMemoryError if the image's /var
    does not fit.
    """
    with ExitStack() as stack:
        with recorder.phase("mount", "mounting the root"):
            root = _Mounting(stack, directory, parts, recorder, labelled=built.labelled).all(built, image)
        yield root


class _Mounting:
    """The steps of mounting a root.

    Setting a label on an overlay copies the file, even if the label is the same. Only the top directory of an overlay
    on a tmpfs needs a label, so with labels that directory is never shown below /: its subdirectories are, which still
    have the image's labels.
    """

    def __init__(
        self, stack: ExitStack, directory: str, parts: WritableParts, recorder: Recorder, *, labelled: bool
    ) -> None:
        self._forgets = labelled and parts.backing == "tmpfs"
        self._unlabelled: list[str] = []
        self._stack = stack
        self._directory = directory
        self._parts = parts
        self._recorder = recorder
        self._top = self._make("root")
        self._state_at = self._make("state")

    def all(self, built: BuiltRoot, image: ResolvedImage) -> MountedRoot:
        """Mount everything."""
        state = self._stack.enter_context(opened_state(self._parts, self._state_at, self._recorder))
        lower = self._root(built)
        self._etc(built, lower, state)
        state = self._var(built, state, image.identity)
        return MountedRoot(self._top, image.source_text, state, tuple(self._unlabelled), image.config.process)

    def _root(self, built: BuiltRoot) -> str:
        """Mount the root; return where it is without its writable part."""
        parts, enter = self._parts, self._stack.enter_context
        in_place = built.mount_writable if self._forgets else None
        if in_place:
            self._unlabelled.append("/")
        if in_place and not parts.root:
            self._recorder.warn(_LABELS_LOST)
        lower, place = self._top, ""
        overlay = parts.root and not in_place
        if overlay:
            lower = enter(built.mount(self._make("lower"), ""))
            place = self._ram("root", parts.root_size)
        try:
            if overlay:
                enter(overlaid(lower, self._top, parts.options, place))
            elif parts.root and in_place:
                enter(in_place(self._top, parts.options))
            else:
                enter(built.mount(self._top, parts.options))
        except RunError as error:
            if not parts.options:
                raise
            raise RootfsError(
                f"the root cannot be mounted with 'rootflags={parts.options}': {error.message}",
                hint="correct rootflags=, or leave it out",
            ) from error
        if overlay and self._forgets:
            self._unlabelled.append("/")
            self._show_directories(lower, place)
        return lower

    def _show_directories(self, lower: str, place: str) -> None:
        """Cover the directories of a writable root with those of a second overlay, which needs no labels."""
        inner = os.path.join(place, "directories")
        os.mkdir(inner)
        shown = self._stack.enter_context(overlaid(lower, self._make("directories"), self._parts.options, inner))
        with os.scandir(lower) as found:
            names = [entry.name for entry in found if entry.is_dir(follow_symlinks=False) and os.listdir(entry.path)]
        # systemd does not move the initramfs's file systems to a mount point.
        names = [name for name in names if os.fsencode(name) not in PLACES]
        for name in sorted(names):
            self._stack.enter_context(covered(os.path.join(self._top, name), os.path.join(shown, name)))

    def _etc(self, built: BuiltRoot, lower: str, state: State | None) -> None:
        etc, enter = os.path.join(self._top, "etc"), self._stack.enter_context
        kept = state if self._parts.etc else None
        # A writable root has a writable /etc; only a kept one needs an overlay of its own.
        if (self._parts.etc == self._parts.root and kept is None) or not self._is_directory("etc"):
            return
        if kept is not None:
            enter(kept_etc(os.path.join(lower, "etc"), etc, self._state_at, kept))
        elif self._parts.etc:
            self._etc_in_ram(built, etc)
        else:
            enter(frozen(etc))

    def _etc_in_ram(self, built: BuiltRoot, etc: str) -> None:
        enter = self._stack.enter_context
        if self._forgets and built.mount_writable:
            self._unlabelled.append("/etc")
            whole = enter(built.mount_writable(self._make("writable"), ""))
            enter(covered(etc, os.path.join(whole, "etc")))
            return
        place = self._ram("etc", self._parts.etc_size)
        if self._forgets:
            whole = enter(overlaid(self._top, self._make("whole"), "", place))
            enter(covered(etc, os.path.join(whole, "etc")))
        else:
            enter(overlaid(etc, etc, "", place))

    def _var(self, built: BuiltRoot, state: State | None, origin: str) -> State | None:
        var, enter = os.path.join(self._top, "var"), self._stack.enter_context
        if not (self._parts.var or self._parts.root) or not self._is_directory("var"):
            return state
        if not self._parts.var:
            enter(frozen(var))
        elif state is not None:
            made, state = var_place(self._state_at, var, origin, state)
            enter(covered(var, made))
        else:
            if built.var is not None:
                enter(covered(var, built.var))
            else:
                enter(seeded(var, self._ram("var", self._parts.var_size), "bootc.live.var.size="))
            if self._forgets:
                self._unlabelled.append("/var")
        return state

    def _ram(self, name: str, size: int | None) -> str:
        place = self._make(f"{name}-rw")
        return self._stack.enter_context(ram_place(self._parts, size, place, name))

    def _is_directory(self, name: str) -> bool:
        return is_plain_directory(os.path.join(self._top, name), self._recorder, f"/{name}")

    def _make(self, name: str) -> str:
        path = os.path.join(self._directory, name)
        os.mkdir(path, 0o700)
        return path
