"""``bootc-live boot`` with ``bootc.kexec``: on into the image's own kernel, before any root is made."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace

from bootc_live.base.clock import raise_clock
from bootc_live.base.errors import BootcLiveError, ConfigError, ImageError, LandingError, OutOfMemoryError, RunError
from bootc_live.base.interrupt import ignore_interrupts
from bootc_live.base.log import Recorder
from bootc_live.base.memory import PeakMemory, available_bytes, give_back, peak_memory, total_bytes, used_bytes
from bootc_live.base.units import mib
from bootc_live.config.handover import LAYOUT
from bootc_live.config.model import Backing, Config, Kexec
from bootc_live.config.next_cmdline import next_cmdline
from bootc_live.config.source_spec import ArchiveFile, HandlerArchive, RegistryImage, SourceSpec, WebArchive
from bootc_live.landing.kexec import KexecLanding
from bootc_live.landing.kexec_receipt import first_stage
from bootc_live.landing.modules import needs_modules
from bootc_live.rootfs.take_boot_files import Keep, Taken, taken_boot_files
from bootc_live.rootfs.workspace import ram_workspace
from bootc_live.source.access import Access, access_for

# What kernel, initramfs and this program take beside the blobs, at their largest.
_BESIDE = 192 * 2**20
# What the next kernel needs for itself, for its initramfs, packed and unpacked, and to begin with its work.
_NEXT = 320 * 2**20
_INTERVAL = 0.02
# A kernel refuses longer ones (COMMAND_LINE_SIZE of x86 and arm64).
_LONGEST = 2047
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
    specs = config.sources if kexec.reuse else _reachable(config.sources)
    taken: list[Taken] = []
    try:
        with peak_memory(used_bytes, _INTERVAL) as peak, ram_workspace(Backing(size=config.backing.size)) as directory:
            access = prepared_access(config, recorder, directory)
            _go(kexec, specs, access, directory, recorder, arguments, taken.append, peak)
            return None
    except (ImageError, LandingError, OutOfMemoryError, RunError) as error:
        if not kexec.boot_on_failure:
            raise
        _check_modules(taken, error)
        recorder.warn(f"kexec cannot be done: {error.message}; going on with this kernel")
    give_back()
    return replace(config, modules_required=True)


def _go(
    kexec: Kexec,
    specs: tuple[SourceSpec, ...],
    access: Access,
    directory: str,
    recorder: Recorder,
    arguments: argparse.Namespace,
    tell: Callable[[Taken], None],
    peak: PeakMemory,
) -> None:
    # From archives of this initramfs the next kernel could not fetch what is left out.
    whole = all(isinstance(spec, ArchiveFile) for spec in specs)
    keep = Keep(LAYOUT.lstrip("/"), _room, whole=whole) if kexec.reuse else None
    with ExitStack() as stack:
        taken = stack.enter_context(taken_boot_files(specs, access, directory, recorder, keep))
        tell(taken)
        resolved = taken.acquired.image.resolved
        used = specs[len(taken.acquired.attempts) - 1]
        local = used.path if isinstance(used, ArchiveFile) else None
        if resolved.manifest_digest is None:
            # A docker-archive: no registry knows the digest that it can be pinned by.
            kexec = replace(kexec, append=(*kexec.append, f"bootc.live.digest={resolved.identity}"))
        cmdline = next_cmdline(arguments.cmdline, taken.files.arguments, kexec, resolved.manifest_digest, _proc())
        if len(os.fsencode(cmdline)) > _LONGEST:
            raise LandingError(
                f"the next kernel's command line has {len(cmdline)} characters, {_LONGEST} are the most there can be",
                hint="leave arguments out with bootc.kexec.remove=",
            )
        rest = taken.layout is None or bool(taken.layout.missing)
        # Where an earlier source gave some of it, too, the rest is in the archive alone.
        carried = local if kexec.reuse and rest else None
        remote = rest and isinstance(used, RegistryImage | WebArchive | HandlerArchive)
        landing = KexecLanding(taken, cmdline, directory, recorder, stack, carried, remote)
        landing.check()
        if local is not None and carried is None and not kexec.boot_on_failure and not arguments.dry_run:
            _give_up(local)
        give_back()
        call = landing.prepare(first_stage(taken, access.traffic.hosts, peak.used, recorder))
        seconds = ", ".join(f"{name} {spent} s" for name, spent in recorder.phases.items())
        last = f"{mib(peak.used)} of memory at the peak, for {mib(resolved.compressed_size)} to fetch; {seconds}"
        if arguments.dry_run:
            recorder.say(f"{last}; kernel {taken.files.version} can be loaded ({call})")
            return
        ignore_interrupts()
        _last_words(f"{last}; going on in kernel {taken.files.version} ({call})", arguments.errors_to, recorder)
        landing.commit()


def _last_words(text: str, log: str | None, recorder: Recorder) -> None:
    """Say something that has to be on the console when this kernel ends: its log is, the journal may be late."""
    if log is None or recorder.quiet:
        recorder.say(text)
        return
    with suppress(OSError), open(log, "ab", buffering=0) as file:
        file.write(f"<6>bootc-live: {text}\n".encode())


def _give_up(archive: str) -> None:
    """Remove an archive of this initramfs: all that is needed of it was copied, and it takes as much memory as that."""
    with suppress(OSError):
        if os.path.isfile(archive) and os.stat(archive).st_dev == os.stat("/").st_dev:
            os.unlink(archive)


def _room() -> int:
    """Give how many bytes of blobs may be handed over.

    This kernel holds them twice for a moment, and so does the next one, while it unpacks its initrd.
    """
    return max(0, min(available_bytes() - _BESIDE, total_bytes() - _NEXT) // 2)


def _reachable(specs: tuple[SourceSpec, ...]) -> tuple[SourceSpec, ...]:
    """Leave out archives in this initramfs, which the next kernel does not have; raises ConfigError if none is left."""
    left = tuple(spec for spec in specs if not isinstance(spec, ArchiveFile))
    if not left:
        raise ConfigError(
            f"'bootc.kexec.reuse-image=0' does not go with 'root=bootc-live:{specs[0].typed}': the next kernel has "
            "another initramfs, without that archive",
            hint="leave bootc.kexec.reuse-image=0 out, or name a source that the next kernel can reach, too",
        )
    return left


def _check_modules(taken: list[Taken], error: BootcLiveError) -> None:
    running = os.uname().release
    if needs_modules() and taken and running not in taken[0].modules:
        error.message += f"; nor can this kernel go on, for the image has no modules for {running}"
        raise error


def _proc() -> str:
    with open("/proc/cmdline", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
