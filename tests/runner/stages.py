"""The stages: what each one needs before its tests run, and where they run."""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPO: Final = Path(__file__).resolve().parents[2]

HOST_PACKAGES: Final = ("docker-registry", "skopeo", "dash")
"""Beside what vm/host-packages installs in any case; for the stages that enter other roots."""

PROGRAMS: Final = {
    "bsdtar": "libarchive-tools",
    "cpio": "cpio",
    "git": "git",
    "gzip": "gzip",
    "lz4": "lz4",
    "openssl": "openssl",
    "shellcheck": "shellcheck",
    "shfmt": "shfmt",
    "zstd": "zstd",
}
"""Programs and their packages for lint and unit, which skip by name what they miss."""


@dataclass(frozen=True)
class Made:
    """Something that stages need, made by one command; `needs` are names of others, `room` is part of a place.

    A place is what a process needs that always computes.
    """

    name: str
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ()
    room: float = 1.0


@dataclass(frozen=True)
class Stage:
    """Tests of one directory below tests/.

    `root` is the root file system of vm/roots in which they run, "" for this machine. `alone` are measurements, which
    nothing may run beside. `workers` is how many processes share the tests at most, 0 for one a processor; `waits` are
    tests that often wait for something, of which one more may run.
    """

    name: str
    needs: tuple[str, ...]
    root: str = ""
    workers: int = 0
    alone: bool = False
    waits: bool = False

    @property
    def directory(self) -> str:
        """The directory of the tests, from the top of the repository."""
        return f"tests/{self.name}"

    def argv(self, python: str, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs pytest with `arguments` where the stage's tests belong."""
        pytest = ["-m", "pytest", "-p", "tests.runner.share", *arguments]
        if self.alone:
            # A measurement takes as long as it takes.
            pytest += ["-o", "faulthandler_timeout=0"]
        elif "--long" in arguments:
            # The life of a machine is several boots.
            pytest += ["-o", "faulthandler_timeout=3600"]
        if not self.root:
            return [python, *pytest]
        # pytest and what it needs are pure Python, so the root's own interpreter runs them from the environment here.
        site = sysconfig.get_path("purelib")
        return ["vm/enter", self.root, "env", f"PYTHONPATH={site}", "python3", *pytest]


def _root(name: str) -> Made:
    # It waits for packages half of the time.
    return Made(f"root {name}", ("vm/enter", name, "true"), room=0.5)


MADE: Final = {
    made.name: made
    for made in (
        _root("builder"),
        _root("live"),
        _root("emulator"),
        _root("forky"),
        _root("bookworm"),
        _root("full"),
        _root("server"),
        _root("inits"),
        Made("image", ("vm/build", "live.oci"), ("root builder", "root live")),
        Made("foreign tars", ("vm/tars/make",), ("root builder",)),
        Made("artefacts", ("vm/build",), ("image", "root emulator")),
        Made(
            "other images",
            ("vm/build", "kexec-small.oci", "live-full.oci", "initrd-container.img", "initrd-bookworm.img"),
            ("artefacts", "root forky", "root full", "root bookworm"),
        ),
        Made("server image", ("vm/build", "server.oci"), ("image", "root server")),
    )
}

STAGES: Final = {
    stage.name: stage
    for stage in (
        Stage("lint", (), workers=1),
        Stage("unit", ()),
        Stage("integration", ("image", "foreign tars", "root inits"), root="builder"),
        Stage("roots", ("image", "root forky", "root bookworm")),
        Stage("vm", ("artefacts", "other images", "root inits"), waits=True),
        Stage("bench", ("image", "server image"), root="builder", alone=True, workers=1),
        Stage("guests", ("artefacts",), alone=True, workers=1),
    )
}
ORDINARY: Final = ("lint", "unit", "integration", "roots", "vm")
"""What runs where nothing is named, in this order."""


def everything_needed(stages: Sequence[Stage]) -> list[Made]:
    """Return all that the stages need, directly or not, in the order of `MADE`."""
    wanted = {name for stage in stages for name in stage.needs}
    for made in reversed(MADE.values()):
        if made.name in wanted:
            wanted.update(made.needs)
    return [made for made in MADE.values() if made.name in wanted]
