"""The command line of ``bootc-live``."""

from __future__ import annotations

import argparse
from typing import NoReturn

from bootc_live import __version__
from bootc_live.base.output import one_line
from bootc_live.base.redact import redact

_DESCRIPTION = "Boot a machine straight into an OCI (bootc) image, from RAM."
_EPILOG = """\
SOURCE is what follows root=bootc-live: on the kernel command line:
  /path/to/image.oci                       an OCI archive
  docker://REGISTRY/NAME[:TAG][@DIGEST]    an image in a registry

examples:
  bootc-live inspect docker://registry.example/os:stable
  bootc-live estimate docker://registry.example/os:stable --memory 2048
  bootc-live erofs ./os.oci ./os.erofs --compress lz4
  bootc-live unpack ./os.oci ./tree
  bootc-live netboot docker://registry.example/os:stable --output /srv/http/os
  bootc-live uki docker://registry.example/os:stable --output os.efi
  bootc-live kargs 'root=bootc-live:/root.oci rw'
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with 2; what was typed is shown without its secrets, on one line."""
        super().error(one_line(redact(message)))


def make_parser() -> argparse.ArgumentParser:
    """Give the parser; ``verb`` names the module of ``bootc_live.cli`` that does the work."""
    parser = _Parser(
        prog="bootc-live",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"bootc-live {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _boot(verbs.add_parser("boot", help="fetch, verify and mount an image as the root to switch to"))
    _inspect(verbs.add_parser("inspect", help="show the manifest digest, platform and layers of an image"))
    _estimate(verbs.add_parser("estimate", help="show how much memory an image needs in each layout"))
    _erofs(verbs.add_parser("erofs", help="make the EROFS image that the erofs layout makes of an image"))
    _unpack(verbs.add_parser("unpack", help="verify an image and copy its tree into a directory"))
    _netboot(verbs.add_parser("netboot", help="write the files that a boot server serves for an image"))
    _uki(verbs.add_parser("uki", help="make a unified kernel image that boots an image"))
    _kargs(verbs.add_parser("kargs", help="explain the kernel arguments, or check a command line"))
    _status(verbs.add_parser("status", help="show how this system was booted"))
    _freeze(verbs.add_parser("freeze", help="write program and standard library for an initramfs"))
    return parser


def _boot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cmdline", required=True, metavar="TEXT", help="the kernel command line to act on")
    parser.add_argument("--sysroot", default="/sysroot", metavar="DIR", help="where to mount the root [%(default)s]")
    parser.add_argument("--workdir", metavar="DIR", help="build in a private part of DIR [an own tmpfs]")
    parser.add_argument("--receipt", metavar="FILE", help="where to write the receipt [/run/bootc-live/receipt.json]")
    parser.add_argument("--errors-to", metavar="FILE", help="write errors to FILE too, such as /dev/kmsg")
    parser.add_argument(
        "--relabel-to",
        metavar="DIR",
        help="where to name what systemd has to label for SELinux [/run/systemd/relabel-extra.d]",
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything but the hand-over, and leave no trace")


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="an archive's path or docker://…")
    parser.add_argument("--label", metavar="NAME", help="which image of an archive [latest, or the only one]")
    parser.add_argument("--unsecure", action="store_true", help="plain HTTP or unchecked HTTPS for registries")


def _inspect(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument(
        "--services",
        action="store_true",
        help="fetch the layers, too, and name services that fail where the root is on no disk",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _estimate(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument(
        "--memory", metavar="SIZE", help="judge a machine with so much memory, in MiB or such as 2G [this one]"
    )
    parser.add_argument("--cmdline", metavar="TEXT", help="the kernel command line to judge, for layout and limits")
    parser.add_argument("--json", action="store_true", help="print JSON; all sizes are bytes")


def _erofs(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument("file", metavar="FILE", help="a new file")
    parser.add_argument(
        "--compress", choices=["none", "lz4", "zstd"], default="none", help="as bootc.live.compress= [none]"
    )
    parser.add_argument(
        "--times", choices=["epoch", "image"], default="epoch", help="as bootc.live.erofs.times= [epoch]"
    )
    parser.add_argument("--digest", metavar="SHA256", help="as bootc.live.erofs.digest=: make no other image")
    parser.add_argument("--no-selinux", action="store_true", help="as bootc.live.selinux=0: no labels")
    parser.add_argument("--json", action="store_true", help="print digest, size and what it was made of as JSON")


def _unpack(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument("directory", metavar="DIR", help="an empty or a new directory")
    parser.add_argument("--workdir", metavar="DIR", help="build in a private part of DIR [an own tmpfs]")


def _loaded(parser: argparse.ArgumentParser, output: str, what: str) -> None:
    _source(parser)
    parser.add_argument("-o", "--output", required=True, metavar=output, help=what)
    parser.add_argument("--initrd", metavar="FILE", help="take this initrd instead of the image's initramfs")
    parser.add_argument(
        "--add-initrd", action="append", default=[], metavar="FILE", help="add an initrd: certificates, logins, mirrors"
    )
    parser.add_argument("--rootfs", action="store_true", help="take the whole image along, as a second initrd")
    parser.add_argument(
        "--append",
        action="append",
        default=[],
        metavar="KARGS",
        help="add kernel arguments; the last one of a name counts",
    )
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _netboot(parser: argparse.ArgumentParser) -> None:
    _loaded(parser, "DIR", "an empty or a new directory")
    parser.add_argument("--url", metavar="BASE", help="the URL that the directory will have on the boot server")


def _uki(parser: argparse.ArgumentParser) -> None:
    _loaded(parser, "FILE", "a new file")
    parser.add_argument("--sign-key", metavar="FILE", help="sign it for Secure Boot with this key (PEM)")
    parser.add_argument("--sign-cert", metavar="FILE", help="the certificate of that key (PEM)")


def _kargs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cmdline", nargs="?", metavar="TEXT", help="a kernel command line to check")
    parser.add_argument("--markdown", action="store_true", help="print kernel-cmdline.md")


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--receipt", metavar="FILE", help="the receipt to read [/run/bootc-live/receipt.json]")
    parser.add_argument("--json", action="store_true", help="print the receipt as it is")


def _freeze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="DIR", help="the root of the initramfs that is being made")
    parser.add_argument("feature", nargs="*", metavar="FEATURE", help="what it has to be able to do besides: registry")
