"""The images with SELinux and with podman (vm/full) beside the initrd, and guests that boot them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testinfra.host import Host

from tests.vm.conftest import pack
from tests.vm.inside import connect
from tests.vm.rows import FAILING
from vmkit.guest import Guest, Ready
from vmkit.paths import OUT, REPO, VM
from vmkit.start import Kernel

BOOT_SECONDS: Final = 900
_DENIED: Final = re.compile(r"avc: +denied .*")


@dataclass(frozen=True)
class Full:
    """A guest that reached its default target."""

    guest: Guest
    ready: Ready
    host: Host

    def failed(self) -> set[str]:
        """The units that failed."""
        listed = self.host.check_output("systemctl --failed --plain --no-legend").splitlines()
        return {line.split()[0] for line in listed}

    def denials(self) -> list[str]:
        """What SELinux denied since the policy was loaded, as far as the kernel's log has it."""
        return _DENIED.findall(self.host.check_output("dmesg"))


@contextmanager
def full_image(archive: str) -> Iterator[Path]:
    """Brings an archive of vm/out up to date; gives it as an initrd: an emulated network would take minutes for it."""
    subprocess.run([VM / "build", archive], stdin=subprocess.DEVNULL, check=True)
    with tempfile.TemporaryDirectory(prefix="vm-full-", dir=REPO / "build") as name:
        pack(Path(name), "full.cpio", "root.oci", OUT / archive)
        yield Path(name) / "full.cpio"


@contextmanager
def full_guest(image: Path, kargs: str, memory: int = 2048, extra: Sequence[str] = ()) -> Iterator[Full]:
    """One boot of the image, until it is ready; `extra` are more options of QEMU."""
    start = Kernel(initrds=[OUT / "initrd.img", image], append=f"{FAILING} root=bootc-live:/root.oci {kargs}")
    with Guest(start, memory=memory, extra=extra) as guest:
        ready = guest.wait_ready(BOOT_SECONDS)
        print(f"{kargs}: ready after {ready.seconds:.0f} s, phases {(ready.receipt or {}).get('phases')}")
        yield Full(guest, ready, connect(guest, lasting=True))
