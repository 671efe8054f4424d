"""Makes a root in the layout that was chosen for it, from admission to what can be mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bootc_live.base.errors import RootfsError
from bootc_live.base.log import Recorder
from bootc_live.config.model import Config, Layout
from bootc_live.image.sink import LayerConsumer, Takers
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.layouts.erofs.layout import ErofsBuilder, erofs_builder
from bootc_live.rootfs.layouts.files.layout import build_tree
from bootc_live.rootfs.layouts.index.layout import index_root
from bootc_live.rootfs.memory.admitting import Admission, present_room
from bootc_live.rootfs.memory.choose import Means, candidates
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.rootfs.ram import RamFs, ram_filesystem
from bootc_live.rootfs.tree.labels import label_tree
from bootc_live.rootfs.tree.live import live_tree
from bootc_live.rootfs.tree.node import Node
from bootc_live.rootfs.tree.read_ahead import read_ahead


class RootMaker:
    """Makes one root of one image. Use ``root_maker``.

    ``admission`` is asked before fetching; ``path`` is the data file for the layers.
    """

    def __init__(
        self, config: Config, directory: str, recorder: Recorder, stack: ExitStack, means: Means, *, ours: bool
    ) -> None:
        """``directory`` is where to build; ``ours`` tells that its file system is, and lives as long as the root.

        Raise RootfsError where what was asked for cannot be made of any image.
        """
        self._config, self._directory, self._recorder, self._stack = config, directory, recorder, stack
        self._ours = ours
        self._builder: ErofsBuilder | None = None
        self.labelled = False
        self.path = os.path.join(directory, "layers")
        self._ahead = stack.enter_context(read_ahead(self.path))
        self._check(means)
        room = present_room(config.backing, None if ours else directory)
        self.admission = Admission(config.layout, config.compress, room, means, recorder)

    def _check(self, means: Means) -> None:
        """Say what this kernel cannot mount of what was asked for; raise RootfsError where nothing else will do."""
        layout, compress, wanted = self._config.layout, self._config.compress, self._config.erofs_digest
        warning = candidates(layout, compress, means).warning
        if warning and wanted is not None:
            raise RootfsError(
                f"'bootc.live.erofs.digest={wanted}' allows nothing else, but {warning}",
                hint="use a kernel that can, or pin an image with a compression that this one has",
            )
        if warning:
            self._recorder.warn(warning)

    @property
    def way(self) -> StorageOption:
        """What was chosen for the source at hand."""
        choice = self.admission.choice
        return StorageOption(self._config.layout, self._config.compress) if choice is None else choice.way

    @property
    def takers(self) -> Takers:
        """Who is told of the image on its way."""
        return Takers(self.admission, self.consumer, self._ahead)

    def consumer(self) -> LayerConsumer | None:
        """Give what takes the layers as they come, None where they go to the data file; raises RootfsError."""
        if self._builder is None and self.way.layout is Layout.EROFS:
            path = os.path.join(self._directory, "root.erofs")
            self._builder = self._stack.enter_context(erofs_builder(path, self.path, self.way.compress))
            # It takes layers as they come: what it has is nowhere else.
            self.admission.begun = self.way
        return self._builder

    @property
    def library(self) -> str:
        """What compressed the image, with its version; empty where nothing did."""
        return "" if self._builder is None else self._builder.library

    def make(self, image: VerifiedImage) -> BuiltRoot:
        """Make the root of an image whose layers are all there; the data file is used up unless it is the root.

        Raises RootfsError, ImageError and OutOfMemoryError.
        """
        if self._builder is not None:
            return self._finish(self._builder, image)
        if self.way.layout is Layout.TREE:
            with self._recorder.phase("tree", "making the root's files"):
                return build_tree(image, self._home_of_files(), self._recorder, self._finish_tree, self._ahead)
        with self._recorder.phase("index", "making the root's index"):
            return index_root(image, self._finish_tree, self._ahead, self._recorder.warn)

    def _finish(self, builder: ErofsBuilder, image: VerifiedImage) -> BuiltRoot:
        # All of it has been taken.
        os.unlink(self.path)
        with self._recorder.phase("erofs", "finishing the EROFS image"):
            keep_times = self._config.erofs_times == "image"
            built = builder.finish(image, self._finish_tree, keep_times=keep_times, warn=self._recorder.warn)
        wanted = self._config.erofs_digest
        if wanted is not None and built.sha256 != wanted:
            made = f" ({builder.library})" if builder.library else ""
            raise RootfsError(
                f"the EROFS image of {image.resolved.typed!r} has the digest {built.sha256}, "
                f"'bootc.live.erofs.digest={wanted}' allows no other",
                hint="compare the OCI image's digest, bootc.live.compress= and bootc.live.erofs.times= with those that "
                f"the digest is of; compressed images also depend on the library{made}",
            )
        return built

    def _finish_tree(self, root: Node, image: VerifiedImage) -> None:
        builder = self._builder
        with ExitStack() as stack:
            if builder is not None:
                read = builder.content
            else:
                fd = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)

                def read(node: Node) -> bytes:
                    if node.extents is None:
                        return os.pread(fd, node.size, node.offset)
                    content = bytearray(node.size)
                    for part in node.extents:
                        content[part.start : part.start + part.length] = os.pread(fd, part.length, part.data)
                    return bytes(content)

            typed = image.resolved.typed
            live_tree(root, typed, read)
            self.labelled = label_tree(root, read, self._config.selinux, typed, self._recorder)

    def _home_of_files(self) -> str:
        if self._ours:
            return self._directory
        # Whoever chose the directory keeps it, and empties it: the files need one that lives as long as they.
        place = os.path.join(self._directory, "files")
        os.mkdir(place, 0o700)
        backing = self._config.backing
        spec = RamFs(backing.size, huge=backing.huge, mpol=backing.mpol, zram=backing.zram, mode=0o700)
        return self._stack.enter_context(ram_filesystem(spec, place))


@contextmanager
def root_maker(config: Config, directory: str, recorder: Recorder, means: Means, *, ours: bool) -> Iterator[RootMaker]:
    """Keep a maker, and what it needs, while the block runs; mount what it made within. See ``RootMaker``."""
    with ExitStack() as stack:
        yield RootMaker(config, directory, recorder, stack, means, ours=ours)
