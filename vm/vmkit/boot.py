"""``vm/boot``: one boot by hand."""

import argparse
import json
import signal
import sys
from pathlib import Path

from vmkit.guest import Guest, GuestError, Ready, to_stdout
from vmkit.paths import OUT
from vmkit.start import Kernel


def main(argv: list[str] | None = None) -> int:
    """Run ``vm/boot``; returns 0 only if the guest reported that it is ready."""
    args = _parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if args.json:
            args.json.unlink(missing_ok=True)
        with Guest(
            Kernel(args.kernel, args.initrd or [OUT / "initrd-embedded.img"], args.append),
            memory=args.memory,
            smp=args.smp,
            extra=args.qemu,
            console_log=args.console,
            echo=None if args.quiet else to_stdout,
        ) as guest:
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


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vm/boot",
        description="Boots a guest once; exit status 0 only if its final root says it is ready.",
    )
    add = parser.add_argument
    add("--append", default="", metavar="KARGS", help="more kernel arguments")
    add("--memory", type=int, default=2048, metavar="MIB", help="default: %(default)s")
    add("--smp", type=int, default=2, metavar="CPUS", help="default: %(default)s")
    add(
        "--initrd",
        type=Path,
        action="append",
        metavar="F",
        help="repeat to append more (default: vm/out/initrd-embedded.img)",
    )
    add("--kernel", type=Path, default=OUT / "vmlinuz", metavar="F", help="default: vm/out/vmlinuz")
    add("--qemu", action="append", default=[], metavar="OPTION", help="one more word for QEMU, written --qemu=WORD")
    add("--json", type=Path, metavar="F", help="write receipt, seconds and accelerator to F")
    add("--console", type=Path, metavar="F", help="log the console to F")
    add("--timeout", type=float, default=300, metavar="S", help="seconds (default: %(default)s)")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--verbose", action="store_true", help="show the console (default)")
    shown.add_argument("--quiet", action="store_true", help="do not show the console")
    return parser.parse_args(argv)


def _report(ready: Ready, guest: Guest) -> dict[str, object]:
    return {
        "accelerator": guest.accelerator[1].split(",")[0],
        "failed": ready.failed,
        "ready": ready.line,
        "receipt": ready.receipt,
        "seconds": round(ready.seconds, 1),
        "target": ready.target,
    }


if __name__ == "__main__":
    sys.exit(main())
