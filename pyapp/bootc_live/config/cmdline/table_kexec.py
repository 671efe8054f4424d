"""The kernel arguments about kexec."""

from __future__ import annotations

from bootc_live.config.cmdline.karg import Karg, Kind

KEXEC = (
    Karg(
        "bootc.kexec",
        Kind.BOOLEAN,
        "After the image is verified, start its own kernel and initramfs, which then make the root. That initramfs "
        "must contain bootc-live. The next command line is the image's arguments (`/usr/lib/bootc/kargs.d`), then "
        "this one without `bootc.kexec*`, then `bootc.kexec.append=`.",
        "bootc.kexec",
        default="0",
    ),
    Karg(
        "bootc.kexec.reuse-image",
        Kind.BOOLEAN,
        "Hand the fetched layers to the next kernel in memory. With `0`, the next kernel fetches them again, by the "
        "same digest.",
        "bootc.kexec bootc.kexec.reuse-image=0",
        default="1",
    ),
    Karg(
        "bootc.kexec.append",
        Kind.TEXT,
        "Arguments for the next kernel only; several go in double quotes. They come last, so they override earlier "
        "ones.",
        'bootc.kexec bootc.kexec.append="quiet loglevel=3"',
        many=True,
    ),
    Karg(
        "bootc.kexec.remove",
        Kind.TEXT,
        "An argument that the next kernel does not get, whether from the image or from this boot: `NAME` for all of "
        "that name, `NAME=VALUE` for one.",
        "bootc.kexec bootc.kexec.remove=console=ttyS0",
        many=True,
    ),
)
