"""Land in the image's own kernel: load it with its initrd and command line, and start it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn

from bootc_live.base.errors import ConfigError, LandingError, OutOfMemoryError
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.cmdline import next_cmdline
from bootc_live.config.next_kernel.handover import STAGE, WHOLE, is_mounted_over, stage_json
from bootc_live.config.source_spec import ArchiveFile, SourceSpec
from bootc_live.landing.kexec.next_initrd import append_archive, append_file, carried_files
from bootc_live.landing.kexec.next_kernel import check_cmdline, check_next_memory
from bootc_live.landing.protocol import Receipt
from bootc_live.landing.sysroot.modules import needs_modules
from bootc_live.rootfs.boot_files.extract import BootArtifacts
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.boot_files.initramfs import unfit
from bootc_live.system.cleanup.guard import commit
from bootc_live.system.files import punch_hole
from bootc_live.system.kexec import exec_loaded_kernel, loaded_kernel
from bootc_live.system.memory import trim_heap

# dracut writes it even without systemd, unlike /etc/initrd-release.
_INITRAMFS = "/usr/lib/initrd-release"
_HINT = "build the image's initramfs with the dracut modules of bootc-live that its source needs"


@dataclass(frozen=True)
class _Next:
    """The next kernel's command line, and the archive of this initramfs that it gets at the same path, or None.

    ``rest`` is the source of the layers that are still to fetch, or None; ``handed`` counts the bytes handed over.
    """

    cmdline: str
    archive: str | None
    rest: SourceSpec | None
    handed: int


@dataclass
class KexecLanding:
    """Starts the image's own kernel; a ``Landing``.

    ``cmdline`` is the kernel command line of this boot, ``directory`` a directory in RAM, and ``log`` the file for the
    last message. A ``dry_run`` also works outside an initramfs, and does not remove archives.
    """

    kexec: Kexec
    sources: Sequence[SourceSpec]
    cmdline: str
    directory: str
    recorder: Recorder
    log: str | None = None
    dry_run: bool = False
    _summary: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)

    def check(self) -> None:
        """Raise LandingError outside of an initramfs."""
        if not self.dry_run and not os.path.exists(_INITRAMFS):
            raise LandingError(
                "bootc.kexec starts another kernel immediately, which is allowed only in an initramfs",
                hint="leave out bootc.kexec, or use --dry-run",
            )

    def examine(self, made: BootArtifacts) -> list[str]:
        """Raise LandingError if the image's kernel and initramfs could not continue the boot; return warnings."""
        following = self._next(made)
        check_cmdline(following.cmdline)
        warnings = list(_check_initramfs(made, following))
        running = os.uname().release
        if self.kexec.boot_on_failure and needs_modules() and running not in made.modules:
            warnings.append(
                f"if kexec fails, this kernel cannot boot the image either: it has no modules for {running}"
            )
        if made.files.initramfs is not None:
            check_next_memory(following.handed, made.files.initramfs)
        if following.rest is not None and following.archive is None:
            warnings += unreachable_archives(self.sources)
        return warnings

    def prepare(self, made: BootArtifacts, receipt: Receipt) -> str:
        """Make the next initrd, which contains ``receipt``, and load the kernel.

        Raise LandingError with the kernel's reason, OutOfMemoryError and RunError.
        """
        following, layout, initramfs = self._next(made), made.layout, made.files.initramfs
        assert initramfs is not None, "examined"
        source = self.sources[len(made.attempts) - 1]
        if isinstance(source, ArchiveFile) and following.archive is None and not self._may_continue:
            _drop_embedded_archive(source.path)
        trim_heap()
        initrd = os.path.join(self.directory, "initrd") if layout is None else layout.path
        kernel = os.path.join(self.directory, "vmlinuz")
        with self.recorder.phase("pack", f"packing the next initrd, for kernel {made.files.version}"):
            if following.archive is not None:
                append_archive(_files_of(following.archive), initrd)
            append_file(made.files.kernel, kernel)
            append_file(initramfs, initrd)
            # A streamed archive left whole layers there.
            os.truncate(initramfs.path, 0)
            missing = frozenset[str]() if layout is None else layout.missing
            stage = stage_json(made.image.manifest_digest, missing, {**receipt, "handed_over": time.time()})
            files = {STAGE: stage, **dict(carried_files())}
            if layout is not None and not layout.missing:
                files[WHOLE] = b""
            append_archive(files, initrd)
        with self.recorder.phase("load", f"loading kernel {made.files.version}"), _load_hints():
            after_read = partial(_empty, kernel, initrd)
            call = self._stack.enter_context(loaded_kernel(kernel, initrd, following.cmdline, after_read))
        fetched, used = mib(made.image.compressed_size), receipt["peak_memory"]
        assert isinstance(used, int)
        seconds = ", ".join(f"{name} {spent} s" for name, spent in self.recorder.phases.items())
        peak = f"{mib(used)} of memory at the peak, for {fetched} to fetch"
        self._summary = f"{peak}; {seconds}; continuing in kernel {made.files.version} ({call})"
        return f"kernel {made.files.version} can be loaded ({call}); {peak}; {seconds}"

    def commit(self) -> NoReturn:
        """Start the loaded kernel; raise LandingError if this kernel is still running."""
        # Unlike the journal, the kernel log reaches the console before this kernel ends.
        if self.log is None or self.recorder.quiet:
            self.recorder.say(self._summary)
        else:
            with suppress(OSError), open(self.log, "ab", buffering=0) as file:
                file.write(f"<6>bootc-live: {self._summary}\n".encode())
        commit(exec_loaded_kernel)
        raise AssertionError("the kernel was started")

    def undo(self) -> None:
        """Unload the kernel."""
        self._stack.close()

    @property
    def _may_continue(self) -> bool:
        """Whether this kernel may be needed after a failure."""
        return self.dry_run or self.kexec.boot_on_failure

    def _next(self, made: BootArtifacts) -> _Next:
        kexec, digest = self.kexec, made.image.manifest_digest
        if digest is None:
            # A docker-archive is pinned by its config digest, which no registry knows.
            kexec = replace(kexec, append=(*kexec.append, f"bootc.live.digest={made.image.identity}"))
        cmdline = next_cmdline(self.cmdline, made.files.arguments, kexec, digest, running_cmdline())
        used = self.sources[len(made.attempts) - 1]
        rest = used if made.layout is None or made.layout.missing else None
        # If an earlier source supplied some layers, only the archive has the others.
        archive = rest.path if kexec.reuse and isinstance(rest, ArchiveFile) else None
        handed = (0 if made.layout is None else made.layout.size) + (0 if archive is None else _size(archive))
        return _Next(cmdline, archive, rest, handed)


