"""Programs of the builder root, which sees this repository."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vmkit.paths import REPO, VM, ZIPAPP
from vmkit.start import Uefi


def in_builder(*argv: str | Path) -> str:
    """What a program says there; it has to succeed."""
    command = [VM / "enter", "builder", *argv]
    done = subprocess.run(command, cwd=REPO, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def put_program(top: Path, *, compiled: bool = True) -> None:
    """Put the program where machines have it in the tree `top`; `compiled` adds byte code for their Python."""
    program = top / "usr/local/bin/bootc-live"
    program.parent.mkdir(parents=True)
    if compiled:
        in_builder("python3", "-m", "tests.lib.program", ZIPAPP, program)
    else:
        shutil.copy(ZIPAPP, program)
    program.chmod(0o755)


def change_boot_partition(directory: Path, style: str, *change: str) -> list[str]:
    """Change what tests/vm/boot_partition.py knows; return its entries, the first one that is to be started next."""
    path = f"PYTHONPATH={REPO}/pyapp:{REPO}/vm:{REPO}:{REPO}/build/bootc-live.pyz"
    said = in_builder("env", path, "python3", "-m", "tests.vm.boot_partition", directory, style, *change)
    return [name.removeprefix("bootc-live-") for name in json.loads(said)]


@dataclass(frozen=True)
class Uki:
    """A UKI in the directory in which tests/vm/make-uki made it."""

    directory: Path

    @property
    def file(self) -> Path:
        """The UKI."""
        return self.directory / "node.efi"

    def machine(self, *, tampered: bool = False) -> Uefi:
        """A machine with Secure Boot on, whose disk has the UKI, or what is left of it after somebody was at it."""
        disk = self.directory / ("tampered.img" if tampered else "node.img")
        return Uefi(disk=disk, variables=self.directory / "secure.fd", secure=True)

    def fetched(self, url: str) -> Uefi:
        """The same without a disk, whose firmware fetches the UKI from a web server."""
        variables = self.directory / "http.fd"
        given = ("--input", self.directory / "secure.fd", "--output", variables)
        in_builder("virt-fw-vars", *given, "--set-boot-uri", url)
        return Uefi(variables=variables, secure=True)


def make_uki(directory: Path, cmdline: str, *trusted: Path) -> Uki:
    """A UKI that starts with a command line; `trusted` is a kernel whose signer the machine trusts, too."""
    directory.mkdir(exist_ok=True)
    in_builder("tests/vm/make-uki", directory, cmdline, *trusted)
    return Uki(directory)
