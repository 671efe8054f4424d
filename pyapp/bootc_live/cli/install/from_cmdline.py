"""``bootc-live install from-cmdline``: install the image of a system in RAM, as its kernel command line says."""

from __future__ import annotations

import argparse
from dataclasses import replace

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.cli.install.common import Wishes, check_without_key, install_on_disk
from bootc_live.cli.options.arguments import require_root, workspace
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Config, InstallWish
from bootc_live.config.source_spec import ArchiveFile, SourceSpec
from bootc_live.landing.disk.first_etc import UnitWishes, read_identity
from bootc_live.landing.disk.partitions.choose import DiskChoice
from bootc_live.landing.disk.partitions.model import FileSystem
from bootc_live.landing.disk.settings import check_arguments
from bootc_live.receipt.file import DEFAULT_PATH, read_receipt
from bootc_live.source.access import access_for

_SERIAL = "serial:"


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    require_root("install")
    text = arguments.cmdline
    if text is None:
        with open("/proc/cmdline", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    config = parse_cmdline(text)
    if config.install is None:
        raise ConfigError(
            "the kernel command line has no bootc.install=", hint="add it, or use: bootc-live install to-disk"
        )
    wishes = _wishes(config, config.install)
    spec, digest = _booted(config, read_receipt(arguments.receipt or DEFAULT_PATH))
    recorder = Recorder()
    with workspace(arguments.workdir) as directory:
        access = access_for(config, recorder.warn, directory)
        access.pin = digest
        install_on_disk(
            _choice(config.install),
            spec,
            wishes,
            access,
            directory,
            recorder,
            filesystem=FileSystem(config.install.filesystem),
            wipe=config.install.wipe,
        )
    return 0


def _wishes(config: Config, wish: InstallWish) -> Wishes:
    units = UnitWishes(wish.auto_update, wish.success_units)
    units.check()
    check_arguments("bootc.install.karg=", wish.arguments)
    if wish.secure_boot:
        check_without_key(wish.bootloader)
    return Wishes(
        bootloader=wish.bootloader,
        label=config.label,
        unsecure=config.registry_unsecure,
        state=wish.state,
        arguments=wish.arguments,
        secure_boot=wish.secure_boot,
        identity=replace(read_identity(wish.hostname, None, None), units=units),
        slot_size=(wish.slot_size or 0) if wish.storage == "slots" else None,
        xbootldr=wish.xbootldr,
        nvram=wish.nvram,
    )


def _booted(config: Config, receipt: dict[str, object]) -> tuple[SourceSpec, str | None]:
    """Return the source that this system was booted from, and the digest of its image."""
    used, image = receipt.get("source"), receipt.get("image")
    spec = next((spec for spec in config.sources if spec.source_text == used), None)
    if spec is None or isinstance(spec, ArchiveFile):
        raise ConfigError(
            f"this system was booted from {used!r}, which the installed one cannot reach",
            hint="boot it from a registry, a web server or a disk, or use: bootc-live install to-disk --source",
        )
    digest = image.get("manifest_digest") if isinstance(image, dict) else None
    return spec, digest if isinstance(digest, str) else None


def _choice(wish: InstallWish) -> DiskChoice:
    if wish.disk == "smallest":
        return DiskChoice(smallest=True)
    if wish.disk.startswith(_SERIAL):
        return DiskChoice(serial=wish.disk.removeprefix(_SERIAL))
    return DiskChoice(wish.disk)
