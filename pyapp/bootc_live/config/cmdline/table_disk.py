"""The kernel arguments about a root on a disk."""

from __future__ import annotations

from bootc_live.config.cmdline.karg import Karg, Kind

DISK = (
    Karg(
        "bootc.disk.state",
        Kind.CHOICE,
        "What is kept over reboots. `full`: `/etc` and `/var`. `etc`: `/etc` alone. `volatile`: nothing; every boot "
        "begins with `/etc` as it was installed and `/var` as in the image.",
        "bootc.disk.state=volatile",
        default="full",
        choices=("full", "etc", "volatile"),
    ),
    Karg(
        "bootc.disk.verity",
        Kind.BOOLEAN,
        "Require that the kernel checks every file when it is read (fs-verity), so that a changed one is an I/O error. "
        "With `0`, only names, owners and modes of files are checked, once.",
        "bootc.disk.verity=0",
        default="1",
    ),
    Karg(
        "bootc.disk.subvolume",
        Kind.TEXT,
        "The subvolume of btrfs that has the root, by its path in the file system. `install to-filesystem` writes it. "
        "Default: the one that is mounted by default.",
        "bootc.disk.subvolume=/@root",
    ),
    Karg(
        "bootc.install",
        Kind.TEXT,
        "The disk that the image in RAM is installed on, by its unit bootc-live-install.service, which then reboots: "
        "`/dev/NAME`, `serial:TEXT`, or `smallest` for the smallest one that is not in use.",
        "bootc.install=/dev/nvme0n1",
    ),
    Karg(
        "bootc.install.wipe",
        Kind.BOOLEAN,
        "Destroy what is on that disk. Without this argument, only an empty one is used.",
        "bootc.install=smallest bootc.install.wipe",
        default="0",
    ),
    Karg(
        "bootc.install.karg",
        Kind.TEXT,
        "A kernel argument of the installed system. The arguments of this boot are not taken over.",
        "bootc.install=smallest bootc.install.karg=console=ttyS0",
        many=True,
    ),
    Karg(
        "bootc.install.bootloader",
        Kind.CHOICE,
        "What starts the installed system: systemd-boot, systemd-boot with unified kernel images, or GRUB.",
        "bootc.install=smallest bootc.install.bootloader=grub",
        default="systemd.boot",
        choices=("systemd.boot", "uki", "grub"),
    ),
    Karg(
        "bootc.install.storage",
        Kind.CHOICE,
        "Where the roots of the installed system are. `composefs`: in files that they share. `slots`: in two "
        "partitions.",
        "bootc.install=smallest bootc.install.storage=slots",
        default="composefs",
        choices=("composefs", "slots"),
    ),
    Karg(
        "bootc.install.slot.size",
        Kind.SIZE,
        "Size of each of the two partitions. Default: a quarter of the disk, at most 16 GiB.",
        "bootc.install=smallest bootc.install.storage=slots bootc.install.slot.size=4G",
    ),
    Karg(
        "bootc.install.filesystem",
        Kind.CHOICE,
        "File system of the partition `root` on that disk.",
        "bootc.install=smallest bootc.install.filesystem=btrfs",
        default="ext4",
        choices=("ext4", "xfs", "btrfs"),
    ),
    Karg(
        "bootc.install.xbootldr",
        Kind.SIZE,
        "Keep kernels in an XBOOTLDR partition of this size. Default: they are on the EFI system partition.",
        "bootc.install=smallest bootc.install.xbootldr=1G",
    ),
    Karg(
        "bootc.install.state",
        Kind.CHOICE,
        "What the installed system keeps over reboots, as with `bootc.disk.state=`.",
        "bootc.install=smallest bootc.install.state=volatile",
        default="full",
        choices=("full", "etc", "volatile"),
    ),
    Karg(
        "bootc.install.hostname",
        Kind.TEXT,
        "Host name of the installed system. Default: the image's.",
        "bootc.install=smallest bootc.install.hostname=node1.example",
    ),
    Karg(
        "bootc.install.autoupdate",
        Kind.BOOLEAN,
        "Let the installed system upgrade itself every night, by its bootc-live-update.timer.",
        "bootc.install=smallest bootc.install.autoupdate",
        default="0",
    ),
    Karg(
        "bootc.install.success.unit",
        Kind.TEXT,
        "A unit of the installed system that has to be up for an upgrade to be good.",
        "bootc.install=smallest bootc.install.success.unit=kiosk.service",
        many=True,
    ),
    Karg(
        "bootc.install.secureboot",
        Kind.BOOLEAN,
        "Install and upgrade only what firmware with Secure Boot starts: the image needs shim, and a boot loader and a "
        "kernel that are signed.",
        "bootc.install=smallest bootc.install.secureboot",
        default="0",
    ),
    Karg(
        "bootc.install.nvram",
        Kind.BOOLEAN,
        "Add a boot entry to the machine's firmware, so that it starts that disk first. It needs efibootmgr in the "
        "image; without it, the installation only warns.",
        "bootc.install=smallest bootc.install.nvram=0",
        default="1",
    ),
)
