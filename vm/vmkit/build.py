"""``vm/build``: brings the files of ``vm/out`` up to date."""

import argparse
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from vmkit import targets
from vmkit.paths import OUT, ROOTS, VM
from vmkit.stale import locked, refresh


def main(argv: list[str] | None = None) -> int:
    """Run ``vm/build``; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="vm/build",
        description="Brings the files of vm/out up to date; makes only what is stale.",
    )
    parser.add_argument(
        "target",
        nargs="*",
        metavar="TARGET",
        help=f"what to make, with all it needs (default: what tests boot): {' '.join(targets.TARGETS)}",
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    wanted = parser.parse_args(argv).target
    for name in wanted:
        if name not in targets.TARGETS:
            parser.error(f"no target '{name}'; choose from: {' '.join(targets.TARGETS)}")
    if os.geteuid() != 0:
        parser.exit(1, "vm/build: run it as root: it makes root file systems and enters them\n")
    try:
        build(wanted)
    except subprocess.CalledProcessError as error:
        command = " ".join(str(word) for word in error.cmd)
        print(f"vm/build: exit status {error.returncode} of: {command}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        print(f"vm/build: {error.filename} is missing", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vm/build: interrupted", file=sys.stderr)
        return 130
    return 0


def build(wanted: list[str]) -> None:
    """Make the ``wanted`` targets of ``vm/out`` (all if empty) as far as they are stale.

    Raises CalledProcessError where a step fails and FileNotFoundError where an input is
    missing.
    """
    OUT.mkdir(exist_ok=True)
    with locked(OUT / ".lock"):
        # What boots the files needs the emulator, and making them does not.
        for root in ("builder", "live", *(() if wanted else ("emulator",))):
            targets.make_root(root)
        targets.make_zipapp()
        refresh(targets.TARGETS, wanted or targets.default_targets(), OUT)
        write_versions(OUT / "build.json")


def write_versions(path: Path) -> None:
    """Write what the test system was built from to ``path``, as a JSON object of strings."""
    versions = {"kver": targets.kernel_version()}
    for root, package in (
        ("builder", "dracut"),
        ("builder", "erofs-utils"),
        ("builder", "buildah"),
        ("live", "systemd"),
        ("emulator", "qemu-system-x86"),
    ):
        if (ROOTS / root).exists():
            versions[f"{root}.{package}"] = _package_version(ROOTS / root, package)
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(versions, indent=2) + "\n")
    scratch.replace(path)


def _package_version(root: Path, package: str) -> str:
    """Read dpkg's own table, which needs no dpkg on this machine."""
    for paragraph in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
        if fields.get("Package") == package:
            return fields["Version"]
    raise FileNotFoundError(2, "package not installed", f"{package} in {VM.name}/out/roots/{root.name}")
