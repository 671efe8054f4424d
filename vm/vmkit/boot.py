"""``vm/boot``: one boot by hand."""

import argparse
import json
import signal
import sys
from pathlib import Path

from vmkit.base import BaseGuest
from vmkit.guest import Guest, GuestError, Ready, to_stdout
from vmkit.namespaces import NamespaceGuest, obstacle
from vmkit.paths import OUT
from vmkit.start import Kernel


def main(argv: list[str] | None = None) -> int:
    """Run ``vm/boot``; returns 0 only if the guest reported that it is ready."""
    args = _parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if args.json:
            args.json.unlink(missing_ok=True)
        with _guest(args) as guest:
            ready = guest.wait_ready(args.timeout)
            report = _report(ready, guest)
        if args.json:
            args.json.write_text(json.dumps(report, indent=2) + "\n")
    except (GuestError, OSError) as error:
        print(f"\nvm/boot: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nvm/boot: interrupted", file=sys.stderr)
        return 130
    print(
        f"\nvm/boot: reached {ready.target} in {ready.seconds:.1f} s"
        f" ({report['accelerator']}), {ready.failed} failed units"
    )
    return 0


def _guest(args: argparse.Namespace) -> BaseGuest:
    start = Kernel(args.kernel or OUT / "vmlinuz", args.initrd or [OUT / "initrd-embedded.img"], args.append)
    echo = None if args.quiet else to_stdout
    if args.fast:
        return NamespaceGuest(start, console_log=args.console, echo=echo)
    return Guest(
        start,
        memory=args.memory or 2048,
        smp=args.smp or 2,
        extra=args.qemu,
        console_log=args.console,
        echo=echo,
    )


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vm/boot",
        description="Boots a guest once; exit status 0 only if its final root says it is ready.",
    )
    add = parser.add_argument
    add("--append", default="", metavar="KARGS", help="more kernel arguments")
    add("--fast", action="store_true", help="boot in namespaces of this machine's kernel, not in QEMU")
    add("--memory", type=int, metavar="MIB", help="default: 2048")
    add("--smp", type=int, metavar="CPUS", help="default: 2")
    add(
        "--initrd",
        type=Path,
        action="append",
        metavar="F",
        help="repeat to append more (default: vm/out/initrd-embedded.img)",
    )
    add("--kernel", type=Path, metavar="F", help="default: vm/out/vmlinuz")
    add("--qemu", action="append", default=[], metavar="OPTION", help="one more word for QEMU, written --qemu=WORD")
    add("--json", type=Path, metavar="F", help="write receipt, seconds and accelerator to F")
    add("--console", type=Path, metavar="F", help="log the console to F")
    add("--timeout", type=float, default=300, metavar="S", help="seconds (default: %(default)s)")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--verbose", action="store_true", help="show the console (default)")
    shown.add_argument("--quiet", action="store_true", help="do not show the console")
    args = parser.parse_args(argv)
    if args.fast:
        for option in ("memory", "smp", "kernel", "qemu"):
            if getattr(args, option):
                parser.error(f"--{option} is for QEMU, and cannot be used with --fast")
        if reason := obstacle():
            parser.error(f"--fast does not work on this machine: {reason}; boot without it")
    return args


def _report(ready: Ready, guest: BaseGuest) -> dict[str, object]:
    return {
        "accelerator": guest.engine,
        "failed": ready.failed,
        "ready": ready.line,
        "receipt": ready.receipt,
        "seconds": round(ready.seconds, 1),
        "target": ready.target,
    }


if __name__ == "__main__":
    sys.exit(main())
