"""Open several sources as one image: the layers of each on top of those before it.

Blobs are fetched later, as planned. What can only be read once, such as a compressed archive or a directory, is read
into the store at once: what it holds is known afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace

from bootc_live.base.errors import ImageError, SourceError, TrustError, about
from bootc_live.base.log import Recorder
from bootc_live.config.host.policy import Kind
from bootc_live.config.model import Require
from bootc_live.config.source_spec import ArchiveFile, Containerfile, Layered, RootfsDirectory, RootfsTar
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.formats.tar.writer import END
from bootc_live.image.candidate import Candidate, candidate, trusted_candidate
from bootc_live.image.detached import Evidence, FileSignatures
from bootc_live.image.fetch import fetch_layers
from bootc_live.image.layout_recorder import LayoutRecorder
from bootc_live.image.resolve import Wanted
from bootc_live.image.sink import DataFile, LayerSink
from bootc_live.image.store.layer_store import LayerStore
from bootc_live.image.trust import TrustVerdict
from bootc_live.image.verified import ResolvedImage, VerifiedImage, joined_image, local_image, verified_layer
from bootc_live.source.access import Access
from bootc_live.source.interface import LayerCache, Mirrored, Peekable, Source, StreamSource, TopManifest
from bootc_live.source.rootfs.containerfile import built_layout
from bootc_live.source.rootfs.directory import directory_tar
from bootc_live.source.rootfs.tar import read_file, without_xz


@contextmanager
def layered_candidate(
    spec: Layered, access: Access, wanted: Wanted, store: LayerStore, recorder: Recorder
) -> Iterator[tuple[Candidate, TrustVerdict]]:
    """Open all parts of a source as one image, each of which is judged by its own; raise SourceError and ImageError."""
    images: list[ResolvedImage] = []
    verdicts: list[TrustVerdict] = []
    sources: dict[str, Source] = {}
    with ExitStack() as opened:
        opened.callback(store.needed.clear)
        for part in spec.parts:
            if isinstance(part, RootfsTar | RootfsDirectory):
                # Whose directory it is does not matter to the root that something is put on.
                top = not images
                image, verdict = _local(part, access, wanted, store, recorder, top=top), TrustVerdict()
                store.needed.update(image.config.diff_ids)
            else:
                if isinstance(part, Containerfile):
                    found, verdict = opened.enter_context(_built(part, access, wanted, store, recorder)), TrustVerdict()
                else:
                    found, verdict = opened.enter_context(trusted_candidate(part, access, wanted, store, recorder))
                image = found.image
                if isinstance(found.source, StreamSource):
                    found.fetch(DataFile())
                    store.needed.update(image.config.diff_ids)
                else:
                    sources.update((layer.digest, found.source) for layer in image.manifest.layers)
            images.append(image)
            verdicts.append(verdict)
        for part, image in zip(spec.parts, images, strict=True):
            if not isinstance(part, Containerfile):
                # Such as the base that something was built on.
                store.local.difference_update(image.config.diff_ids)
        # What was read is in another part of the file than what is fetched.
        store.next_source()
        joined = joined_image(images, spec.source_text)
        yield _LayeredCandidate(_Together(joined, sources), joined, store, recorder), _together(verdicts)


def _local(
    spec: RootfsTar | RootfsDirectory,
    access: Access,
    wanted: Wanted,
    store: LayerStore,
    recorder: Recorder,
    *,
    top: bool,
) -> ResolvedImage:
    """Read files of this machine into the store."""
    text = spec.source_text
    _refuse_unsigned(text, access)
    with recorder.phase("read", f"reading {text}"), about(repr(text)):
        slot = store.rest()
        if isinstance(spec, RootfsDirectory):
            digest, size = store.write(slot, directory_tar(spec.path, text, recorder.warn, top=top), lambda: False)
        else:
            pieces, cores = without_xz(read_file(spec.path, text)), len(os.sched_getaffinity(0))
            digest, size = store.inflate(slot, pieces, lambda: False, most=cores)
        layer = verified_layer(digest, digest, slot.offset, size)
        kept = store.layers.setdefault(digest, layer)
        if kept is not layer:
            store.drop(layer.offset, layer.size)
            layer = kept
        # No digest says how long it has to be.
        if isinstance(spec, RootfsTar) and store.last_bytes(layer, len(END)) != END:
            raise ImageError("it is cut short: no zeros are at its end", hint="copy or make the tar again")
        return local_image(text, wanted.platform, layer)


@contextmanager
def _built(
    spec: Containerfile, access: Access, wanted: Wanted, store: LayerStore, recorder: Recorder
) -> Iterator[Candidate]:
    """Build an image and open it."""
    text = spec.source_text
    _refuse_unsigned(text, access)
    with ExitStack() as stack:
        with recorder.phase("build", f"building {text}"):
            layout = stack.enter_context(built_layout(spec))
        # It is the only image there, and has no name.
        archive, unnamed = ArchiveFile(layout, text), replace(access, label=None)
        found = stack.enter_context(candidate(archive, unnamed, wanted, store, recorder))
        store.local.update(found.image.config.diff_ids)
        yield found


def _refuse_unsigned(text: str, access: Access) -> None:
    """Raise TrustError if what has no signature may not be used."""
    wanted = [each.kind for policy in access.trust.policies for each in policy.requirements(None)[1]]
    if access.trust.require is not Require.NONE or set(wanted) - {Kind.ACCEPT}:
        raise TrustError(f"{text!r} is not used: it has no signature", hint="make an image of it, and sign that")


def _together(verdicts: Sequence[TrustVerdict]) -> TrustVerdict:
    """Return the verdict about an image of several, which is signed if all are."""
    identities = {verdict.identity for verdict in verdicts}
    return TrustVerdict(
        signed=all(verdict.signed for verdict in verdicts),
        unchecked=any(verdict.unchecked for verdict in verdicts),
        rules=tuple(dict.fromkeys(rule for verdict in verdicts for rule in verdict.rules)),
        keys=tuple(dict.fromkeys(key for verdict in verdicts for key in verdict.keys)),
        identity=identities.pop() if len(identities) == 1 else None,
    )


@dataclass(frozen=True)
class _Together:
    """The sources of an image's layers, by digest, as one ``Source``; layers of others are in the store."""

    image: ResolvedImage
    sources: Mapping[str, Source]

    @property
    def source_text(self) -> str:
        return self.image.source_text

    @property
    def insecure(self) -> bool:
        return self.image.insecure

    def top(self) -> TopManifest:
        raise SourceError("several sources have no manifest together", hint="ask each of them")

    def open_manifest(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        return self._of(descriptor).open_manifest(descriptor)

    def open_blob(self, descriptor: Descriptor) -> AbstractContextManager[Iterator[bytes]]:
        return self._of(descriptor).open_blob(descriptor)

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        source = self._of(descriptor)
        if not isinstance(source, Peekable):
            raise SourceError("it cannot be read in part", hint="its size is guessed")
        return source.peek(descriptor, offset, length)

    def served_by(self, descriptor: Descriptor) -> str | None:
        return self._of(descriptor).served_by(descriptor)

    def distrust(self, descriptor: Descriptor) -> bool:
        source = self._of(descriptor)
        return isinstance(source, Mirrored) and source.distrust(descriptor)

    def interrupt(self) -> None:
        for source in set(self.sources.values()):
            source.interrupt()

    def _of(self, descriptor: Descriptor) -> Source:
        found = self.sources.get(descriptor.digest)
        if found is None:
            raise SourceError(f"{descriptor.digest} was read before", hint="its layer is in the store")
        return found


@dataclass(frozen=True)
class _LayeredCandidate:
    source: _Together
    image: ResolvedImage
    store: LayerStore
    recorder: Recorder

    @property
    def evidence(self) -> Evidence:
        """Nothing: each source was judged by its own."""
        return Evidence(self.image, None, FileSignatures())

    @property
    def cache(self) -> LayerCache | None:
        """The cache that layers are taken from, if there is one."""
        return self.store.cache

    def fetch(self, sink: LayerSink, blobs: LayoutRecorder | None = None) -> VerifiedImage:  # noqa: ARG002
        """Fetch what was not read before, and pass all layers to the sink; there are no blobs to record."""
        with self.recorder.phase("fetch", "fetching and verifying layers"):
            return fetch_layers(self.source, self.image, self.store, self.recorder, sink)
