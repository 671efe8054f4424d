"""Disks on one page: resolve → fetch → deploy → boot entry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from bootc_live.artifacts.uki import Signing
from bootc_live.base.errors import BootcLiveError, RootfsError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.source_spec import SourceSpec, parse_source
from bootc_live.formats.boot_entry import Entry
from bootc_live.image.candidate import Candidate
from bootc_live.image.recipe import Fetched, IntoSink
from bootc_live.landing.disk.boot_partition.enrollment import Enrollment, write_enrollment
from bootc_live.landing.disk.boot_partition.interface import TRIES, BootLoader, Esp
from bootc_live.landing.disk.boot_partition.kernels import restore_kernel
from bootc_live.landing.disk.check.fault import Fault
from bootc_live.landing.disk.check.faults import wrong_entries
from bootc_live.landing.disk.deployments import Deployment, Deployments, PassedOver
from bootc_live.landing.disk.first_etc import is_judged
from bootc_live.landing.disk.install import add_entry, install_loader, prepared, say_unverified, title_of
from bootc_live.landing.disk.keys import check_can_sign, keep_signing, kept_signing
from bootc_live.landing.disk.machine import Machine, loader_of
from bootc_live.landing.disk.make import Deployed, MakeEtc, Starting, Store, Stored, deploy, store
from bootc_live.landing.disk.root import find_slot
from bootc_live.landing.disk.settings import Settings, changed_settings, new_settings
from bootc_live.landing.disk.storage.objects import running_root, store_in_objects
from bootc_live.landing.disk.storage.slots import Slot, free_slot, leave_slot, store_in_slot, wrong_in_slot
from bootc_live.landing.disk.storage.space import make_room
from bootc_live.landing.disk.upgrade import EtcMerge, marking, remove_unfinished
from bootc_live.landing.pivot.machine import NEXT_ROOT
from bootc_live.landing.sysroot.relabel import DEFAULT_DIRECTORY
from bootc_live.landing.sysroot.sysroot import SysrootLanding
from bootc_live.pipeline import fetch, land_deployment
from bootc_live.receipt.file import DEFAULT_PATH
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.disk_units import ImageTree as UnitsOfImage
from bootc_live.rootfs.layouts.composefs.layers import StoredLayers
from bootc_live.rootfs.layouts.composefs.metadata import NOTHING_LISTED, Listed
from bootc_live.rootfs.tree.data import content_reader
from bootc_live.rootfs.tree.read_ahead import ReadAhead, read_ahead
from bootc_live.source.access import Access
from bootc_live.source.pointer import archive_of
from bootc_live.system import fsverity
from bootc_live.system.mounts import kind_at

_ANOTHER = "add another deployment with bootc-live upgrade"


@dataclass(frozen=True)
class DiskRun:
    """What one run works with: the mounted disk and boot partition, and a directory for temporary files.

    ``signing`` signs what boots; by default it is the key that the machine keeps, if it does. ``enrollment`` is for
    firmware to enrol. ``slots`` are the devices of new slots, by their PARTUUIDs: those in a file are found by nobody
    else.
    """

    disk: Deployments
    boot: str
    settings: Settings
    access: Access
    directory: str
    recorder: Recorder
    signing: Signing | None = None
    keep_key: bool = False
    slots: Mapping[str, str] = field(default_factory=dict)
    enrollment: Enrollment | None = None
    esp: Esp | None = None

    @property
    def loader(self) -> BootLoader:
        """The boot loader of the machine."""
        return loader_of(self.settings, self.directory, self.signing or kept_signing(self.disk))


def install_on(run: DiskRun, spec: SourceSpec, make_etc: MakeEtc, initrd: BootFile | None = None) -> Deployment:
    """Install an image as the first deployment of a disk; ``initrd`` replaces its initramfs. Raise BootcLiveError.

    The boot entry comes after all that boots, and the settings last: before that, this can be done again.
    """
    slot = next((Slot(*each) for each in run.slots.items()), None)
    with prepared(run.disk, run.boot, run.settings):
        deployed = _deploy(run, spec, make_etc, slot, initrd)
        # Raises ConfigError for a command line that boots nothing, before there is anything to boot.
        _tries(run, deployed)
        with run.recorder.phase("boot", "writing the boot partition"):
            scratch = os.path.join(run.directory, "loader")
            os.mkdir(scratch)
            install_loader(
                run.loader, deployed.tree, run.boot, scratch, esp=run.esp, of_image=run.settings.needs_signed_kernel
            )
            if run.enrollment is not None:
                write_enrollment(run.enrollment, run.boot if run.esp is None else run.esp.directory, scratch)
            if run.signing is not None and run.keep_key:
                keep_signing(run.disk, run.signing)
            with new_settings(run.disk, run.settings):
                add_entry(run.loader, run.boot, deployed, run.settings, tries=None)
    run.recorder.say(f"deployment {deployed.deployment.number} boots next")
    return deployed.deployment


def _deploy(
    run: DiskRun,
    spec: SourceSpec,
    make_etc: MakeEtc,
    slot: Slot | None,
    initrd: BootFile | None = None,
    approve: Callable[[Candidate], None] = lambda _: None,
    running: Listed = NOTHING_LISTED,
) -> Deployed:
    into = None if slot is None else partial(store_in_slot, slot, run.directory)
    with _fetched(run, [spec], into, approve, running) as (fetched, headers, put):
        places = run.disk, run.directory, run.recorder
        starting = Starting(
            initrd,
            uki=run.settings.loader == "uki",
            signed=run.settings.needs_signed_kernel,
            filesystem=kind_at(os.path.dirname(run.disk.top)),
        )
        deployed = deploy(fetched, headers, *places, put, make_etc=make_etc, starting=starting)
    say_unverified(deployed, run.recorder)
    return deployed


def _tries(run: DiskRun, deployed: Deployed) -> int | None:
    """Return how often the boot loader may start a new deployment before it is good; None with a warning if always.

    It would go back from one that nothing calls good.
    """
    deployment = deployed.deployment
    etc, cmdline = run.disk.etc(deployment.number), run.settings.cmdline(deployment)
    with content_reader(deployed.tree.image) as read:
        judged = is_judged(UnitsOfImage(deployed.tree.root, read), etc, run.settings.loader, cmdline)
    if judged:
        return TRIES
    run.recorder.warn(
        f"nothing calls deployments of {deployment.source!r} good, so the boot loader does not go back from them by "
        "itself: bootc-live-health.service is missing in the image, or not enabled"
    )
    return None


@contextmanager
def _fetched(
    run: DiskRun,
    specs: Sequence[SourceSpec],
    put: Store | None,
    approve: Callable[[Candidate], None] = lambda _: None,
    running: Listed = NOTHING_LISTED,
) -> Iterator[tuple[Fetched[None], ReadAhead, Store]]:
    """Fetch an image from the first source that has it.

    Yield it, its headers, and what puts its root on the disk: ``put``, or else into objects, of which the root that
    runs has those in ``running``. ``approve`` may refuse it before it is fetched.
    """
    path = os.path.join(run.directory, "layers")
    if put is None:
        # The store has layers of other roots, too.
        run.access.cache = layers = StoredLayers(run.disk.top, running)
        put = partial(store_in_objects, layers, run.disk.top)
    with read_ahead(path) as headers:
        yield fetch(specs, run.access, IntoSink(path, headers, approve=approve), run.recorder), headers, put


def download_on(run: DiskRun, machine: Machine, spec: SourceSpec, digest: str) -> None:
    """Add only the files of the image with a digest to a disk, so that an upgrade need not fetch them.

    Raise BootcLiveError.
    """
    if run.settings.slots:
        raise RootfsError(
            "files cannot be added before an upgrade, because roots here are in slots", hint="leave out --download-only"
        )
    run.access.pin = digest if ":" in digest else None
    room = partial(make_room, machine, run.directory, run.recorder)
    with _fetched(run, [spec], None, room, running_root(machine)) as (fetched, headers, put):
        store(fetched.image, headers, run.disk, run.directory, run.recorder, put)


def upgrade_on(run: DiskRun, machine: Machine, spec: SourceSpec, digest: str) -> Deployment:
    """Add the image with a digest as the deployment that boots next, of the settings of the run; raise BootcLiveError.

    These become the machine's before anything of the new source boots.
    """
    check_can_sign(run.disk, run.settings)
    current = machine.current()
    remove_unfinished(machine)
    run.access.pin = digest if ":" in digest else None
    slot = free_slot(machine) if run.settings.slots else None
    make_etc = EtcMerge(machine, current, run.directory, run.recorder)
    approve = partial(make_room, machine, run.directory, run.recorder)
    deployed = _deploy(run, spec, make_etc, slot, approve=approve, running=running_root(machine))
    tries = _tries(run, deployed)
    settled = changed_settings(run.disk, run.settings)
    try:
        # After a power cut between the two, the machine boots what it did, and an upgrade takes the new source's image.
        with run.recorder.phase("boot", "writing the boot partition"), settled:
            add_entry(run.loader, run.boot, deployed, run.settings, tries)
    except BootcLiveError:
        remove_unfinished(machine)
        raise
    # Somebody has asked for it by name.
    with marking(run.recorder):
        machine.disk.accept(PassedOver.LEFT, deployed.deployment.image)
    run.recorder.say(f"deployment {deployed.deployment.number} boots next")
    return deployed.deployment


def mount_next_root(machine: Machine, entry: Entry, directory: str, recorder: Recorder, *, dry_run: bool) -> None:
    """Mount the deployment of an entry where systemd looks for it in a soft reboot, as its boot would.

    The entry is counted as if the boot loader had started it. A dry run only tries. Raise BootcLiveError and OSError.
    """
    config = parse_cmdline(entry.cmdline)
    if config.deployment is None:
        raise RootfsError(f"the boot entry {entry.path!r} starts no deployment", hint="restart with: systemctl reboot")
    os.makedirs(NEXT_ROOT, exist_ok=True)
    place = os.path.join(directory, "next")
    os.mkdir(place, 0o700)
    landing = SysrootLanding(NEXT_ROOT, DEFAULT_PATH, DEFAULT_DIRECTORY, entry.cmdline)
    landing.check()
    land_deployment(config, config.deployment, landing, place, entry.cmdline, recorder, dry_run=dry_run)
    if not dry_run:
        machine.loader.count(machine.boot, entry.name.deployment)


def repair_on(run: DiskRun, machine: Machine, faults: Sequence[Fault]) -> None:
    """Do what can be done about faults: remove what nothing needs, and fetch images again whose files are wrong.

    What fails is a warning: whoever checks again finds what is left.
    """
    for fault in faults:
        if fault.remedy is not None:
            with _warned(run.recorder, fault.where):
                fault.remedy()
    left = [fault for fault in faults if fault.from_image]
    for deployment in reversed(machine.disk.all()):
        wrong = [fault for fault in left if deployment.number in fault.deployments]
        if wrong:
            with _warned(run.recorder, f"deployment {deployment.number}"):
                _fetch_again(run, machine, deployment)
                # Most objects are those of other deployments, too.
                left = [fault for fault in left if fault not in wrong]


@contextmanager
def _warned(recorder: Recorder, what: str) -> Iterator[None]:
    try:
        yield
    except BootcLiveError as error:
        recorder.warn(f"{what} cannot be repaired: {error.message}; {error.hint}")
    except OSError as error:
        recorder.warn(f"{what} cannot be repaired: {error.strerror}")


def _fetch_again(run: DiskRun, machine: Machine, deployment: Deployment) -> None:
    """Fetch the image of a deployment, and write what is wrong of it; raise BootcLiveError and OSError."""
    directory = os.path.join(run.directory, f"again-{deployment.number}")
    os.mkdir(directory, 0o700)
    run.access.pin = deployment.image if ":" in deployment.image else None
    put: Store | None = None
    if deployment.slot:
        put = partial(leave_slot, deployment)
        newest = max(each.number for each in machine.disk.all() if each.slot == deployment.slot)
        if newest == deployment.number != machine.booted and any(wrong_in_slot(deployment)):
            # What is written is what has to be there: nothing to clear before, and a power cut does no harm.
            slot = Slot(deployment.slot, find_slot(deployment.slot), root=deployment.root)
            put = partial(store_in_slot, slot, directory)
    elif deployment.verity and (obstacle := fsverity.obstacle(run.disk.objects)):
        raise RootfsError(f"its files could not be protected: {obstacle}", hint="repair it with another kernel")
    with _fetched(replace(run, directory=directory), _sources_of(run, deployment), put) as (fetched, headers, put):
        # Only what is not as it should be is written.
        starting = Starting(uki=run.settings.loader == "uki")
        stored, *_, started = store(fetched.image, headers, run.disk, directory, run.recorder, put, starting)
        with run.recorder.phase("boot", "checking the boot partition"):
            _write_boot_files(run, machine, deployment, stored, started, fetched.image.path)


def _write_boot_files(
    run: DiskRun,
    machine: Machine,
    deployment: Deployment,
    stored: Stored,
    started: tuple[BootFile, BootFile | None],
    layers: str,
) -> None:
    """Write what is wrong of kernels and boot entries; ``layers`` has the files of the image."""
    left = [path for path in machine.loader.damaged(run.boot) if not restore_kernel(run.boot, path, *started)]
    entries = [entry for entry in machine.entries() if entry.name.deployment == deployment.number]
    changed = [entry for entry in entries if os.path.dirname(entry.kernel) in left]
    # Of a unified kernel image that was brought, the addon is made again with the entry.
    names = [name for name in wrong_entries(machine, left) if name.deployment == deployment.number]
    names += [entry.name for entry in changed if not entry.initrd]
    if not names and not changed:
        return
    if stored.digest != deployment.root:
        raise RootfsError(f"its image makes the root {stored.digest}, not {deployment.root}", hint=_ANOTHER)
    given = not deployment.boot_layers and all(file.path == layers for file in started if file is not None)
    if given or any(entry.initrd for entry in changed):
        raise RootfsError("its kernel and initramfs are not those of its image", hint=_ANOTHER)
    check_can_sign(run.disk, run.settings)
    for name in names:
        entry = Entry(name, title_of(deployment), run.settings.cmdline(deployment))
        machine.loader.restore(run.boot, entry, *started)


def _sources_of(run: DiskRun, deployment: Deployment) -> list[SourceSpec]:
    """Return where the image of a deployment may be: where it came from, and in the machine's source."""
    now = archive_of(parse_source(run.settings.source), deployment.image)
    # A path of another machine is none here.
    with suppress(SourceError):
        return list(dict.fromkeys((run.settings.source_of(deployment), now)))
    return [now]
