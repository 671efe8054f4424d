"""The interface of boot loaders."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from bootc_live.base.errors import ConfigError, LandingError
from bootc_live.config.next_kernel.cmdline import MOST_BYTES
from bootc_live.formats.boot_entry import Entry, EntryName, boot_order
from bootc_live.rootfs.boot_files.files import BootFile

# As many as one digit can count: GRUB has no arithmetic.
MOST_TRIES = 9
# How often a new deployment is started that nobody has called good.
TRIES = 3


@dataclass(frozen=True)
class Esp:
    """The EFI system partition of a machine whose boot partition is another one, which it finds by ``boot_uuid``.

    ``directory`` is where it is mounted. It is needed to install a boot loader only.
    """

    directory: str
    boot_uuid: str


class BootLoader(Protocol):
    """A boot loader on the boot partition, which is mounted at ``boot``; methods raise BootcLiveError.

    Whatever ends a method, and when: the boot partition has an entry whose files are whole, if it had one before. What
    is left of it is removed by the next method that writes. Only one process may write at a time.
    """

    def install(self, root: str, boot: str, esp: Esp | None = None) -> None:
        """Copy the boot loader out of the tree ``root``, or replace it by the one there; entries stay.

        It goes to ``esp``, or to the boot partition if that is the EFI system partition.
        """
        ...

    def entries(self, boot: str) -> list[Entry]:
        """Return the entries, the one that is started next first."""
        ...

    def default(self, boot: str) -> Entry | None:
        """Return the entry that is started next, unless somebody chooses another one; None if there is none."""
        ...

    def add(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> Entry:
        """Write an entry and its files, and return it with its paths; it replaces those of the same deployment.

        The paths of ``entry`` are not used. Without initrd, the kernel is a unified kernel image.
        """
        ...

    def promote(self, boot: str, deployment: int, order: int, left: int | None = None) -> Entry:
        """Give the entry of a deployment another order and counter, and return it."""
        ...

    def bless(self, boot: str, deployment: int) -> None:
        """Remove the counter of an entry: the deployment is good."""
        ...

    def count(self, boot: str, deployment: int) -> None:
        """Take a try from the entry of a deployment, if it is counted, as the boot loader does when it starts it."""
        ...

    def remove(self, boot: str, deployment: int) -> None:
        """Remove the entry of a deployment, if there is one, and files that no other one uses."""
        ...

    def leftovers(self, boot: str) -> list[str]:
        """Return the paths of what is left of methods that were interrupted, and that no entry uses."""
        ...

    def tidy(self, boot: str) -> None:
        """Remove them."""
        ...

    def damaged(self, boot: str) -> list[str]:
        """Return the paths, from the top of the boot partition, of directories with kernels that were changed.

        Also that of a file of all entries, which is written again by ``tidy``.
        """
        ...

    def broken(self, boot: str) -> list[EntryName]:
        """Return the names of entries that have to be written again, of deployments that have no other entry.

        No method but ``remove`` removes what is left of them, or a kernel that is whole and may be theirs.
        """
        ...

    def restore(self, boot: str, entry: Entry, kernel: BootFile, initrd: BootFile | None) -> None:
        """Write an entry that is there or damaged again, with its files; arguments are those of ``add``."""
        ...


def next_order(loader: BootLoader, boot: str) -> int:
    """Return the order of a new entry that comes before all others, also before those that are damaged."""
    return _after([*(entry.name for entry in loader.entries(boot)), *loader.broken(boot)])


def _after(names: Iterable[EntryName]) -> int:
    return max((name.order for name in names), default=0) + 1


def sorted_entries(entries: list[Entry]) -> list[Entry]:
    """Return entries in the order of boot loaders."""
    return sorted(entries, key=lambda entry: boot_order(entry.name))


def entry_of(entries: list[Entry], deployment: int) -> Entry:
    """Return the newest entry of a deployment; raise LandingError if it has none."""
    found = [entry for entry in entries if entry.name.deployment == deployment]
    if not found:
        raise LandingError(f"deployment {deployment} has no boot entry", hint="choose a deployment that has one")
    # A good one has replaced a counted one of the same order.
    return min(found, key=lambda entry: (-entry.name.order, entry.name.left is not None, boot_order(entry.name)))


def counted(name: EntryName) -> EntryName:
    """Return the name of an entry after a boot loader has started it."""
    return replace(name, left=name.left - 1, done=name.done + 1) if name.left else name


def check_new(name: EntryName, present: list[Entry]) -> None:
    """Raise ValueError for an entry that would not come first, or that cannot be counted."""
    if (
        name.order < _after(entry.name for entry in present)
        or name.deployment < 1
        or name.order >= 10**9
        or name.deployment >= 10**9
    ):
        raise ValueError(f"{name} cannot be a new entry")
    if name.left is not None and not 0 <= name.left + name.done <= MOST_TRIES:
        raise ValueError(f"{name} has more than {MOST_TRIES} tries")


def check_remove(present: list[Entry], deployment: int) -> None:
    """Raise LandingError if no entry of another deployment would be left."""
    if all(entry.name.deployment == deployment for entry in present):
        raise LandingError(
            f"deployment {deployment} has the only boot entry of this machine", hint="add another deployment before"
        )


def check_texts(entry: Entry, added: int = 0) -> None:
    """Raise ConfigError for a command line that the kernel or a boot loader would not use as it is.

    ``added`` is the number of bytes that the boot loader adds.
    """
    size = len(entry.cmdline.encode(errors="surrogateescape")) + added
    if size > MOST_BYTES:
        raise ConfigError(
            f"the kernel command line has {size} bytes, but kernels accept at most {MOST_BYTES}",
            hint="use fewer kernel arguments",
        )
    if not (entry.cmdline + entry.title).isprintable():
        raise ConfigError(
            f"the kernel command line {entry.cmdline!r} has characters that cannot be written into a boot entry",
            hint="leave out control characters",
        )
    # systemd-boot takes away quotes around the whole line.
    if entry.cmdline != entry.cmdline.strip() or (entry.cmdline[:1] == entry.cmdline[-1:] == '"'):
        raise ConfigError(
            f"the kernel command line {entry.cmdline!r} cannot begin and end with quotes or spaces",
            hint="put an argument without quotes first",
        )
