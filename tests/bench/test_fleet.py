"""Sixty-four machines that boot at once: all get their image, and two mirrors share the load."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.lib.bench import Figures, seconds
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.registry import registry
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

CLIENTS = 64
MIB = 2**20
# A machine with a machine-id of its own, as the program sees it; it says how many bytes it got from whom.
CLIENT = """
import json, sys
sys.path[:0] = json.loads(sys.argv[5])
from bootc_live.base.log import Recorder
from bootc_live.config.model import Mirror
from bootc_live.config.source_spec import RegistryImage
from bootc_live.image.recipe import IntoSink
from bootc_live.image.sink import DataFile
from bootc_live.pipeline import fetch
from bootc_live.source.access import Access
reference, mirrors, root, data = sys.argv[1:5]
mirrors = tuple(Mirror(name, insecure=True) for name in json.loads(mirrors))
access = Access(print, unsecure=True, root=root, mirrors=mirrors)
sys.stdin.readline()
fetch([RegistryImage(reference, reference)], access, IntoSink(data, DataFile()), Recorder(quiet=True))
print(json.dumps(access.traffic.hosts))
"""


def machine(directory: Path, number: int) -> Path:
    """The root directory of a machine without network cards but with a machine-id."""
    root = directory / f"machine-{number}"
    (root / "etc").mkdir(parents=True)
    (root / "etc/machine-id").write_text(hashlib.sha256(b"machine %d" % number).hexdigest()[:32] + "\n")
    return root


def boot_all(directory: Path, reference: str, mirrors: list[str]) -> list[dict[str, int]]:
    """What every machine got from whom; they begin together."""
    running = []
    for number in range(CLIENTS):
        root = machine(directory, number)
        argv = [reference, json.dumps(mirrors), str(root), str(root / "data"), json.dumps(sys.path)]
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * CLIENTS
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def test_all_get_it_and_mirrors_share_the_load(tmp_path: Path, figures: Figures) -> None:
    tars = [layer(file(f"random-{number}", random.Random(number).randbytes(2**20))) for number in range(8)]
    made = write_archive(tmp_path / "os.oci", Image([Layer(tar) for tar in tars], architecture=HERE))
    with registry(tmp_path / "origin") as origin, registry(tmp_path / "a") as a, registry(tmp_path / "b") as b:
        for where in (origin, a, b):
            where.push(f"oci-archive:{made}", "os:1")
        alone: list[dict[str, int]] = []
        spent = seconds(lambda: alone.extend(boot_all(tmp_path / "alone", f"{origin.host}/os:1", [])))
        size = len(tars) * 2**20
        assert all(set(hosts) == {origin.host} and hosts[origin.host] >= size for hosts in alone)
        figures.add(f"{CLIENTS} machines at one docker-registry: all have their 8 MiB after {spent:.1f} s")
        load: Counter[str] = Counter()
        for hosts in boot_all(tmp_path / "mirrors", f"{origin.host}/os:1", [a.host, b.host]):
            load.update(hosts)
        equal = sum(load.values()) / 2
        worst = max(abs(load[where.host] - equal) / equal for where in (a, b))
        figures.add(
            f"{CLIENTS} machines and two mirrors: {load[a.host] / 2**20:.0f} and {load[b.host] / 2**20:.0f} MiB, "
            f"{worst:.0%} off equal load (bar: 20 %); from the registry itself: {load[origin.host]} bytes"
        )
        assert worst <= 0.2
        figures.table(
            f"{CLIENTS} machines that boot at once from one docker-registry, then with two mirrors",
            ("what", "figure"),
            [
                ("seconds until all have their 8 MiB", spent),
                ("MiB from the first and the second mirror", f"{load[a.host] / MIB:.0f} and {load[b.host] / MIB:.0f}"),
                ("off equal load", f"{worst:.0%}"),
            ],
        )
        # It alone says what the tag stands for: the mirrors speak plain HTTP.
        assert load[origin.host] < CLIENTS * size // 100
