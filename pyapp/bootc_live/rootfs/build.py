"""Build a root as planned: provide the sink for its layers, then make what can be mounted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from bootc_live.base.errors import RootfsError
from bootc_live.base.log import Recorder
from bootc_live.config.model import Config, Layout
from bootc_live.image.candidate import Candidate
from bootc_live.image.sink import LayerSink
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.layouts.erofs.layout import ErofsBuilder, erofs_builder
from bootc_live.rootfs.layouts.files.layout import build_tree
from bootc_live.rootfs.layouts.index.layout import METADATA_ROOM, index_root
from bootc_live.rootfs.memory.host import Means, present_room
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.rootfs.plan import RootPlan, plan_root
from bootc_live.rootfs.ram import RamFs, ram_filesystem
from bootc_live.rootfs.tree.data import content_reader
from bootc_live.rootfs.tree.labels import label_tree
from bootc_live.rootfs.tree.live import live_tree
from bootc_live.rootfs.tree.node import Node
from bootc_live.rootfs.tree.read_ahead import read_ahead
from bootc_live.rootfs.writable.overlays import ram_place
from bootc_live.rootfs.writable.separate_var import separate_var

Approve = Callable[[Candidate, RootPlan], None]


class RootBuilder:
    """Plans, fetches and builds one root: a ``Recipe`` and its result. Use ``root_builder``."""

    begin = METADATA_ROOM

    def __init__(
        self,
        config: Config,
        directory: str,
        recorder: Recorder,
        means: Means,
        stack: ExitStack,
        *,
        ours: bool,
        approve: Approve,
    ) -> None:
        """Build in ``directory``; ``ours`` tells whether its file system was mounted for this root, and lives as long.

        Memory is measured now, before any source has used some. ``approve`` is called with every plan before anything
        is fetched by it, and may raise.
        """
        self.path = os.path.join(directory, "layers")
        self._config, self._directory, self._recorder, self._stack = config, directory, recorder, stack
        self._means, self._ours, self._approve = means, ours, approve
        self._room = present_room(config.backing, None if ours else directory)
        self._headers = stack.enter_context(read_ahead(self.path))
        self._erofs: ErofsBuilder | None = None
        self._separate_var = False
        self._var: str | None = None
        # The only option left after layers were consumed for it.
        self._begun: StorageOption | None = None

    def plan(self, found: Candidate) -> RootPlan:
        """Return the plan for the image of a source; raise AdmissionError if no layout fits."""
        plan = plan_root(found, self._config, self._room, self._means, self._begun, self._recorder)
        self._approve(found, plan)
        return plan

    def fetch(self, found: Candidate, plan: RootPlan) -> VerifiedImage:
        """Fetch the layers into the sink of the plan; raise as ``Candidate.fetch``."""
        return found.fetch(self.sink(plan.option))

    def sink(self, option: StorageOption) -> LayerSink:
        """Return the sink for the layers of a root that is stored so; raise RootfsError."""
        if option.layout is not Layout.EROFS:
            return self._headers
        if self._erofs is None:
            path = os.path.join(self._directory, "root.erofs")
            self._erofs = self._stack.enter_context(erofs_builder(path, self.path, option.compress))
            self._begun = option
        return self._erofs

    def build(self, option: StorageOption, image: VerifiedImage, *, var_in_ram: bool = False) -> BuiltRoot:
        """Build the root of an image whose layers are in the sink; the data file is consumed unless it is the root.

        With ``var_in_ram``, the root lacks the files of /var, which are on a file system of their own; an EROFS image
        has them, because it must be the same for all. Raise RootfsError, ImageError and OutOfMemoryError.
        """
        if option.layout is Layout.EROFS:
            assert self._erofs is not None, "its layers went to another sink"
            return self._build_erofs(self._erofs, image, verity=option.verity)
        self._separate_var = var_in_ram
        if option.layout is Layout.TREE:
            with self._recorder.phase("tree", "writing the root's files"):
                built = build_tree(
                    image, self._directory_of_files(), self._finish_tree, self._headers, self._recorder.warn
                )
        else:
            with self._recorder.phase("index", "writing the root's index"):
                built = index_root(image, self._finish_tree, self._headers, self._recorder.warn)
        return replace(built, var=self._var)

    def _build_erofs(self, builder: ErofsBuilder, image: VerifiedImage, *, verity: bool) -> BuiltRoot:
        # All layers were consumed.
        os.unlink(self.path)
        with self._recorder.phase("erofs", "finishing the EROFS image"):
            keep_times = self._config.erofs_times == "image"
            built = builder.finish(
                image, self._finish_tree, keep_times=keep_times, verity=verity, warn=self._recorder.warn
            )
        for name, what, wanted, found in (
            ("bootc.live.erofs.digest", "digest", self._config.erofs_digest, built.sha256),
            ("bootc.live.verity.roothash", "root hash", self._config.root_hash, built.root_hash),
        ):
            if wanted is not None and found != wanted:
                made = f" ({builder.library})" if builder.library else ""
                raise RootfsError(
                    f"the EROFS image of {image.resolved.source_text!r} has the {what} {found}, "
                    f"but '{name}={wanted}' is required",
                    hint="compare the OCI image's digest, bootc.live.compress= and bootc.live.erofs.times= with those "
                    f"of the pinned image; compressed images also depend on the library{made}",
                )
        return built

    def _finish_tree(self, root: Node, image: VerifiedImage) -> bool:
        builder = self._erofs
        with ExitStack() as stack:
            read = builder.content if builder is not None else stack.enter_context(content_reader(image))
            source_text = image.resolved.source_text
            live_tree(root, source_text, read)
            labelled = label_tree(root, read, self._config.selinux, source_text, self._recorder)
        if self._separate_var:
            self._var = separate_var(root, image, self._place_of_var(), self._recorder.warn)
        return labelled

    def _place_of_var(self) -> str:
        parts, place = self._config.parts, os.path.join(self._directory, "var-rw")
        os.mkdir(place, 0o700)
        return self._stack.enter_context(ram_place(parts, parts.var_size, place, "var"))

    def _directory_of_files(self) -> str:
        if self._ours:
            return self._directory
        # A directory that the user chose is emptied at the end: the files need a file system of their own.
        place = os.path.join(self._directory, "files")
        os.mkdir(place, 0o700)
        backing = self._config.backing
        spec = RamFs(backing.size, huge=backing.huge, mpol=backing.mpol, zram=backing.zram, mode=0o700)
        return self._stack.enter_context(ram_filesystem(spec, place))


@contextmanager
def root_builder(
    config: Config,
    directory: str,
    recorder: Recorder,
    means: Means,
    *,
    ours: bool,
    approve: Approve = lambda _found, _plan: None,
) -> Iterator[RootBuilder]:
    """Yield a builder for one root; its root must be mounted within the block. See ``RootBuilder``."""
    with ExitStack() as stack:
        yield RootBuilder(config, directory, recorder, means, stack, ours=ours, approve=approve)
