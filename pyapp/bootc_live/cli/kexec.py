"""``bootc-live boot`` with ``bootc.kexec``: on into the image's own kernel, before any root is made."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

from bootc_live.base.errors import BootcLiveError, ConfigError, ImageError, LandingError, OutOfMemoryError, RunError
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.config.model import Backing, Config, Kexec
from bootc_live.config.next_kernel.cmdline import next_cmdline
from bootc_live.config.next_kernel.handover import LAYOUT
from bootc_live.config.source_spec import ArchiveFile, SourceSpec
from bootc_live.landing.kexec.kexec import KexecLanding
from bootc_live.landing.kexec.next_kernel import HandoverRoom, check_next_cmdline, check_next_memory
from bootc_live.landing.sysroot.modules import needs_modules
from bootc_live.receipt.two_kernels import first_stage
from bootc_live.rootfs.boot_files.extract import BootArtifacts, HandoverSpec, extracted_boot_files
from bootc_live.rootfs.workspace import ram_workspace
from bootc_live.source.access import Access, access_for
from bootc_live.system.clock import raise_clock
from bootc_live.system.memory import PeakMemory, peak_memory, trim_heap, unreclaimable_bytes

_INTERVAL = 0.02
# Unlike /etc/initrd-release, dracut writes it without systemd, too.
_INITRAMFS = "/usr/lib/initrd-release"


def prepared_access(config: Config, recorder: Recorder, directory: str) -> Access:
    """Give the access to sources, after the clock was set right as far as possible: certificates depend on it."""
    set_clock = raise_clock()
    if set_clock is not None:
        recorder.warn(set_clock)
    return access_for(config, recorder.warn, directory)


def boot_by_kexec(config: Config, kexec: Kexec, arguments: argparse.Namespace, recorder: Recorder) -> Config | None:
    """Go on in the image's own kernel. Returns what to go on with where that cannot be and the boot is to go on.

    None is the end of a dry run. Raises BootcLiveError.
    """
    if not arguments.dry_run and not os.path.exists(_INITRAMFS):
        raise LandingError(
            "bootc.kexec starts another kernel at once, which only an initramfs may do",
            hint="leave bootc.kexec out, or try it with --dry-run",
        )
    specs = config.sources if kexec.reuse else _reachable(config.sources, recorder)
    taken: list[BootArtifacts] = []
    try:
        with (
            peak_memory(unreclaimable_bytes, _INTERVAL) as peak,
            ram_workspace(Backing(size=config.backing.size)) as directory,
        ):
            access = prepared_access(config, recorder, directory)
            room = HandoverRoom(config)
            _go(kexec, specs, access, directory, recorder, arguments, taken.append, peak, room)
            return None
    except (ImageError, LandingError, OutOfMemoryError, RunError) as error:
        if not kexec.boot_on_failure:
            raise
        _check_modules(taken, error)
        recorder.warn(f"kexec cannot be done: {error.message}; going on with this kernel")
    trim_heap()
    return replace(config, modules_required=True)


def _go(
    kexec: Kexec,
    specs: tuple[SourceSpec, ...],
    access: Access,
    directory: str,
    recorder: Recorder,
    arguments: argparse.Namespace,
    tell: Callable[[BootArtifacts], None],
    peak: PeakMemory,
    room: HandoverRoom,
) -> None:
    keep = HandoverSpec(LAYOUT.lstrip("/"), room.bytes, whole=room.whole, admit=room.look) if kexec.reuse else None
    with ExitStack() as stack:
        taken = stack.enter_context(extracted_boot_files(specs, access, directory, recorder, keep))
        tell(taken)
        resolved = taken.acquired.image.resolved
        used = specs[len(taken.acquired.attempts) - 1]
        local = used.path if isinstance(used, ArchiveFile) else None
        if resolved.manifest_digest is None:
            # A docker-archive: no registry knows the digest that it can be pinned by.
            kexec = replace(kexec, append=(*kexec.append, f"bootc.live.digest={resolved.identity}"))
        cmdline = next_cmdline(arguments.cmdline, taken.files.arguments, kexec, resolved.manifest_digest, _proc())
        check_next_cmdline(cmdline)
        rest = taken.layout is None or bool(taken.layout.missing)
        # Where an earlier source gave some of it, too, the rest is in the archive alone.
        carried = local if kexec.reuse and rest else None
        handed = (0 if taken.layout is None else taken.layout.size) + (0 if carried is None else _size(carried))
        landing = KexecLanding(taken, cmdline, directory, recorder, stack, carried, used if rest else None)
        landing.check()
        if taken.files.initramfs is not None:
            check_next_memory(handed, taken.files.initramfs)
        if rest and carried is None:
            _tell_of_archives(specs, recorder)
        if local is not None and carried is None and not kexec.boot_on_failure and not arguments.dry_run:
            _drop_embedded_archive(local)
        trim_heap()
        call = landing.prepare(first_stage(taken, access.traffic.hosts, peak.used, recorder))
        seconds = ", ".join(f"{name} {spent} s" for name, spent in recorder.phases.items())
        last = f"{mib(peak.used)} of memory at the peak, for {mib(resolved.compressed_size)} to fetch; {seconds}"
        if arguments.dry_run:
            recorder.say(f"{last}; kernel {taken.files.version} can be loaded ({call})")
            return
        _last_words(f"{last}; going on in kernel {taken.files.version} ({call})", arguments.errors_to, recorder)
        landing.commit()


def _last_words(text: str, log: str | None, recorder: Recorder) -> None:
    """Say something that has to be on the console when this kernel ends: its log is, the journal may be late."""
    if log is None or recorder.quiet:
        recorder.say(text)
        return
    with suppress(OSError), open(log, "ab", buffering=0) as file:
        file.write(f"<6>bootc-live: {text}\n".encode())


def _drop_embedded_archive(archive: str) -> None:
    """Remove an archive of this initramfs: all that is needed of it was copied, and it takes as much memory as that."""
    with suppress(OSError):
        if os.path.isfile(archive) and os.stat(archive).st_dev == os.stat("/").st_dev:
            os.unlink(archive)


def _reachable(specs: tuple[SourceSpec, ...], recorder: Recorder) -> tuple[SourceSpec, ...]:
    """Leave out archives in this initramfs, which the next kernel does not have; raises ConfigError if none is left."""
    left = tuple(spec for spec in specs if not isinstance(spec, ArchiveFile))
    if not left:
        raise ConfigError(
            f"'bootc.kexec.reuse-image=0' does not go with 'root=bootc-live:{specs[0].typed}': the next kernel has "
            "another initramfs, without that archive",
            hint="leave bootc.kexec.reuse-image=0 out, or name a source that the next kernel can reach, too",
        )
    _tell_of_archives(specs, recorder)
    return left


def _tell_of_archives(specs: tuple[SourceSpec, ...], recorder: Recorder) -> None:
    """Warn of fallbacks that the next kernel would look for in vain, as long as it has something left to fetch."""
    archives = " and ".join(repr(spec.typed) for spec in specs if isinstance(spec, ArchiveFile))
    if archives:
        recorder.warn(f"the next kernel cannot fall back to {archives}: its initramfs is another one")


def _size(path: str) -> int:
    """Return the size of an archive, or of all files of a layout directory."""
    if os.path.isdir(path):
        return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(path) for name in names)
    return os.path.getsize(path)


def _check_modules(taken: list[BootArtifacts], error: BootcLiveError) -> None:
    running = os.uname().release
    if needs_modules() and taken and running not in taken[0].modules:
        error.message += f"; nor can this kernel go on, for the image has no modules for {running}"
        raise error


def _proc() -> str:
    with open("/proc/cmdline", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
