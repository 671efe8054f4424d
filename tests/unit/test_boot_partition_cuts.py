"""Power cuts and errors at every step of every change: what is started is whole, and what is left is removed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.landing.disk.boot_partition.interface import BootLoader
from tests.lib.power_cut import LOSSES, Loss, Steps, power_cut
from tests.unit.boot_partitions import STYLES, SYNCING, Started, Style, add, leftovers, quick, started

__all__ = ["quick"]

# More steps than any change has.
MOST = 200


@dataclass(frozen=True)
class Change:
    """A change of a partition with deployments 1 and 2 (the newer one, on trial), and what may be started then."""

    name: str
    make: Callable[[BootLoader, Path, Path], object]
    before: Started
    after: Started


CHANGES = (
    Change("add", lambda loader, boot, scratch: add(loader, boot, scratch, 3, 3, 3, 3), started(2, 2), started(3, 3)),
    Change(
        "add with a kernel that is there",
        lambda loader, boot, scratch: add(loader, boot, scratch, 3, 3, 1),
        started(2, 2),
        started(3, 1),
    ),
    Change(
        "add in place of itself",
        lambda loader, boot, scratch: add(loader, boot, scratch, 3, 2, 3),
        started(2, 2),
        started(2, 3),
    ),
    Change("bless", lambda loader, boot, _: loader.bless(str(boot), 2), started(2, 2), started(2, 2)),
    Change("roll back", lambda loader, boot, _: loader.promote(str(boot), 1, 3), started(2, 2), started(1, 1)),
    Change("remove the default", lambda loader, boot, _: loader.remove(str(boot), 2), started(2, 2), started(1, 1)),
    Change("remove another", lambda loader, boot, _: loader.remove(str(boot), 1), started(2, 2), started(2, 2)),
)


@pytest.mark.parametrize(
    "loss", [loss if loss == "all but the last" else pytest.param(loss, marks=pytest.mark.long) for loss in LOSSES]
)
@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
@pytest.mark.parametrize("style", STYLES, ids=[style.name for style in STYLES])
def test_cut_at_every_step(style: Style, change: Change, loss: Loss, tmp_path: Path) -> None:
    loader, fresh, boot = style.make(), tmp_path / "fresh", tmp_path / "boot"
    fresh.mkdir()
    style.prepare(fresh)
    with power_cut(0, tmp_path, *SYNCING):
        add(loader, fresh, tmp_path, 1, 1, files=1)
        add(loader, fresh, tmp_path, 2, 2, files=2, left=2)
    cut = 0
    while True:
        cut += 1
        shutil.rmtree(boot, ignore_errors=True)
        shutil.copytree(fresh, boot)
        with power_cut(cut, tmp_path, *SYNCING) as steps:
            change.make(loader, boot, tmp_path)
        if not steps.dead:
            break
        steps.lose(loss)
        assert style.starts(boot) in (change.before, change.after), f"cut {cut}"
        with power_cut(0, tmp_path, *SYNCING):
            add(loader, boot, tmp_path, 9, 9, files=2)
            # As an upgrade does with what has no deployment.
            for name in loader.broken(str(boot)):
                loader.remove(str(boot), name.deployment)
        assert style.starts(boot) == started(9, 2), f"cut {cut}"
        assert leftovers(boot) == [], f"cut {cut}"
    assert style.starts(boot) == change.after
    assert 2 < cut < MOST


def failure(change: Callable[[], object], steps: Steps) -> str | None:
    """The error of a change, if it had one."""
    try:
        with steps.counted(*SYNCING):
            change()
    except (LandingError, OSError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("change", CHANGES, ids=[change.name for change in CHANGES])
@pytest.mark.parametrize("style", STYLES, ids=[style.name for style in STYLES])
def test_full_at_every_step(style: Style, change: Change, tmp_path: Path) -> None:
    """Nothing unfinished stays, not even until the next change."""
    loader, fresh, boot = style.make(), tmp_path / "fresh", tmp_path / "boot"
    fresh.mkdir()
    style.prepare(fresh)
    with power_cut(0, tmp_path, *SYNCING):
        add(loader, fresh, tmp_path, 1, 1, files=1)
        add(loader, fresh, tmp_path, 2, 2, files=2, left=2)
    for last in range(1, MOST):
        shutil.rmtree(boot, ignore_errors=True)
        shutil.copytree(fresh, boot)
        steps = Steps(last, tmp_path, errno.ENOSPC)
        said = failure(lambda: change.make(loader, boot, tmp_path), steps)
        # Scratch files of UKIs are not on the partition.
        assert said is None or "is full" in said or style.name.startswith("uki")
        assert list(boot.rglob("*.new")) == [], f"step {last}"
        assert style.starts(boot) in (change.before, change.after), f"step {last}"
        if steps.count < last:
            break
    assert style.starts(boot) == change.after
