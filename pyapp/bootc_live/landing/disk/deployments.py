"""The deployments on a disk: numbered directories, each with a record that never changes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum

from bootc_live.base.errors import LandingError, OutOfMemoryError, RootfsError
from bootc_live.base.numbers import bounded_integer
from bootc_live.base.output import format_json
from bootc_live.system.cleanup.directories import remove_path, remove_tree
from bootc_live.system.files import no_space, sync_filesystem

_FULL = "remove old deployments with bootc-live prune, or use a larger disk"
_RECORD, _ETC, _PINNED, _STARTED = "deployment.json", "etc", "pinned", "started"
_NEW, _GONE = ".new", ".gone-"


class PassedOver(StrEnum):
    """Why an upgrade does not take an image, and the directory that has the digests of such images."""

    FAILED = "failed"
    LEFT = "left"


@dataclass(frozen=True)
class Deployment:
    """One root on the disk.

    ``source`` is the image as typed, ``image`` its digest, ``root`` the fs-verity digest of its metadata in hexadecimal
    digits, ``created`` the time in UTC, ``trust`` what was decided about signatures. ``kernel`` is the release of its
    kernel, ``arguments`` are the kernel arguments that the image brought. ``verity`` tells whether the kernel can check
    its files when they are read. ``layers`` are the diffIDs of the image's layers, and ``boot_layers`` of those that
    its kernel and initramfs were copied from, none if one of them was not. A root in a slot has the PARTUUID of that,
    and the number of blocks that dm-verity checks; ``root`` is the root hash then.
    """

    number: int
    source: str
    image: str
    root: str
    created: str
    kernel: str
    verity: bool
    arguments: tuple[str, ...] = ()
    trust: dict[str, object] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    boot_layers: tuple[str, ...] = ()
    slot: str = ""
    blocks: int = 0


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise errors of the block that come from writing ``what`` to the disk as RootfsError or OutOfMemoryError."""
    try:
        yield
    except OutOfMemoryError as error:
        error.hint = _FULL
        raise
    except OSError as error:
        full = no_space(error)
        raise RootfsError(
            f"{what} cannot be written to the disk: {'it is full' if full else error.strerror}",
            hint=_FULL if full else "make sure that it is mounted read-write; look at the kernel log (dmesg)",
        ) from error


