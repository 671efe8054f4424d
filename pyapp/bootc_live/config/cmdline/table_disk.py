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
)
