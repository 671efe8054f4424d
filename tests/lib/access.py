"""What tests of the ways to registries and web servers share: an image to be reached by all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.lib.oci_writer import Image, Layer, write_archive, write_layout
from tests.lib.program import Ended, Program
from tests.lib.registry import Registry, registry
from tests.lib.small_image import BASE, HERE
from tests.lib.tar_writer import directory, file, layer

LAYERS: Final = 24
# Names of the one image; the last is what a default registry makes of a name alone.
NAMES: Final = ("os", "team/os", "team/deep/os", "library/os")
ARCHIVE: Final = "/images/root.oci"
QUICK: Final = "bootc.live.retry.tries=2 bootc.live.retry.stall=60s bootc.live.retry.total=300s"


@dataclass(frozen=True)
class Stored:
    """An image of many small layers in a registry over HTTP that wants no login, and as an archive."""

    registry: Registry
    digest: str
    archive: Path


@contextmanager
def stored(where: Path) -> Iterator[Stored]:
    """The image under all its names, below `where`; the registry ends with the block."""
    more = [layer(directory("more/"), file(f"more/{number}", f"{number}\n")) for number in range(1, LAYERS)]
    image = Image([Layer(tar) for tar in (BASE, *more)], architecture=HERE)
    layout = write_layout(where / "layout", image)
    with registry(where / "stored") as running:
        digest = running.put(layout, NAMES[0], "latest")
        repositories = running.storage / "docker/registry/v2/repositories"
        for name in NAMES[1:]:
            # A repository is but a list of digests.
            shutil.copytree(repositories / NAMES[0], repositories / name)
        yield Stored(running, digest, write_archive(where / "root.oci", image))


def found(ended: Ended, image: Stored) -> None:
    """Raises AssertionError unless `inspect --json` told of this image."""
    assert json.loads(ended.good().stdout)["manifest_digest"] == image.digest


def secret(ended: Ended, *secrets: str) -> Ended:
    """The same, if no secret is in what was said."""
    for text in secrets:
        assert text not in ended.stdout + ended.stderr, f"{text} is in:\n{ended.stdout}{ended.stderr}"
    return ended


def rehearsed(
    program: Program, source: str, where: Path, kargs: str = "", env: Mapping[str, str] | None = None
) -> Ended:
    """A boot that does everything but hand the root over, and gives up soon."""
    root = where / "sysroot"
    root.mkdir(exist_ok=True)
    cmdline = f"root=bootc-live:{source} {QUICK} {kargs}"
    return program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", root, env=env)