def _check_initramfs(made: BootArtifacts, following: _Next) -> Iterator[str]:
    """Raise LandingError if the image's initramfs could not continue the boot; yield a warning if it cannot be read."""
    source_text, version, initramfs = made.image.source_text, made.files.version, made.files.initramfs
    if initramfs is None:
        raise LandingError(f"{source_text!r} has no initramfs.img beside its kernel {version}", hint=_HINT)
    if following.archive is not None and is_mounted_over(following.archive):
        raise LandingError(
            f"{following.archive!r} cannot be handed over: the next kernel mounts another file system there first",
            hint="put the archive elsewhere in the initramfs, for example at /root.oci, or use an OCI archive that is "
            "not compressed as a whole",
        )
    what = f"the initramfs of {source_text!r} (kernel {version})"
    try:
        problem = unfit(initramfs.chunks(), what, following.rest)
    except ValueError as error:
        yield f"{what} cannot be read: {error}"
        return
    if problem is not None:
        raise LandingError(problem, hint=_HINT)


def reachable(sources: Sequence[SourceSpec]) -> tuple[SourceSpec, ...]:
    """Return the sources without archives in this initramfs, which the next kernel lacks; raise ConfigError if none."""
    left = tuple(spec for spec in sources if not isinstance(spec, ArchiveFile))
    if not left:
        raise ConfigError(
            f"'bootc.kexec.reuse-image=0' contradicts 'root=bootc-live:{sources[0].source_text}': the next kernel's "
            "initramfs does not contain that archive",
            hint="leave out bootc.kexec.reuse-image=0, or name a source that the next kernel can reach",
        )
    return left


def unreachable_archives(sources: Sequence[SourceSpec]) -> list[str]:
    """Return a warning about fallbacks in this initramfs, which the next kernel lacks."""
    archives = " and ".join(repr(spec.source_text) for spec in sources if isinstance(spec, ArchiveFile))
    return [f"the next kernel cannot fall back to {archives}: its initramfs does not contain them"] if archives else []


def _drop_embedded_archive(archive: str) -> None:
    """Free the memory of an archive in this initramfs, whose needed parts have been copied."""
    with suppress(OSError):
        if os.path.isfile(archive) and os.stat(archive).st_dev == os.stat("/").st_dev:
            os.unlink(archive)


def _size(path: str) -> int:
    """Return the size of an archive, or of all files of a layout directory."""
    if os.path.isdir(path):
        return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(path) for name in names)
    return os.path.getsize(path)


def running_cmdline() -> str:
    """Return the command line of this kernel."""
    with open("/proc/cmdline", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


@contextmanager
def _load_hints() -> Iterator[None]:
    """Add kernel arguments to the hints of errors while loading a kernel."""
    try:
        yield
    except OutOfMemoryError as error:
        error.hint += ", or boot with bootc.kexec.reuse-image=0"
        raise
    except LandingError as error:
        error.hint += "; boot without bootc.kexec, or with bootc.kexec.reuse-image=0 if the initrd is too large"
        raise


def _files_of(archive: str) -> dict[str, bytes | BootFile]:
    """Return an archive, or all files of a layout directory, by path."""
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
