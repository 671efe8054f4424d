"""Roots made by us, by the peer and by the floor of all ways; each call is one run, measured, and leaves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from tests.lib.bench import seconds
from tests.lib.bench_memory import Costs
from tests.lib.program import Program
from tests.lib.space import tmpfs
from tests.lib.zram import device

# What the program says of fetching (cli and image/candidate.py).
_FETCHING: Final = "fetching and verifying layers"
_PROGRESS: Final = "bootc-live: fetch: "


def run(*argv: str | Path) -> None:
    """Runs a program; what it says is shown only if it fails."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"


def _zram_devices() -> set[str]:
    return {path.name for path in Path("/sys/block").glob("zram*")}


@contextmanager
def hidden(library: str) -> Iterator[None]:
    """Nobody finds a library of this root during the block; only in a root that vm/enter made, which is a copy."""
    assert Path("/.vm-root").exists()
    (found,) = Path("/usr/lib").glob(f"*/{library}")
    away = found.with_name(f".{library}.hidden")
    found.rename(away)
    try:
        yield
    finally:
        away.rename(found)


@contextmanager
def ram_disk(where: Path) -> Iterator[Path]:
    """A tmpfs of any size at a new directory, gone with the block."""
    with tmpfs(where, "size=100%,mode=0755") as place:
        try:
            yield place
        finally:
            for mounted in _mounts_below(place):
                run("umount", mounted)
            _released(place)
    where.rmdir()


def _mounts_below(place: Path) -> list[str]:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [mounted for mounted in reversed(mounts) if mounted.startswith(f"{place}/")]


def _released(place: Path) -> None:
    """Waits until no loop device has a file there: they let go of it some time after their last close."""
    deadline = time.monotonic() + 10
    while any(str(place) in backing for backing in _backings()) and time.monotonic() < deadline:
        time.sleep(0.02)


def _backings() -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):
            yield backing.read_text()


@dataclass
class Ours:
    """The boot verb on an image in a registry, with kernel arguments.

    `receipts` has what every run said of itself, `fetching` when it began and ended to fetch, in seconds.
    """

    program: Program
    source: str
    kargs: str
    where: Path
    receipts: list[dict[str, Any]] = field(default_factory=list)
    fetching: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, costs: Costs) -> None:
        """One run, from the start of the program to its end, when the root is mounted."""
        with self._place() as root:
            with costs.measured():
                self._boot(root)
            self.receipts.append(json.loads(self._receipt.read_text()))

    @contextmanager
    def booted(self) -> Iterator[Path]:
        """The root, for a look at it."""
        with self._place() as root:
            self._boot(root)
            yield root

    @property
    def fetched(self) -> tuple[float, float]:
        """The median seconds from the start of the program to the first layer, and to the end of the last."""
        begins, ends = zip(*self.fetching, strict=True)
        return median(begins), median(ends)

    @property
    def unpacked(self) -> int:
        """Bytes of the image's layers, inflated."""
        return int(self.receipts[-1]["bytes"]["unpacked"])

    @property
    def _receipt(self) -> Path:
        return self.where / "receipt.json"

    def _boot(self, root: Path) -> None:
        cmdline = f"root=bootc-live:{self.source} bootc.registry.unsecure {self.kargs}"
        said = self.program.timed("boot", "--cmdline", cmdline, "--sysroot", root, "--receipt", self._receipt)
        (begin,) = (n for n, (_, line) in enumerate(said) if line.endswith(_FETCHING))
        # The next thing that it says is not how far it is.
        end = next(at for at, line in said[begin + 1 :] if not line.startswith(_PROGRESS))
        self.fetching.append((said[begin][0], end))

    @contextmanager
    def _place(self) -> Iterator[Path]:
        self.where.mkdir(exist_ok=True)
        root = self.where / "sysroot"
        root.mkdir()
        before = _zram_devices()
        try:
            yield root
        finally:
            if os.path.ismount(root):
                run("umount", "-R", root)
            root.rmdir()
            # A root that was handed over keeps its device; benchmarks have the machine for themselves.
            for made in _zram_devices() - before:
                device(made).remove()


@dataclass
class Peer:
    """The way of the programs people have: skopeo to an archive, tar to a layout, umoci to a tree, mkfs.erofs.

    All of it is on one tmpfs; what a step has used up is removed after it but the archive, which a boot that may
    kexec later keeps. Without `erofs`, the tree is bound. `steps` has the seconds of the last run.
    """

    source: str
    erofs: bool
    where: Path
    steps: dict[str, float] = field(default_factory=dict)

    def __call__(self, costs: Costs) -> None:
        """One run."""
        with ram_disk(self.where), costs.measured():
            self._make()

    @property
    def _root(self) -> Path:
        return self.where / "root"

    def _make(self) -> None:
        archive, layout, bundle, image = (self.where / name for name in ("root.oci", "layout", "bundle", "root.erofs"))
        self._root.mkdir()
        layout.mkdir()
        copy = ["skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"]
        self._step("skopeo", *copy, self.source, f"oci-archive:{archive}:latest")
        self._step("tar", "tar", "-C", layout, "-xf", archive)
        self._step("umoci", "umoci", "unpack", "--image", f"{layout}:latest", bundle)
        self._step("rm", "rm", "-r", layout)
        if self.erofs:
            self._step("mkfs.erofs", "mkfs.erofs", "--quiet", image, bundle / "rootfs")
            self._step("rm", "rm", "-r", bundle)
            self._step("mount", "mount", "-t", "erofs", "-o", "ro,loop", image, self._root)
        else:
            self._step("mount", "mount", "--bind", bundle / "rootfs", self._root)

    def _step(self, name: str, *argv: str | Path) -> None:
        self.steps[name] = round(seconds(lambda: run(*argv)), 2)


INFLATED: Final = 'curl --silent --fail "$1" | igzip -d -c >"$2"'
INFLATED_ZSTD: Final = 'curl --silent --fail "$1" | zstd -d -c --quiet >"$2"'
# Both sides of every layer are hashed, and the sums ignored. sha256sum does not use SHA instructions.
VERIFIED: Final = (
    'curl --silent --fail "$1" | tee >(openssl dgst -sha256) | igzip -d -c | tee "$2" | openssl dgst -sha256'
)


@dataclass
class Floor:
    """Less than any way can do: fetch the layers, inflate them on all cores, write what comes out to a tmpfs once.

    `script` does it for a URL and a file.
    """

    urls: Sequence[str]
    where: Path
    script: str = INFLATED

    def __call__(self, costs: Costs) -> None:
        """One run; layers go side by side."""
        with ram_disk(self.where), costs.measured():
            running = [
                subprocess.Popen(
                    ["bash", "-c", self.script, "bash", url, self.where / f"{number}"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
                for number, url in enumerate(self.urls)
            ]
            assert [process.wait() for process in running] == [0] * len(self.urls)
