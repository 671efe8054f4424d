"""The command lines of the verbs for systems on a disk."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from bootc_live.cli.options.parsers import FileParser
from bootc_live.config.model import DiskState

AddAccess = Callable[[argparse.ArgumentParser], None]


def add_disk_verbs(verbs: argparse._SubParsersAction[Any], access: AddAccess) -> None:
    """Add the verbs; ``access`` adds the options of a source. ``verb`` is a module of ``cli``."""
    _add_install(
        verbs.add_parser("install", help="install an image on a disk, from which it is upgraded and rolled back"),
        access,
    )
    for name, what, options in (
        ("upgrade", "add the newest image of this system's source as what boots next", _add_upgrade),
        ("switch", "do the same with another source, from now on", partial(_add_switch, access=access)),
        ("rollback", "let another deployment boot next", _add_rollback),
        ("pin", "keep a deployment whatever is pruned", _add_pin),
        ("verify", "compare all files of this system with their digests, and these with signatures", _add_verify),
        ("fsck", "check all that is on the disk, and repair it", _add_fsck),
        ("health", "call this system good, so that nothing falls back from it", _add_health),
    ):
        verb = verbs.add_parser(name, help=f"on a disk: {what}")
        verb.set_defaults(verb=f"disk.{name}")
        options(verb)


def _add_install(parser: argparse.ArgumentParser, access: AddAccess) -> None:
    ways = parser.add_subparsers(metavar="WHERE", required=True, parser_class=FileParser)
    whole = ways.add_parser("to-disk", help="make partitions on a whole disk, or in a file that holds one")
    whole.set_defaults(verb="install.to_disk")
    whole.add_argument("device", nargs="?", metavar="DEVICE|FILE", help="the disk, or a file, which may be new")
    whole.add_argument("--serial", metavar="TEXT", help="the disk with this serial number")
    whole.add_argument("--smallest", action="store_true", help="the smallest disk that is fixed and not in use")
    whole.add_argument("--size", metavar="SIZE", help="of a new FILE, in MiB or such as 8G")
    whole.add_argument(
        "--filesystem", choices=["ext4", "xfs", "btrfs"], default="ext4", help="of the root [%(default)s]"
    )
    whole.add_argument(
        "--storage",
        choices=["composefs", "slots"],
        default="composefs",
        help="files that all deployments share, or two partitions with an image in each [%(default)s]",
    )
    whole.add_argument("--slot-size", metavar="SIZE", help="of each of the two, in MiB or such as 4G [a quarter, 16G]")
    whole.add_argument(
        "--xbootldr", metavar="SIZE", help="keep kernels in a partition of this size [on the EFI system partition]"
    )
    whole.add_argument("--wipe", action="store_true", help="destroy what is on it")
    _install(whole, access)
    made = ways.add_parser("to-filesystem", help="use file systems that are mounted")
    made.set_defaults(verb="install.to_filesystem")
    made.add_argument("directory", metavar="DIR", help="where the file system for the root is mounted")
    made.add_argument(
        "--boot", required=True, metavar="DIR", help="where the EFI system partition (FAT), or XBOOTLDR, is mounted"
    )
    made.add_argument(
        "--storage",
        choices=["composefs", "slots"],
        default="composefs",
        help="files that all deployments share, or an image in each of two partitions [%(default)s]",
    )
    made.add_argument(
        "--slot",
        action="append",
        default=[],
        metavar="PARTITION",
        help="a partition for roots, without a file system; with --storage slots, two are needed",
    )
    made.add_argument("--wipe", action="store_true", help="destroy what is on the two partitions for roots")
    made.add_argument(
        "--esp", metavar="DIR", help="where the EFI system partition is mounted, if --boot names an XBOOTLDR"
    )
    _install(made, access)
    _add_from_cmdline(
        ways.add_parser("from-cmdline", help="install the image of this system in RAM as bootc.install= says")
    )


def _add_from_cmdline(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(verb="install.from_cmdline")
    parser.add_argument("--cmdline", metavar="TEXT", help="the kernel command line [that of this boot]")
    parser.add_argument("--receipt", metavar="FILE", help="the receipt of this boot [/run/bootc-live/receipt.json]")
    parser.add_argument("--workdir", metavar="DIR", help="keep the layers meanwhile in a private part of DIR [RAM]")


def _add_upgrade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--check", action="store_true", help="only tell whether there is a newer image: exit with 77 if there is"
    )
    _add_restart(parser)
    parser.add_argument(
        "--download-only", action="store_true", help="only fetch its files, so that the upgrade itself is fast"
    )
    parser.add_argument(
        "--finalize", action="store_true", help="only take over what has changed in /etc since the upgrade"
    )
    parser.add_argument("--workdir", metavar="DIR", help="keep the layers meanwhile in a private part of DIR [RAM]")
    _add_machine(parser)


def _add_switch(parser: argparse.ArgumentParser, access: AddAccess) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="an archive's path or docker://…; newer images come from there"
    )
    access(parser)
    _add_restart(parser)
    parser.add_argument("--workdir", metavar="DIR", help="keep the layers meanwhile in a private part of DIR [RAM]")
    _add_machine(parser)


def _add_rollback(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--to",
        type=int,
        metavar="NUMBER",
        help="which deployment boots next [the one that boots if the next fails]",
    )
    _add_restart(parser)
    _add_machine(parser)


def _add_restart(parser: argparse.ArgumentParser) -> None:
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--apply", action="store_true", help="reboot into it at once")
    ways.add_argument(
        "--kexec", action="store_true", help="do so without the firmware: this kernel starts the next one"
    )
    ways.add_argument(
        "--soft-reboot", action="store_true", help="do so with the same kernel, if it is the same: systemd starts anew"
    )


def _add_health(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--failed",
        action="store_true",
        help="call it bad instead: reboot if nothing has called it good yet, and the boot loader has another one",
    )
    _add_machine(parser)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="all deployments, not only the running one")
    parser.add_argument("--offline", action="store_true", help="do not ask the registry for signatures")
    _add_machine(parser)


def _add_fsck(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repair",
        action="store_true",
        help="remove what nothing needs, and fetch images again whose files are wrong",
    )
    parser.add_argument("--workdir", metavar="DIR", help="keep the layers meanwhile in a private part of DIR [RAM]")
    _add_machine(parser)


def _add_pin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("number", type=int, metavar="NUMBER", help="the deployment")
    parser.add_argument("--unpin", action="store_true", help="let it be pruned again")
    _add_machine(parser)


def add_keep(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``prune`` for a disk."""
    parser.add_argument(
        "--keep",
        type=int,
        metavar="N",
        help="on a disk: remove all but the N newest deployments, those in use and those that are pinned",
    )
    add_machine(parser)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the disk of another system than the running one."""
    parser.add_argument("--disk", metavar="DIR", help="where the disk of another system is mounted [this system]")
    parser.add_argument("--boot", metavar="DIR", help="where its boot partition is mounted")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    add_machine(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _install(parser: argparse.ArgumentParser, access: AddAccess) -> None:
    parser.add_argument("--source", required=True, help="an archive's path or docker://…; newer images come from there")
    access(parser)
    parser.add_argument("--karg", action="append", default=[], metavar="ARG", help="a kernel argument of this machine")
    parser.add_argument(
        "--state",
        choices=[str(state) for state in DiskState],
        default=str(DiskState.FULL),
        help="what is kept over reboots: /etc and /var, /etc alone, or nothing [%(default)s]",
    )
    parser.add_argument(
        "--bootloader",
        choices=["systemd-boot", "uki", "grub"],
        default="systemd-boot",
        help="systemd-boot, systemd-boot with unified kernel images, or GRUB [%(default)s]",
    )
    parser.add_argument(
        "--auto-update", action="store_true", help="upgrade it every night: enables the image's bootc-live-update.timer"
    )
    parser.add_argument(
        "--success-unit",
        action="append",
        default=[],
        metavar="UNIT",
        help="call an upgrade good only if this unit is up, and go back otherwise; may be repeated",
    )
    parser.add_argument(
        "--secure-boot",
        action="store_true",
        help="refuse what firmware with Secure Boot would not start, now and at upgrades: without --sb-key, the image "
        "needs shim and a boot loader and kernel that its distribution signed",
    )
    parser.add_argument("--sb-key", metavar="FILE", help="sign what boots for Secure Boot with this key (PEM)")
    parser.add_argument("--sb-cert", metavar="FILE", help="the certificate of that key (PEM)")
    parser.add_argument(
        "--keep-key", action="store_true", help="keep the key on the disk, so that the machine can sign upgrades"
    )
    parser.add_argument(
        "--sb-enroll",
        action="store_true",
        help="let systemd-boot enrol that certificate in firmware that is in setup mode",
    )
    parser.add_argument(
        "--sb-db-cert",
        action="append",
        default=[],
        metavar="FILE",
        help="with --sb-enroll: another certificate that may sign what boots (PEM); may be repeated",
    )
    parser.add_argument(
        "--nvram",
        action="store_true",
        help="let the firmware of this machine start it first: needs efibootmgr [firmware is not changed]",
    )
    parser.add_argument("--hostname", metavar="NAME", help="the name of the machine")
    parser.add_argument("--root-ssh-authorized-keys", metavar="FILE", help="who may log in as root by ssh")
    parser.add_argument("--credentials", metavar="DIR", help="credentials for systemd: a file for each name")
    parser.add_argument("--initrd", metavar="FILE", help="use this initrd instead of the image's initramfs")
    parser.add_argument("--workdir", metavar="DIR", help="keep the layers meanwhile in a private part of DIR [RAM]")
    parser.add_argument("--json", action="store_true", help="print what was installed as JSON")
    parser.add_argument(
        "--config", metavar="FILE", help="take what is not on the command line from a YAML file, see docs/disk.md"
    )