class Deployments:
    """The deployments below ``bootc-live`` of a mounted file system, which is ``disk``."""

    def __init__(self, disk: str) -> None:
        """Read and write there; nothing has to exist yet."""
        self.top = os.path.join(disk, "bootc-live")
        self.objects, self.images = os.path.join(self.top, "objects"), os.path.join(self.top, "images")
        self.var = os.path.join(disk, "var")
        self._directory = os.path.join(self.top, "deployments")

    def make(self) -> None:
        """Make the directories that are missing; raise OSError."""
        os.makedirs(self.top, 0o700, exist_ok=True)
        for path in (self.objects, self.images, self._directory):
            os.makedirs(path, 0o755, exist_ok=True)

    def all(self) -> list[Deployment]:
        """Return those with a readable record, the oldest first; raise OSError."""
        found = []
        for number in self._numbers():
            with suppress(LandingError):
                found.append(self.read(number))
        return found

    def damaged(self) -> list[int]:
        """Return the numbers of those whose record cannot be read, which cannot boot; raise OSError."""
        return sorted({*self._numbers()} - {deployment.number for deployment in self.all()})

    def read(self, number: int) -> Deployment:
        """Return a deployment by its number; raise LandingError."""
        path = os.path.join(self._directory, str(number), _RECORD)
        try:
            with open(path, encoding="utf-8") as file:
                data = json.load(file)
            known = {each.name: data[each.name] for each in fields(Deployment) if each.name in data}
            for name in ("arguments", "layers", "boot_layers"):
                known[name] = tuple(map(str, data.get(name, ())))
            # It becomes a part of a table of the device mapper. EROFS counts blocks in 32 bits.
            known["blocks"] = bounded_integer(data.get("blocks", 0), limit=2**32)
            return Deployment(**{**known, "slot": str(data.get("slot", "")), "number": number})
        except FileNotFoundError as error:
            raise LandingError(
                f"there is no deployment {number} on this disk", hint="bootc-live status lists them"
            ) from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise LandingError(
                f"the record of deployment {number} is damaged: {error}", hint="boot another deployment"
            ) from error

    def next_number(self) -> int:
        """Return the number that the next deployment gets: larger than any that there was."""
        return max([*self._numbers(), *self._numbers(_GONE)], default=0) + 1

    @contextmanager
    def adding(self, deployment: Deployment) -> Iterator[str]:
        """Yield a new directory to fill with an /etc; it becomes that of the deployment with the end of the block.

        It is whole or not there, also after a power cut. Raise OSError.
        """
        new = os.path.join(self._directory, _NEW)
        self.tidy()
        os.mkdir(new, 0o755)
        try:
            yield new
            with open(os.path.join(new, _RECORD), "x", encoding="utf-8") as file:
                file.write(f"{format_json(asdict(deployment))}\n")
            # What the new name promises has to be on the disk before it.
            sync_filesystem(self._directory)
            os.rename(new, os.path.join(self._directory, str(deployment.number)))
            sync_filesystem(self._directory)
        finally:
            remove_tree(new)

    def etc(self, number: int) -> str:
        """Return the path of a deployment's writable /etc."""
        return os.path.join(self._directory, str(number), _ETC)

    def is_pinned(self, number: int) -> bool:
        """Return whether a deployment is kept whatever is pruned."""
        return os.path.exists(os.path.join(self._directory, str(number), _PINNED))

    def pin(self, number: int, *, pinned: bool) -> None:
        """Keep a deployment whatever is pruned, or not; raise LandingError and OSError."""
        self.read(number)
        path = os.path.join(self._directory, str(number), _PINNED)
        if pinned:
            with open(path, "ab"):
                pass
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def is_started(self, number: int) -> bool:
        """Return whether a deployment was booted at least once: its /etc is its own since."""
        return os.path.exists(os.path.join(self._directory, str(number), _STARTED))

    def start(self, number: int) -> None:
        """Remember that a deployment was booted; raise OSError."""
        with open(os.path.join(self._directory, str(number), _STARTED), "ab"):
            pass

    def passed_over(self, why: PassedOver) -> set[str]:
        """Return the digests of images that upgrades pass over for a reason, also of deployments that are gone."""
        with suppress(FileNotFoundError):
            return set(os.listdir(os.path.join(self.top, why)))
        return set()

    def pass_over(self, why: PassedOver, image: str) -> None:
        """Let upgrades pass over the image with a digest, also after a power cut; raise OSError."""
        directory = os.path.join(self.top, why)
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, image), "ab"):
            pass
        sync_filesystem(directory)

    def accept(self, why: PassedOver, image: str) -> None:
        """Forget that upgrades pass over the image with a digest for a reason, if they do; raise OSError."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.top, why, image))

    def remove(self, number: int) -> None:
        """Remove a deployment's directory; its objects are left to ``prune``. Raise OSError."""
        os.rename(os.path.join(self._directory, str(number)), os.path.join(self._directory, f"{_GONE}{number}"))
        self.tidy()

    def leftovers(self) -> list[str]:
        """Return the paths of what an interrupted run has left; raise OSError."""
        unfinished = [os.path.join(self._directory, _NEW), *(f"{self.etc(number)}{_NEW}" for number in self._numbers())]
        found = [path for path in unfinished if os.path.lexists(path)]
        for number in self._numbers(_GONE):
            gone = os.path.join(self._directory, f"{_GONE}{number}")
            # The name of the last one remains, so that no other deployment gets its number.
            last = number + 1 == self.next_number()
            found += [os.path.join(gone, name) for name in os.listdir(gone)] if last else [gone]
        return found

    def tidy(self) -> None:
        """Remove them; raise OSError."""
        for path in self.leftovers():
            remove_path(path)

    def _numbers(self, prefix: str = "") -> list[int]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        found = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
        return sorted(int(name) for name in found if name.isdecimal() and name.isascii())
