"""The deployments on a disk: numbered directories, each with a record that never changes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum

from bootc_live.base.errors import LandingError, OutOfMemoryError, RootfsError
from bootc_live.base.numbers import bounded_integer
from bootc_live.base.output import format_json
from bootc_live.formats.json_text import read_json
from bootc_live.system.cleanup.directories import remove_path, remove_tree
from bootc_live.system.files import no_space, sync_filesystem

_FULL = "remove old deployments with bootc-live prune, or use a larger disk"
_RECORD, _ETC, _PINNED, _STARTED = "deployment.json", "etc", "pinned", "started"
_NEW, _GONE = ".new", ".gone-"
# As boot entries have them; a number has one spelling.
_NUMBER = re.compile("[1-9][0-9]{0,8}")
_LARGEST_RECORD = 2**22
_DIGEST = re.compile("[0-9a-f]{64}")
# What becomes a file's name, or a word in one line.
_WORD = re.compile(r"(?!\.\.?$)[^/\s\x00-\x1f]+")


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
        """Make the directories that are missing; raise OSError, and LandingError as ``require_directories``."""
        self.require_directories()
        os.makedirs(self.top, 0o700, exist_ok=True)
        for path in (self.objects, self.images, self._directory):
            os.makedirs(path, 0o755, exist_ok=True)

    def require_directories(self) -> None:
        """Raise LandingError if one of the directories is a link: what is written and removed would be elsewhere."""
        for path in (self.top, self.objects, self.images, self._directory):
            if os.path.islink(path):
                raise LandingError(
                    f"{path!r} is a symbolic link, and has to be a directory", hint="move the directory there instead"
                )

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
            return _deployment(read_json(_content(path)), number)
        except FileNotFoundError as error:
            raise LandingError(
                f"there is no deployment {number} on this disk", hint="bootc-live status lists them"
            ) from error
        except (OSError, ValueError) as error:
            raise LandingError(
                f"the record of deployment {number} is damaged: {error}", hint="boot another deployment"
            ) from error

    def is_lost(self, number: int) -> bool:
        """Return whether a deployment can never boot again: it has no record, or one that says nothing.

        One that cannot be read because of the device or its file system may be whole.
        """
        try:
            self.read(number)
        except LandingError as error:
            return isinstance(error.__cause__, FileNotFoundError | ValueError)
        return False

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
        """Keep a deployment whatever is pruned, or not; raise LandingError and OSError.

        One whose record is damaged can only be let go.
        """
        directory = os.path.join(self._directory, str(number))
        if pinned or not os.path.isdir(directory):
            self.read(number)
        path = os.path.join(directory, _PINNED)
        if pinned:
            with open(path, "ab"):
                pass
        else:
            with suppress(FileNotFoundError):
                os.unlink(path)

    def is_started(self, number: int) -> bool:
        """Return whether a deployment was booted at least once: its /etc is its own since."""
        return os.path.exists(os.path.join(self._directory, str(number), _STARTED))

    def is_own(self, number: int) -> bool:
        """Return whether a deployment was booted or pinned: it is not what an interrupted upgrade has left."""
        return self.is_started(number) or self.is_pinned(number)

    def start(self, number: int) -> None:
        """Remember that a deployment was booted; raise OSError."""
        with open(os.path.join(self._directory, str(number), _STARTED), "ab"):
            pass

    def passed_over(self, why: PassedOver) -> set[str]:
        """Return the digests of images that upgrades pass over for a reason, also of deployments that are gone."""
        # What else has this name is no reason to end: fsck names it.
        with suppress(FileNotFoundError, NotADirectoryError):
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

    def strange(self) -> list[str]:
        """Return the paths of what nothing here has made, where deployments and marks are; raise OSError."""
        known = {_NEW, *map(str, self._numbers()), *(f"{_GONE}{number}" for number in self._numbers(_GONE))}
        found = [os.path.join(self._directory, name) for name in _names(self._directory) if name not in known]
        for why in PassedOver:
            marks = os.path.join(self.top, why)
            if os.path.lexists(marks) and not os.path.isdir(marks):
                found.append(marks)
            else:
                paths = (os.path.join(marks, name) for name in _names(marks))
                found += [path for path in paths if not os.path.isfile(path)]
        return sorted(found)

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
        names = _names(self._directory)
        found = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
        return sorted(int(name) for name in found if _NUMBER.fullmatch(name))


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _content(path: str) -> bytes:
    """Return the content of a regular file that is not large; raise OSError and ValueError."""
    # A FIFO would wait for a writer.
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    with open(path, "rb", opener=lambda path, mode: os.open(path, mode | flags)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is no regular file")
        content = file.read(_LARGEST_RECORD + 1)
    if len(content) > _LARGEST_RECORD:
        raise ValueError(f"it is larger than {_LARGEST_RECORD} bytes")
    return content


def _deployment(data: object, number: int) -> Deployment:
    """Return the deployment that a record describes; raise ValueError."""
    if not isinstance(data, dict):
        raise ValueError("it is no JSON object")
    verity, trust = data.get("verity"), data.get("trust", {})
    if not isinstance(verity, bool) or not isinstance(trust, dict):
        raise ValueError("'verity' or 'trust' is missing, or of another kind")
    return Deployment(
        number=number,
        source=_text(data, "source"),
        image=_text(data, "image", _WORD),
        root=_text(data, "root", _DIGEST),
        created=_text(data, "created"),
        kernel=_text(data, "kernel"),
        verity=verity,
        arguments=_texts(data, "arguments"),
        trust=trust,
        layers=_texts(data, "layers", _WORD),
        boot_layers=_texts(data, "boot_layers", _WORD),
        slot=_text(data, "slot", _WORD) if data.get("slot") else "",
        # It becomes a part of a table of the device mapper. EROFS counts blocks in 32 bits.
        blocks=bounded_integer(data.get("blocks", 0), limit=2**32),
    )


def _text(data: Mapping[str, object], name: str, form: re.Pattern[str] | None = None) -> str:
    value = data.get(name)
    if not isinstance(value, str) or (form is not None and not form.fullmatch(value)):
        raise ValueError(f"{name!r} is missing, or of another kind")
    return value


def _texts(data: Mapping[str, object], name: str, form: re.Pattern[str] | None = None) -> tuple[str, ...]:
    values = data.get(name, [])
    if not isinstance(values, list):
        raise ValueError(f"{name!r} is of another kind")
    return tuple(_text({name: value}, name, form) for value in values)
