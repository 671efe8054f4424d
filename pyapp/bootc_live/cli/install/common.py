"""What all ways to install have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bootc_live.artifacts.node_files import boot_file
from bootc_live.artifacts.uki import Signing, check_tools
from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json
from bootc_live.cli.options.arguments import signing_arguments, size_argument
from bootc_live.config.host.trust import TrustFiles, trust_files
from bootc_live.config.model import DiskState
from bootc_live.config.source_spec import ArchiveFile, SourceSpec, written
from bootc_live.disk import DiskRun, install_on
from bootc_live.formats.oci.platform import machine_platform
from bootc_live.image.candidate import newest
from bootc_live.landing.disk.boot_partition.enrollment import Enrollment, read_enrollment
from bootc_live.landing.disk.boot_partition.firmware import add_firmware_entry
from bootc_live.landing.disk.boot_partition.interface import Esp
from bootc_live.landing.disk.deployments import Deployments
from bootc_live.landing.disk.first_etc import Identity, UnitWishes, read_identity
from bootc_live.landing.disk.partitions.choose import DiskChoice, choose_target
from bootc_live.landing.disk.partitions.model import (
    ESP_NAME,
    ROOT_NAME,
    SLOT_NAMES,
    XBOOTLDR_NAME,
    FileSystem,
    Mounted,
    usual_partitions,
)
from bootc_live.landing.disk.partitions.prepare import partitioned_disk
from bootc_live.landing.disk.settings import Settings, check_arguments
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.source.access import Access


@dataclass(frozen=True)
class Wishes:
    """What a machine is to be like: see ``Settings``.

    ``initrd`` replaces the image's initramfs. ``slot_size`` makes slots on a whole disk, and ``xbootldr`` a
    partition for kernels: see ``usual_partitions``. With ``nvram``, firmware starts it first.
    """

    bootloader: str = "systemd-boot"
    label: str | None = None
    unsecure: bool = False
    state: str = DiskState.FULL
    arguments: tuple[str, ...] = ()
    trust: TrustFiles = field(default_factory=TrustFiles)
    initrd: BootFile | None = None
    signing: Signing | None = None
    secure_boot: bool = False
    enrollment: Enrollment | None = None
    keep_key: bool = False
    identity: Identity = field(default_factory=Identity)
    json: bool = False
    slot_size: int | None = None
    xbootldr: int | None = None
    nvram: bool = False


def wishes_of(arguments: argparse.Namespace) -> Wishes:
    """Return what the options say; raise ConfigError."""
    units = UnitWishes(arguments.auto_update, tuple(arguments.success_unit))
    units.check()
    check_arguments("--karg", arguments.karg)
    signing = signing_arguments("--sb-key", arguments.sb_key, "--sb-cert", arguments.sb_cert)
    _check_secure_boot(arguments, signing)
    identity = read_identity(arguments.hostname, arguments.root_ssh_authorized_keys, arguments.credentials)
    return Wishes(
        bootloader=arguments.bootloader,
        label=arguments.label,
        unsecure=arguments.unsecure,
        state=arguments.state,
        arguments=tuple(arguments.karg),
        trust=trust_files(arguments.key, arguments.policy),
        initrd=None if arguments.initrd is None else boot_file(arguments.initrd, "--initrd "),
        signing=signing,
        secure_boot=arguments.secure_boot,
        enrollment=read_enrollment(signing, arguments.sb_db_cert) if signing and arguments.sb_enroll else None,
        keep_key=arguments.keep_key,
        identity=replace(identity, units=units),
        json=arguments.json,
        nvram=arguments.nvram,
    )


def slot_size(storage: str, typed: str | None) -> int | None:
    """Return the size of a slot, 0 for the default, None without slots; raise ConfigError."""
    if storage == "slots":
        return 0 if typed is None else size_argument("--slot-size", typed)
    if typed is not None:
        raise ConfigError(f"--slot-size {typed} is of no use without slots", hint="add --storage slots")
    return None


def check_without_key(bootloader: str) -> None:
    """Raise ConfigError if a machine without a key for Secure Boot would have to sign what it boots."""
    if bootloader == "uki":
        raise ConfigError(
            "Secure Boot with unified kernel images needs a key: kernel arguments, which say where the root is, are "
            "signed, too, also those beside a signed unified kernel image of the image",
            hint="add --sb-key and --sb-cert, or choose another boot loader, whose entries are not signed",
        )


def _check_secure_boot(arguments: argparse.Namespace, signing: Signing | None) -> None:
    """Raise ConfigError for options that do not go together, and RunError if a program for them is missing."""
    own = "--bootloader uki --sb-key FILE --sb-cert FILE"
    if signing is None:
        for option, given in (
            ("--keep-key", arguments.keep_key),
            ("--sb-enroll", arguments.sb_enroll),
            ("--sb-db-cert", arguments.sb_db_cert),
        ):
            if given:
                raise ConfigError(f"{option} is of no use without a key", hint="add --sb-key and --sb-cert")
        if arguments.secure_boot:
            check_without_key(arguments.bootloader)
        return
    if arguments.bootloader == "grub":
        raise ConfigError("GRUB is not signed here", hint="leave out --sb-key, or choose another --bootloader")
    if arguments.secure_boot and arguments.bootloader != "uki":
        raise ConfigError(
            "--secure-boot with an own key needs unified kernel images: a kernel alone is not signed with it",
            hint=f"use {own}, or leave out --sb-key for the distribution's keys",
        )
    if arguments.sb_db_cert and not arguments.sb_enroll:
        raise ConfigError("--sb-db-cert is of no use alone", hint="add --sb-enroll")
    check_tools(signing)


def install_with(
    spec: SourceSpec,
    wishes: Wishes,
    root: Mounted,
    boot: Mounted,
    access: Access,
    directory: str,
    recorder: Recorder,
    slots: Mapping[str, str] | None = None,
    esp: Mounted | None = None,
) -> None:
    """Install on mounted file systems, and print what was installed; raise BootcLiveError.

    ``slots`` are partitions for roots: see ``DiskRun``. ``esp`` is the EFI system partition, if that is not ``boot``.
    """
    settings = Settings(
        source=written(spec),
        root=root.device,
        boot=boot.device,
        loader=wishes.bootloader,
        label=wishes.label,
        unsecure=wishes.unsecure,
        state=wishes.state,
        arguments=wishes.arguments,
        trust=wishes.trust,
        slots=tuple(slots or ()),
        secure_boot=wishes.secure_boot,
        subvolume=root.subvolume,
    )
    disk = Deployments(root.directory)
    run = DiskRun(
        disk,
        boot.directory,
        settings,
        access,
        directory,
        recorder,
        signing=wishes.signing,
        keep_key=wishes.keep_key,
        slots=slots or {},
        enrollment=wishes.enrollment,
        esp=None if esp is None else Esp(esp.directory, boot.uuid),
    )
    deployment = install_on(run, spec, replace(wishes.identity, boot=boot, esp=esp), wishes.initrd)
    if wishes.json:
        cmdline = settings.cmdline(deployment)
        print_json({"deployment": deployment.number, "image": deployment.image, "cmdline": cmdline})


def install_on_disk(
    choice: DiskChoice,
    spec: SourceSpec,
    wishes: Wishes,
    access: Access,
    directory: str,
    recorder: Recorder,
    *,
    filesystem: FileSystem = FileSystem.EXT4,
    wipe: bool = False,
    kept: Collection[str] = (),
) -> None:
    """Make partitions on a disk or in a file, and install there; raise BootcLiveError.

    ``kept`` are files and devices that must not be on it.
    """
    if isinstance(spec, ArchiveFile) and choice.path is not None and _is_same(choice.path, spec.path):
        raise ConfigError(f"{choice.path!r} is the source, which would be destroyed", hint="name another disk or file")
    target = choose_target(choice)
    needed = [*kept, *([spec.path] if isinstance(spec, ArchiveFile) else [])]
    architecture, slot_size, xbootldr = machine_platform().architecture, wishes.slot_size, wishes.xbootldr
    rows = usual_partitions(
        target.size, target.sector, architecture, filesystem, slot_size=slot_size, xbootldr=xbootldr
    )
    if target.exists:
        # A source that is not there, or may not be used, must not cost what is on the disk.
        access.pin = access.pin or newest(spec, access, recorder)[1]
    with ExitStack() as stack:
        disk = stack.enter_context(partitioned_disk(target, rows, wipe=wipe, kept=needed))
        root = replace(disk[ROOT_NAME].mounted(filesystem), device=f"UUID={disk[ROOT_NAME].uuid}")
        esp = disk[ESP_NAME].mounted(FileSystem.VFAT)
        boot = esp if xbootldr is None else disk[XBOOTLDR_NAME].mounted(FileSystem.VFAT)
        slots = {disk[name].partuuid: disk[name].device for name in SLOT_NAMES if slot_size is not None}
        apart = None if xbootldr is None else esp
        install_with(spec, wishes, root, boot, access, directory, recorder, slots, apart)
        if wishes.nvram:
            # While they are mounted: afterwards, udev reads the table again, and the partitions are away for a moment.
            let_firmware_start(None if target.disk is None else disk[ESP_NAME].device, recorder)


def _is_same(one: str, other: str) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def let_firmware_start(esp: str | None, recorder: Recorder) -> None:
    """Add an entry for an EFI system partition to the firmware of this machine; warn if that is not possible."""
    problem = "a file is no disk of this machine" if esp is None else add_firmware_entry(esp)
    if problem is None:
        recorder.say("firmware starts it first")
    else:
        recorder.warn(f"firmware has no boot entry for it, and may start something else: {problem}")
