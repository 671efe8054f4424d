"""Landing in the image's own kernel: what the next one gets, and the jump into it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from bootc_live.base.errors import LandingError, OutOfMemoryError
from bootc_live.base.log import Recorder
from bootc_live.config.next_kernel.handover import STAGE, WHOLE, is_mounted_over, stage_json
from bootc_live.config.source_spec import SourceSpec
from bootc_live.landing.kexec.next_initrd import append_archive, append_file, carried_files
from bootc_live.rootfs.boot_files.dracut_modules import lacking_module
from bootc_live.rootfs.boot_files.extract import BootArtifacts
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.files import punch_hole
from bootc_live.system.kexec import exec_loaded_kernel, loaded_kernel

_HINT = "build the image's initramfs with the dracut modules of bootc-live that its source needs"


@dataclass
class KexecLanding:
    """Go on in the kernel of ``taken`` with the command line; ``prepare`` does all that can fail, ``commit`` jumps.

    ``directory`` is a place in RAM for files. ``archive`` is a file of this initramfs that the next one has to have at
    the same path, None where nothing but the layout of ``taken`` is handed over. ``rest`` is the source that
    something is left to fetch from, None where there is nothing. The kernel is loaded as long as ``stack`` is open.
    """

    taken: BootArtifacts
    cmdline: str
    directory: str
    recorder: Recorder
    stack: ExitStack = field(default_factory=ExitStack)
    archive: str | None = None
    rest: SourceSpec | None = None

    def check(self) -> None:
        """Raise LandingError for an image whose initramfs could not go on."""
        typed = self.taken.acquired.image.resolved.typed
        initramfs = self.taken.files.initramfs
        if initramfs is None:
            raise LandingError(f"{typed!r} has no initramfs.img beside its kernel {self._version}", hint=_HINT)
        if self.archive is not None and is_mounted_over(self.archive):
            raise LandingError(
                f"{self.archive!r} would have to be handed over as it is, but the next kernel mounts something over "
                "that place before it is looked for",
                hint="put the archive elsewhere in the initramfs, for example at /root.oci, or make it an OCI archive "
                "that is not compressed as a whole",
            )
        try:
            lacking = lacking_module(initramfs.chunks(), self.rest)
        except ValueError as error:
            self.recorder.warn(f"cannot look into the initramfs of {typed!r}: {error}")
            return
        if lacking == "bootc-live":
            raise LandingError(
                f"the initramfs of {typed!r} (kernel {self._version}) has no bootc-live in it, "
                "so it could not make a root of the image",
                hint=_HINT,
            )
        if lacking:
            raise LandingError(
                f"the initramfs of {typed!r} (kernel {self._version}) lacks the dracut module {lacking}, "
                "so it could not fetch what is not handed over",
                hint=_HINT,
            )

    def prepare(self, receipt: dict[str, object]) -> str:
        """Make the next initrd and load the kernel, give the call that did; ``receipt`` tells the next one of it.

        Raises LandingError with the kernel's reason, OutOfMemoryError and RunError.
        """
        initramfs = self.taken.files.initramfs
        if initramfs is None:
            raise ValueError("not checked")
        layout = self.taken.layout
        initrd = os.path.join(self.directory, "initrd") if layout is None else layout.path
        kernel = os.path.join(self.directory, "vmlinuz")
        with self.recorder.phase("pack", f"packing the next initrd, for kernel {self._version}"):
            if self.archive is not None:
                append_archive(_files_of(self.archive), initrd)
            append_file(self.taken.files.kernel, kernel)
            append_file(initramfs, initrd)
            # An archive that is read once left whole layers there.
            os.truncate(initramfs.path, 0)
            missing = frozenset[str]() if layout is None else layout.missing
            digest = self.taken.acquired.image.resolved.manifest_digest
            stage = stage_json(digest, missing, {**receipt, "handed_over": time.time()})
            files = {STAGE: stage, **dict(carried_files())}
            if layout is not None and not layout.missing:
                files[WHOLE] = b""
            append_archive(files, initrd)
        with self.recorder.phase("load", f"loading kernel {self._version}"), _load_hints():
            after_read = partial(_empty, kernel, initrd)
            return self.stack.enter_context(loaded_kernel(kernel, initrd, self.cmdline, after_read))

    def commit(self) -> None:
        """Start it; returns only by raising LandingError."""
        commit(exec_loaded_kernel)

    @property
    def _version(self) -> str:
        return self.taken.files.version


@contextmanager
def _load_hints() -> Iterator[None]:
    """Add the kernel arguments that help if a kernel cannot be loaded."""
    try:
        yield
    except OutOfMemoryError as error:
        error.hint += ", or boot with bootc.kexec.reuse-image=0"
        raise
    except LandingError as error:
        error.hint += "; boot without bootc.kexec, or with bootc.kexec.reuse-image=0 if the initrd is too large"
        raise


def _files_of(archive: str) -> dict[str, bytes | BootFile]:
    """Give an archive, or all there is in a layout directory, by path."""
    paths = [archive]
    if os.path.isdir(archive):
        paths = [os.path.join(top, name) for top, _, names in os.walk(archive) for name in names]
    return {path: BootFile(path, 0, os.path.getsize(path)) for path in sorted(paths)}


def _empty(*paths: str) -> None:
    for path in paths:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            punch_hole(fd, 0, os.fstat(fd).st_size)
        finally:
            os.close(fd)
