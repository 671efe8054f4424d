"""zram devices as the kernel shows them; the whole machine shares them, so each is known by its sequence number."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from bootc_live.system.devices import zram

SETTLE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Device:
    """One device, for as long as it lives."""

    name: str
    sequence: str

    @property
    def folder(self) -> Path:
        """Its directory of sysfs."""
        return Path("/sys/block", self.name)

    def there(self) -> bool:
        """Whether it is there, and not another one of the same name."""
        try:
            return (self.folder / "diskseq").read_text().strip() == self.sequence
        except OSError:
            return False

    def gone(self) -> bool:
        """Whether it goes away before long."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.there() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.there()

    def remove(self) -> None:
        """Takes it away once nothing uses it any more."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.there():
            with suppress(OSError):
                Path("/sys/class/zram-control/hot_remove").write_text(self.name.removeprefix("zram"))
            assert time.monotonic() < deadline, f"{self.name} is still in use"

    def read(self, name: str) -> str:
        """An attribute, without white space around it."""
        return (self.folder / name).read_text().strip()


def own_size(least: int, pages: int = 2**14) -> int:
    """A size in bytes that is that large, or up to so many pages larger: other tests of this machine take another one.

    They run in mount namespaces of their own, of which each has a number that no other has.
    """
    return least + os.stat("/proc/self/ns/mnt").st_ino % pages * 4096


def devices(of: Callable[[int], bool]) -> set[Device]:
    """Those of whose size in bytes `of` is true; others may come and go meanwhile."""
    found = set()
    for folder in Path("/sys/block").glob("zram*"):
        with suppress(OSError):
            if of(int((folder / "disksize").read_text())):
                found.add(device(folder.name))
    return found


def device(path: str) -> Device:
    """The device at a path below /dev."""
    name = Path(path).name
    return Device(name, Path("/sys/block", name, "diskseq").read_text().strip())


@dataclass
class Made:
    """The devices that the program made in this process."""

    devices: list[Device] = field(default_factory=list)

    def none_left(self) -> bool:
        """Whether there were some, and all of them went away."""
        return bool(self.devices) and all(made.gone() for made in self.devices)


@contextmanager
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Notes every device that is made, also those nobody is told of because setting them up fails."""
    made, real = Made(), zram._set_up

    def noting(number: int, *rest: object) -> None:
        made.devices.append(device(f"/dev/zram{number}"))
        real(number, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(zram, "_set_up", noting)
        yield made
