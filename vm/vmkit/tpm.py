"""A TPM 2.0 for a guest in QEMU."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmkit import emulator
from vmkit.base import FATE, GuestError


@contextmanager
def tpm() -> Iterator[list[str]]:
    """Run a new TPM for the block; yields the options of QEMU that plug it in."""
    with tempfile.TemporaryDirectory(prefix="vm-tpm-") as name:
        socket = Path(name) / "socket"
        argv = [
            *FATE,
            *emulator.swtpm("socket", "--tpm2", f"--tpmstate=dir={name}", f"--ctrl=type=unixio,path={socket}"),
        ]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
            try:
                while not socket.exists():
                    if run.poll() is not None:
                        assert run.stdout
                        raise GuestError(f"swtpm did not start: {run.stdout.read().decode(errors='replace')}")
                    time.sleep(0.02)
                yield [
                    *("-chardev", f"socket,id=tpm,path={socket}"),
                    *("-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm"),
                ]
            finally:
                run.kill()
