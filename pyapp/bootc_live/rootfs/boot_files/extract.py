"""Extract the files an image boots with from fetched layers, without building a root."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace

from bootc_live.base.log import Recorder
from bootc_live.base.redact import redact
from bootc_live.config.next_kernel.image_kargs import Verdict, verdict
from bootc_live.image.candidate import Candidate
from bootc_live.image.layout_recorder import LayoutRecorder, RecordedLayout, RecordLimit
from bootc_live.image.recipe import Attempt, Fetched
from bootc_live.image.trust import TrustVerdict
from bootc_live.image.verified import ResolvedImage, VerifiedImage
from bootc_live.rootfs.boot_files.files import BootFiles, boot_files
from bootc_live.rootfs.boot_files.filter import BootFileFilter
from bootc_live.rootfs.boot_files.kernel_choice import choose_kernel, module_versions
from bootc_live.rootfs.tree.merge import merge

Limit = Callable[[Candidate], RecordLimit]
# Length of the part of a warning that the image's author can choose.
_MOST_SAID = 500
_LEFT_OUT = {
    Verdict.FOR_DISK: "kernel arguments of the image for a root on a disk are left out, because the root is in memory",
    Verdict.REFUSED: "kernel arguments that an image must not set (sources, network, proxies, trust) are left out",
}


@dataclass(frozen=True)
class BootArtifacts:
    """A verified image, the files it boots with, and the kernels it has ``modules`` for.

    ``layout`` has its blobs; it is None if they were not recorded, or come from an archive that can only be read once.
    """

    image: ResolvedImage
    verdict: TrustVerdict
    attempts: tuple[Attempt, ...]
    files: BootFiles
    modules: frozenset[str]
    layout: RecordedLayout | None


class BootFileRecipe:
    """Fetches an image and keeps only what a boot loader needs: a ``Recipe``. Use ``boot_file_recipe``."""

    begin = 0

    def __init__(self, directory: str, recorder: Recorder, limit: Limit, blobs: LayoutRecorder | None) -> None:
        """Keep files in ``directory``, and as many blobs as ``limit`` allows."""
        self.path = os.path.join(directory, "layers")
        self._directory, self._recorder, self._limit, self._blobs = directory, recorder, limit, blobs
        self._kept = BootFileFilter(self.path)

    def plan(self, found: Candidate) -> RecordLimit:
        """Decide how much of the image's blobs to record."""
        return self._limit(found)

    def fetch(self, found: Candidate, plan: RecordLimit) -> VerifiedImage:
        """Fetch the layers, and keep the files that may be needed; raise as ``Candidate.fetch``."""
        if self._blobs is not None:
            self._blobs.limit = plan
        return found.fetch(self._kept, self._blobs)

    def extract(self, fetched: Fetched[RecordLimit], machine: str | None = None) -> BootArtifacts:
        """Return what the image boots with on a ``machine`` as named by uname, by default this one.

        Raise ImageError unless the image has the one kernel that bootc requires.
        """
        image = fetched.image
        layout = None if self._blobs is None else self._blobs.finish(image.resolved)
        with self._recorder.phase("kernel", "finding the image's kernel"):
            root = merge(image, self._kept)
            chosen = choose_kernel(root, image.resolved.source_text)
            machine = machine or os.uname().machine
            files = boot_files(chosen, image.path, self._directory, machine, image.resolved.source_text)
        permitted = allowed(files, self._recorder)
        modules = module_versions(root)
        return BootArtifacts(image.resolved, fetched.verdict, fetched.attempts, permitted, modules, layout)


@contextmanager
def boot_file_recipe(
    directory: str, recorder: Recorder, record: str | None = None, limit: Limit = lambda _: RecordLimit()
) -> Iterator[BootFileRecipe]:
    """Yield a recipe that keeps files in ``directory``; they stay there after the block.

    With ``record``, the image's blobs are also kept, below that directory of a cpio archive.
    """
    with ExitStack() as stack:
        blobs = None
        if record is not None:
            blobs = stack.enter_context(closing(LayoutRecorder(os.path.join(directory, "blobs.cpio"), record)))
        yield BootFileRecipe(directory, recorder, limit, blobs)


def allowed(files: BootFiles, recorder: Recorder) -> BootFiles:
    """Remove arguments that an image must not set, with warnings that name them."""
    judged = {word: verdict(word) for word in files.arguments}
    for why, said in _LEFT_OUT.items():
        words = " ".join(word for word, found in judged.items() if found is why)
        if words:
            recorder.warn(f"{said}: {redact(words)[:_MOST_SAID]}")
    return replace(files, arguments=tuple(word for word in files.arguments if judged[word] is Verdict.KEPT))
