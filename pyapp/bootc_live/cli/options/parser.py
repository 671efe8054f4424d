"""The command line of ``bootc-live``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bootc_live import __version__
from bootc_live.cli.options.disk import add_disk_verbs, add_keep, add_machine
from bootc_live.cli.options.guest import add_guest
from bootc_live.cli.options.parsers import Parser

_DESCRIPTION = "Boot a machine straight into an OCI (bootc) image, from RAM."
_EPILOG = """\
SOURCE is written as after root=bootc-live: on the kernel command line:
  /path/to/image.oci                       an OCI archive
  docker://REGISTRY/NAME[:TAG][@DIGEST]    an image in a registry
  https://HOST/os/latest.json              the archive that it points to, see publish

examples:
  bootc-live inspect docker://registry.example/os:stable --key cosign.pub
  bootc-live estimate docker://registry.example/os:stable --memory 2048
  bootc-live erofs ./os.oci ./os.erofs --compress lz4
  bootc-live unpack ./os.oci ./tree
  bootc-live netboot docker://registry.example/os:stable --output /srv/http/os-1
  bootc-live uki docker://registry.example/os:stable --output os.efi
  bootc-live kargs 'root=bootc-live:/root.oci rw'
"""


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a command line; exit with 2 if it is wrong. Words after ``--`` are a program's own.

    Raise ConfigError for a mistake in a file that says some of them.
    """
    parser = make_parser()
    words = list(argv)
    place = words.index("--") if "--" in words and _runs_program(words) else len(words)
    arguments = parser.parse_args(words[:place])
    if place < len(words):
        if arguments.command:
            parser.error("arguments come with --command or after --, not both")
        arguments.command = words[place + 1 :]
    if arguments.verb == "guest.init" and arguments.override_exec and not arguments.command:
        parser.error("--override-exec needs a command after --")
    if arguments.verb in ("build", "pivot") and not (arguments.source or arguments.containerfile or arguments.config):
        parser.error("a SOURCE, --containerfile or --config is required")
    return arguments


