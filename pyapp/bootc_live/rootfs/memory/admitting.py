"""The one who is asked whether an image may be fetched, and remembers what was decided."""

from __future__ import annotations

import os
from dataclasses import replace

from bootc_live.base.errors import RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.config.model import Backing, Compression, Layout
from bootc_live.image.size.estimate import Estimate, estimate
from bootc_live.image.verified import ResolvedImage
from bootc_live.rootfs.layouts.erofs.compressor import compressor
from bootc_live.rootfs.memory.choose import Choice, Means, choose
from bootc_live.rootfs.memory.machine import Room
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.source.interface import AnySource
from bootc_live.system.memory import available_bytes, total_bytes

_ZRAM = "/sys/class/zram-control"
_IN_RAM = frozenset({"tmpfs", "ramfs", "rootfs"})


class Admission:
    """Estimates an image and chooses its layout when called; see ``image.admit.Admit``."""

    def __init__(self, layout: Layout, compress: Compression, room: Room, means: Means, recorder: Recorder) -> None:
        """``room`` is measured before anything is fetched, because what other sources left behind does not count."""
        self.room = room
        self.estimate: Estimate | None = None
        self.choice: Choice | None = None
        self.begun: StorageOption | None = None
        """The only way that can still be taken, once layers have been used up on it."""
        self._layout = layout
        self._compress = compress
        self._means = means
        self._recorder = recorder

    def __call__(self, source: AnySource, image: ResolvedImage) -> None:
        """Decide, and say what was decided; raises AdmissionError where the image does not fit."""
        self.choice = None
        with self._recorder.phase("estimate", "looking how large the image is"):
            self.estimate = estimate(source, image)
        self._recorder.say(
            f"{mib(self.estimate.size)} to fetch, {mib(self.estimate.unpacked)} unpacked{self._guessed()}"
        )
        self.choice = choose(
            image.typed, self._layout, self._compress, self.estimate, self.room, self._means, self.begun
        )
        self._recorder.say(self.choice.why)
        if self.choice.warning is not None:
            self._recorder.warn(self.choice.warning)

    def _guessed(self) -> str:
        guessed = self.estimate.guessed if self.estimate is not None else 0
        # What is too small to be looked at is not worth a word.
        return f" ({mib(guessed)} of that are guessed)" if guessed > 2**20 else ""


def present_room(backing: Backing, directory: str | None = None) -> Room:
    """Give the room on this machine as it is now; ``directory`` is where to build, where somebody chose that.

    Where the backing is said, too, there will be a file system in RAM in that directory.
    """
    room = Room(available_bytes(), total_bytes(), backing)
    if directory is None or backing != Backing():
        return room
    usage = os.statvfs(directory)
    return replace(room, free=usage.f_bavail * usage.f_frsize, on_disk=kind_of(directory) not in _IN_RAM)


def kind_of(path: str, mountinfo: str = "/proc/self/mountinfo") -> str:
    """Give the type of the file system that a path lies on (proc_pid_mountinfo(5)), or nothing."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
        lines = (line.split(" ") for line in file)
        return next((fields[fields.index("-") + 1] for fields in lines if fields[2] == number), "")


def present_means(zram: str = _ZRAM, modules: str | None = None) -> Means:
    """Give what can be done on this system; ``zram`` is the kernel's control directory, ``modules`` that of modules.

    What the kernel can mount is left open: images are also made for others.
    """
    able = frozenset(each for each in Compression if _loads(each))
    return Means(able, os.path.isdir(zram) or _has_module(modules or f"/lib/modules/{os.uname().release}", "zram"))


def _loads(compression: Compression) -> bool:
    if compression is Compression.NONE:
        return True
    try:
        compressor(compression, 1)
    except RootfsError:
        return False
    return True


def _has_module(directory: str, name: str) -> bool:
    """Look a module up in what depmod(8) wrote."""
    try:
        with open(os.path.join(directory, "modules.dep"), encoding="utf-8", errors="replace") as file:
            return any(os.path.basename(line.partition(":")[0]).partition(".")[0] == name for line in file)
    except OSError:
        return False
