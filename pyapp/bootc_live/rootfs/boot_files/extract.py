"""From sources to the files an image boots with, without making a root of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from bootc_live.base.log import Recorder
from bootc_live.base.redact import redact
from bootc_live.config.next_kernel.image_kargs import Verdict, verdict
from bootc_live.config.source_spec import SourceSpec
from bootc_live.image.acquire import Acquired, acquire
from bootc_live.image.admit import Admit, admit_all
from bootc_live.image.layout_recorder import LayoutRecorder, RecordedLayout
from bootc_live.image.sink import Takers
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.boot_files.files import BootFiles, boot_files
from bootc_live.rootfs.boot_files.filter import BootFileFilter, boot_file_filter
from bootc_live.rootfs.boot_files.kernel_choice import choose_kernel, module_versions
from bootc_live.rootfs.tree.merge import merge
from bootc_live.source.access import Access

# Characters of a warning that an image's author can choose.
_MOST_SAID = 500
_LEFT_OUT = {
    Verdict.FOR_DISK: "kernel arguments of the image that are about a root on a disk are left out, "
    "for here it is in memory",
    Verdict.REFUSED: "kernel arguments that an image may not bring along (about sources, the network, proxies or "
    "trust) are left out",
}


@dataclass(frozen=True)
class HandoverSpec:
    """Blobs are to be kept in a cpio, below its directory ``prefix``.

    ``room`` gives how many bytes of layers at the most, None for all. Where it does not do, the largest are left out,
    unless they have to be there as a ``whole``: then it is an error. ``admit`` is told of the image, and of its
    source, before either is asked.
    """

    prefix: str
    room: Callable[[], int | None] = lambda: None
    whole: Callable[[], bool] = lambda: False
    admit: Admit = admit_all


@dataclass(frozen=True)
class BootArtifacts:
    """A verified image, what it boots with, and its blobs; ``modules`` are the kernels it has modules for.

    ``layout`` is None where blobs were not wanted, or come from an archive that can only be read once.
    """

    acquired: Acquired
    files: BootFiles
    modules: frozenset[str]
    layout: RecordedLayout | None


@contextmanager
def extracted_boot_files(
    specs: Sequence[SourceSpec],
    access: Access,
    directory: str,
    recorder: Recorder,
    keep: HandoverSpec | None = None,
    machine: str | None = None,
) -> Iterator[BootArtifacts]:
    """Fetch and verify an image, and keep nothing of it in ``directory`` but what a boot loader takes, and its blobs.

    All of that is good while the block runs. ``machine`` is the uname name of the machine that will boot, this one's
    by default. Raises as ``acquire``, and ImageError for an image without the one kernel that bootc wants.
    """
    path = os.path.join(directory, "layers")
    readers = boot_file_filter(path)
    if keep is None:
        acquired, layout = acquire(specs, access, path, recorder, Takers(readers=readers)), None
    else:
        path_of_blobs = os.path.join(directory, "blobs.cpio")
        with closing(LayoutRecorder(path_of_blobs, keep.prefix, keep.room, whole=keep.whole)) as keeper:
            acquired = acquire(specs, access, path, recorder, Takers(keep.admit, readers=readers, blobs=keeper))
            layout = keeper.finish(acquired.image.resolved)
    image = acquired.image
    with recorder.phase("kernel", "looking for the image's kernel"):
        files, modules = _chosen(image, readers, directory, machine or os.uname().machine)
    files = _allowed(files, recorder)
    # Memory that the blobs need twice from here on: a tree of many files takes a lot.
    del readers
    yield BootArtifacts(acquired, files, modules, layout)


def _allowed(files: BootFiles, recorder: Recorder) -> BootFiles:
    """Leave out arguments that an image does not pass on, with warnings that name them."""
    judged = {word: verdict(word) for word in files.arguments}
    for why, said in _LEFT_OUT.items():
        words = " ".join(word for word, found in judged.items() if found is why)
        if words:
            recorder.warn(f"{said}: {redact(words)[:_MOST_SAID]}")
    return replace(files, arguments=tuple(word for word in files.arguments if judged[word] is Verdict.KEPT))


def _chosen(
    image: VerifiedImage, readers: BootFileFilter, directory: str, machine: str
) -> tuple[BootFiles, frozenset[str]]:
    root = merge(image, readers)
    chosen = choose_kernel(root, image.resolved.typed)
    return boot_files(chosen, image.path, directory, machine, image.resolved.typed), module_versions(root)