def _runs_program(words: Sequence[str]) -> bool:
    """Return whether words after ``--`` are those of a program, as of the guest's init, and not of its tools."""
    before = words[1 : words.index("--")]
    tool = any(
        not word.startswith("-") and last != "--config" for last, word in zip(("", *before), before, strict=False)
    )
    return words[0] == "pivot" or (words[0] == "guest" and not tool)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; ``verb`` is the name of a module of ``bootc_live.cli``."""
    parser = Parser(
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
    _erofs(verbs.add_parser("erofs", help="make the EROFS image that a machine with the erofs layout makes in RAM"))
    _unpack(verbs.add_parser("unpack", help="verify an image and copy its tree into a directory"))
    _netboot(
        verbs.add_parser(
            "netboot",
            help="write the files that a boot server serves for an image",
            description="Write the files that a boot server serves for an image, and print the kernel command line, "
            "alone, on standard output.",
        )
    )
    _uki(verbs.add_parser("uki", help="make a unified kernel image that boots an image"))
    _build(
        verbs.add_parser(
            "build",
            help="make one image, or a tar of its files, of several sources",
            description="Put sources on top of each other, the last one uppermost, and write what comes of it. "
            "Without --output and --rootfs-output, only put their layers into the cache.",
        )
    )
    _publish(
        verbs.add_parser(
            "publish",
            help="put an image where machines look for a newer one: an archive, then a pointer to it",
            description="Write an archive of an image into a directory, under a name that is never used for another "
            "one, then latest.json, which points to it. Machines whose SOURCE is the URL of latest.json fetch it.",
        )
    )
    _pivot(
        verbs.add_parser(
            "pivot",
            help="replace the root of this running machine with an image, without a reboot",
            description="Put sources on top of each other, the last one uppermost, make a root of that in RAM, show "
            "what will be done, ask, and let the machine go on in that root.",
        )
    )
    add_guest(
        verbs.add_parser(
            "guest",
            help="be the init of a container, and become that of the next root",
            description="Set the next root of a container up as a YAML file says, and become its init.",
        )
    )
    add_disk_verbs(verbs, _access)
    _prune(
        verbs.add_parser(
            "prune",
            help="remove layers from the cache of build and pivot, or deployments from a disk",
            description="Remove the layers that were not used for longest until the cache has at most SIZE. With "
            "--keep, remove deployments from this system's disk in place of that.",
        )
    )
    _kargs(verbs.add_parser("kargs", help="explain the kernel arguments, or check a command line"))
    _status(verbs.add_parser("status", help="show how this system was booted"))
    _freeze(
        verbs.add_parser(
            "freeze",
            help="compile the program: beside it, or for an initramfs",
            description="Without DIR, write byte code for this Python to __pycache__ beside the program, which starts "
            "faster with it. With DIR, write program and standard library into the root of an initramfs.",
        )
    )
    return parser


def _boot(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cmdline", required=True, metavar="TEXT", help="the kernel command line")
    parser.add_argument("--sysroot", default="/sysroot", metavar="DIR", help="where to mount the root [%(default)s]")
    parser.add_argument("--workdir", metavar="DIR", help="build in a private part of DIR [a new tmpfs]")
    parser.add_argument("--receipt", metavar="FILE", help="where to write the receipt [/run/bootc-live/receipt.json]")
    parser.add_argument("--errors-to", metavar="FILE", help="also write errors to FILE, such as /dev/kmsg")
    parser.add_argument(
        "--relabel-to",
        metavar="DIR",
        help="where to list the files that systemd has to label for SELinux [/run/systemd/relabel-extra.d]",
    )
    parser.add_argument("--dry-run", action="store_true", help="do everything except the last step, and change nothing")


def _source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="an archive's path or docker://…")
    _access(parser)


def _sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        nargs="*",
        metavar="SOURCE",
        help="an archive's path, docker://…, a directory, or a tar of files (plain, gz, zst, xz)",
    )
    _access(parser, several=True)
    parser.add_argument("--config", metavar="FILE", help="take SOURCE and options from a YAML file, see docs/pivot.md")
    parser.add_argument(
        "--containerfile", metavar="FILE", help="build this with buildah or podman, and put it on top of all SOURCE"
    )
    parser.add_argument("--context", metavar="DIR", help="the directory that it copies from [that of FILE]")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--cache",
        metavar="DIR",
        help="take layers of earlier runs from DIR, and keep those of this one there "
        "[$CACHE_DIRECTORY, or /var/cache/bootc-live if it exists]",
    )
    which.add_argument("--no-cache", action="store_true", help="fetch all layers, and keep none")
    parser.add_argument(
        "--max-size",
        metavar="SIZE",
        help="afterwards, remove the layers that were not used for longest until the cache is no larger; in MiB or "
        "such as 20G [no limit]",
    )


def _access(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    which = "which image of an archive [latest, or the only one]"
    if several:
        which += "; with several archives, name the one that is meant: --label SOURCE=NAME"
        parser.add_argument("--label", action="append", default=[], metavar="NAME", help=which)
    else:
        parser.add_argument("--label", metavar="NAME", help=which)
    parser.add_argument("--unsecure", action="store_true", help="plain HTTP or unchecked HTTPS for registries")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="FILE",
        help="use the image only if this public key signed it; of several keys, any one will do",
    )
    parser.add_argument(
        "--policy", metavar="FILE", help="use the image only if this policy allows it, see docs/signing.md"
    )


def _inspect(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument(
        "--contents",
        action="store_true",
        help="also fetch the layers: show the kernel, whether the image's initramfs contains bootc-live, and services "
        "that fail without a disk",
    )
    # The name that it had before it showed more.
    parser.add_argument("--services", dest="contents", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _estimate(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument(
        "--memory", metavar="SIZE", help="the RAM of the machine, in MiB or such as 2G [that of this machine]"
    )
    parser.add_argument("--cmdline", metavar="TEXT", help="the kernel command line of the boot: layout and limits")
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
    parser.add_argument("--digest", metavar="SHA256", help="as bootc.live.erofs.digest=: accept no other result")
    parser.add_argument("--no-selinux", action="store_true", help="as bootc.live.selinux=0: no labels")
    parser.add_argument("--json", action="store_true", help="print digest, size and source as JSON")


def _unpack(parser: argparse.ArgumentParser) -> None:
    _source(parser)
    parser.add_argument("directory", metavar="DIR", help="an empty or a new directory")
    parser.add_argument("--workdir", metavar="DIR", help="build in a private part of DIR [a new tmpfs]")


def _loaded(parser: argparse.ArgumentParser, output: str, what: str) -> None:
    _source(parser)
    parser.add_argument("-o", "--output", required=True, metavar=output, help=what)
    parser.add_argument("--initrd", metavar="FILE", help="use this initrd instead of the image's initramfs")
    _repeatable(parser, "--add-initrd", "FILE", "add an initrd, such as certificates or logins")
    parser.add_argument("--rootfs", action="store_true", help="include the whole image as a second initrd")
    _repeatable(parser, "--append", "KARGS", "add kernel arguments; of several with one name, the last counts")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _repeatable(parser: argparse.ArgumentParser, option: str, metavar: str, what: str) -> None:
    parser.add_argument(option, action="append", default=[], metavar=metavar, help=what)


def _netboot(parser: argparse.ArgumentParser) -> None:
    _loaded(parser, "DIR", "an empty or a new directory")
    parser.add_argument("--url", metavar="BASE", help="the URL of the directory on the boot server")


def _uki(parser: argparse.ArgumentParser) -> None:
    _loaded(parser, "FILE", "a new file")
    parser.add_argument("--sign-key", metavar="FILE", help="sign it for Secure Boot with this key (PEM)")
    parser.add_argument("--sign-cert", metavar="FILE", help="the certificate of that key (PEM)")


def _publish(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(verb="disk.publish")
    _source(parser)
    parser.add_argument("directory", metavar="DIR", help="what a web server serves, or is copied to one")
    parser.add_argument(
        "--keep", type=int, metavar="N", help="remove all but the N archives that were published last, 2 or more"
    )
    parser.add_argument("--json", action="store_true", help="print the pointer as JSON")


def _build(parser: argparse.ArgumentParser) -> None:
    _sources(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="a new OCI archive (FILE.oci, FILE.tar), or a new OCI layout (DIR)",
    )
    parser.add_argument(
        "--rootfs-output", metavar="FILE", help="a new tar of all files: FILE.tar, .tar.gz, .tar.zst or .tar.xz"
    )
    parser.add_argument("--tag", default="latest", metavar="NAME", help="what the image is called in it [%(default)s]")
    parser.add_argument("--workdir", metavar="DIR", help="where to keep the layers meanwhile [beside the result]")
    parser.add_argument("--json", action="store_true", help="print what was made as JSON")


def _pivot(parser: argparse.ArgumentParser) -> None:
    _sources(parser)
    parser.add_argument("--contain", action="store_true", help="only rehearse it: run the root in namespaces")
    parser.add_argument(
        "--via", choices=["soft-reboot", "takeover", "kexec"], help="how the root is replaced [the best way there is]"
    )
    parser.add_argument("--network", choices=["none", "host"], default="none", help="of --contain [%(default)s]")
    parser.add_argument("--entrypoint", metavar="PROGRAM", help="run this in place of the image's Entrypoint")
    parser.add_argument(
        "--command",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="ARG",
        help="arguments in place of the image's Cmd; the last option, or write them after --",
    )
    parser.add_argument(
        "--on-exit",
        choices=["reboot", "poweroff", "shell", "return"],
        help="what follows when a program has ended that is no init: the installed system after a reboot, no power, a "
        "shell on the console, or the old root's init, where it is kept [reboot]",
    )
    old = parser.add_mutually_exclusive_group()
    old.add_argument(
        "--keep-old-root",
        nargs="?",
        const="/mnt/oldroot",
        metavar="DIR",
        help="show the old root below DIR [%(const)s]",
    )
    old.add_argument(
        "--release-old-root",
        action="store_true",
        help="let the old root go, so that nothing holds its disk: what happens without --keep-old-root",
    )
    parser.add_argument(
        "--flush-firewall", action="store_true", help="remove all rules of the firewall [they stay as they are]"
    )
    parser.add_argument(
        "--headless", action="store_true", help="go on as a service; refuse a root that nobody can reach"
    )
    parser.add_argument("--yes-i-have-a-console", action="store_true", help="with --headless: do not refuse it")
    parser.add_argument(
        "--rollback-after",
        metavar="TIME",
        help="reboot into the installed system after TIME, such as 5m, unless /run/bootc-live/confirmed exists then",
    )
    parser.add_argument(
        "--tailscale-authkey-file",
        metavar="FILE",
        help="let the new system join a Tailscale network, as HOST-live and with its ssh server, by the key in FILE",
    )
    parser.add_argument("--log", metavar="FILE", help="also write all messages to FILE")
    parser.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--cmdline", default="", metavar="TEXT", help="kernel arguments of a boot: layout, limits, trust"
    )
    parser.add_argument("--workdir", metavar="DIR", help="build in a private part of DIR [a new tmpfs]")
    parser.add_argument("--dry-run", action="store_true", help="show the plan, and change nothing")
    parser.add_argument("--json", action="store_true", help="with --dry-run: print the plan as JSON")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cache", metavar="DIR", help="the cache [$CACHE_DIRECTORY, or /var/cache/bootc-live]")
    parser.add_argument(
        "--max-size", default="0", metavar="SIZE", help="leave so much, in MiB or such as 20G [%(default)s]"
    )
    add_keep(parser)
    parser.add_argument("--json", action="store_true", help="print what was removed and left as JSON; sizes are bytes")


def _kargs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cmdline", nargs="?", metavar="TEXT", help="a kernel command line to check")
    parser.add_argument("--defaults", action="store_true", help="also show the defaults of arguments that TEXT lacks")
    parser.add_argument("--markdown", action="store_true", help="print kernel-cmdline.md")


def _status(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--receipt", metavar="FILE", help="the receipt to read [/run/bootc-live/receipt.json]")
    add_machine(parser)
    parser.add_argument("--json", action="store_true", help="print the receipt, and the deployments of a disk, as JSON")


def _freeze(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", nargs="?", metavar="DIR", help="the root directory of the initramfs")
    parser.add_argument("feature", nargs="*", metavar="FEATURE", help="an additional feature of the program: registry")
