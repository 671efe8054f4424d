"""What handing an image to the next kernel takes, in memory and time, beside fetching its blobs and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import pytest
from testinfra.host import Host

from tests.lib.bench import Figures
from tests.vm.inside import connect
from vmkit.guest import Guest
from vmkit.paths import OUT
from vmkit.start import Kernel

FAILING: Final = "rd.shell=0 rd.emergency=poweroff"
SECONDS: Final = 480
MEMORY: Final = 2048
MIB: Final = 2**20
PEAK: Final = re.compile(r"bootc-live: ([0-9.]+) MiB of memory at the peak")
# kexec_file_load(2) holds kernel and initrd twice while it copies them, and all that the kernel takes while it starts.
BOUND: Final = (
    "the kernel holds each file twice for a moment, the image's initramfs included, and init_size of the next kernel: "
    "about 150 MiB with this kernel and initramfs, whatever the image's size"
)
HASHED: Final = (
    "the kernel hashes all that it loads, zeros included, and so does its purgatory, before the next kernel starts: "
    "350 MiB of SHA-256 altogether, most of it by plain C, which emulation makes slow"
)
# Without curl or Python: bash's own connections, into a tmpfs, checked by digest.
FETCH: Final = """
mkdir /run/alone && mount -t tmpfs alone /run/alone && cd /run/alone || exit
exec 4>&1
started=$(date +%s%N)
for digest in {digests}; do
    exec 3<>/dev/tcp/{host}/{port}
    printf 'GET /v2/{name}/blobs/%s HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n' "$digest" >&3
    while IFS= read -r line <&3 && [ "$line" != $'\\r' ]; do :; done
    cat <&3 >"$digest"
    exec 3<&-
    echo "${{digest#sha256:}}  $digest" | sha256sum --check --quiet || exit 1
done
echo $((($(date +%s%N) - started) / 1000000)) >&4
"""


@dataclass(frozen=True)
class Run:
    """One kexec: the final system's receipt, the peak that the first kernel told of, and seconds for blobs alone."""

    receipt: dict[str, Any]
    peak: float
    alone: float


def fetched_alone(host: Host, source: str, receipt: dict[str, Any]) -> float:
    """Seconds that fetching and hashing the blobs takes in the guest, into memory."""
    server, _, name = source.removeprefix("docker://").partition("/")
    address, _, port = server.partition(":")
    digests = " ".join(layer["digest"] for layer in receipt["image"]["layers"])
    script = FETCH.format(digests=digests, host=address, port=port, name=name.partition(":")[0])
    return int(host.check_output("bash -c %s", script)) / 1000


@pytest.fixture(scope="module")
def run(source: str) -> Run:
    """The measured boot."""
    append = f"{FAILING} root=bootc-live:{source} bootc.registry.unsecure bootc.kexec"
    with Guest(Kernel(initrds=[OUT / "initrd.img"], append=append), memory=MEMORY) as guest:
        ready = guest.wait_ready(SECONDS)
        said = PEAK.search(guest.console())
        assert said is not None
        receipt = ready.receipt or {}
        return Run(receipt, float(said[1]), fetched_alone(connect(guest), source, receipt))


def test_time_between_the_kernels(run: Run, figures: Figures) -> None:
    """From the packing of the next initrd to the first line of the next kernel."""
    fetch = run.receipt["kexec"]["first"]["phases"]["fetch"]
    between = run.receipt["kexec"]["seconds"]
    head = ("fetch and verify, s", "blobs alone, s", "to the next kernel, s", "of fetch and verify", "of blobs alone")
    row = (fetch, run.alone, between, between / fetch, between / run.alone)
    figures.table("kexec of the live image, by registry", head, [row])
    figures.bar("hand-off to the next kernel, of fetch and verify", between / fetch, 1.25, least=False)
    name = "hand-off to the next kernel, of fetching the blobs alone"
    figures.bar(name, between / run.alone, 1.25, least=False, why=HASHED)


def test_memory(run: Run, figures: Figures) -> None:
    compressed = run.receipt["bytes"]["fetched"] / MIB
    initrd = (OUT / "initrd.img").stat().st_size / MIB
    figures.add(f"kexec: {run.peak:.0f} MiB at the peak for {compressed:.0f} MiB of blobs, initramfs {initrd:.0f} MiB")
    allowed = 2 * compressed + 64
    figures.bar(
        "peak memory of kexec with reuse, of 2 × blobs + 64 MiB", run.peak / allowed, 1.0, least=False, why=BOUND
    )
