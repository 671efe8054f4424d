"""One boot against servers that misbehave, as a test wants to look at it: from the kernel arguments to the tree."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lib.fault_image import Published
from tests.lib.program import Ended, Program
from tests.lib.tree_list import Line, differences, tree_list

# Nothing is to take long here; what these allow for is a busy machine. It is about the end, not about speed.
SOON: Final = 120.0
READ_ONLY: Final = "bootc.live.etc.rw=0 bootc.live.var.rw=0"
# A server that stands still makes every test wait for its stall, so that is short for those alone. For others a busy
# machine must not look like one: none of their requests may be made twice.
_LONG: Final = "bootc.live.retry.stall=60s bootc.live.retry.total=300s"
PATIENT: Final = f"bootc.live.retry.tries=5 {_LONG}"
STALLED: Final = "bootc.live.retry.tries=5 bootc.live.retry.stall=5s bootc.live.retry.total=300s"
# For what fails for ever, and what ends only with all its time.
IMPATIENT: Final = f"bootc.live.retry.tries=2 {_LONG}"
STALLED_FOR_EVER: Final = "bootc.live.retry.tries=2 bootc.live.retry.stall=2s bootc.live.retry.total=300s"
BRIEF: Final = "bootc.live.retry.tries=2 bootc.live.retry.stall=60s bootc.live.retry.total=8s"


@dataclass(frozen=True)
class Boot:
    """How a boot ended: what it said, its receipt and tree if it succeeded, and how many seconds it took."""

    ended: Ended
    receipt: dict[str, Any]
    tree: list[Line]
    seconds: float

    def of(self, image: Published) -> Boot:
        """Itself, if it made the root of `image`."""
        self.ended.good()
        assert not differences(image.tree, self.tree)
        assert self.receipt["image"]["manifest_digest"] == image.digest
        return self

    def error(self, *named: str) -> str:
        """The one error of a boot that failed as it should, and soon; `named` must be in it."""
        told = self.ended.error(*named)
        assert self.seconds < SOON, f"it took {self.seconds:.0f} s:\n{self.ended.stderr}"
        return told

    def without(self, *secrets: str) -> Boot:
        """Itself, if no secret is in what it said or wrote down."""
        said = self.ended.stdout + self.ended.stderr + json.dumps(self.receipt)
        for secret in secrets:
            assert secret not in said, f"{secret} is in:\n{said}"
        return self


def boot(program: Program, source: str, where: Path, kargs: str = "", *, env: Mapping[str, str] | None = None) -> Boot:
    """Boots `source` with `kargs` to a new sysroot below `where`, in the workspace that a boot has by default.

    The root is gone again afterwards; a boot that failed has left nothing, not even a receipt.
    """
    root, receipt = where / "sysroot", where / "receipt.json"
    root.mkdir()
    cmdline = f"root=bootc-live:{source} {READ_ONLY} {kargs}"
    begun = time.monotonic()
    ended = program.run("boot", "--cmdline", cmdline, "--sysroot", root, "--receipt", receipt, env=env)
    seconds = time.monotonic() - begun
    if ended.status != 0:
        assert not receipt.exists()
        assert list(root.iterdir()) == []
        return Boot(ended, {}, [], seconds)
    try:
        return Boot(ended, json.loads(receipt.read_text()), tree_list(root), seconds)
    finally:
        _unmount(root)


def _unmount(root: Path) -> None:
    deadline = time.monotonic() + SOON
    while (done := subprocess.run(["umount", "-R", root], capture_output=True, text=True, check=False)).returncode:
        # A process that another thread is just starting holds all our files, until it is the program it is to be.
        assert "busy" in done.stderr, done.stderr
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.05)
