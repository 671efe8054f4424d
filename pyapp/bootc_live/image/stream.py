"""An image out of an archive that is read once, in whatever order its members come.

Layers may come before anything says which they are: each is inflated into the store at once, with its digest and
diffID found on the way, and kept if the image turns out to be made of it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from bootc_live.base.errors import AdmissionError, BootcLiveError, ImageError, OutOfMemoryError, RunError, SourceError
from bootc_live.base.log import Progress, Recorder
from bootc_live.image.admit import Admit, admit_all
from bootc_live.image.manifest import Manifest, parse_config
from bootc_live.image.platform import check
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.store import LayerStore
from bootc_live.image.verified import (
    ResolvedImage,
    VerifiedImage,
    VerifiedLayer,
    resolved_image,
    verified_image,
    verified_layer,
)
from bootc_live.image.verify import digest_of, exhaust
from bootc_live.source.archive.docker import MANIFEST, TITLE, docker_image
from bootc_live.source.archive.files import MemoryFiles
from bootc_live.source.archive.layout import LayoutSource, MissingBlobError, blob_name
from bootc_live.source.descriptor import Descriptor
from bootc_live.source.interface import MANIFEST_LIMIT, Member, StreamSource

# Of all manifests and configs of an archive together.
_MOST_SMALL = 16 * MANIFEST_LIMIT
_HINT = "make the archive anew, for example with: skopeo copy SOURCE oci-archive:FILE.oci:latest"


@dataclass(frozen=True)
class _Plan:
    """The image, and the names of its layers' members, base first."""

    image: ResolvedImage
    names: tuple[str, ...]


@dataclass
class _Gathered:
    """What has come by so far: manifests and configs by name, data by name, what was wrong with it by name."""

    source: StreamSource
    wanted: Wanted
    small: dict[str, bytes] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    placed: dict[str, VerifiedLayer] = field(default_factory=dict)
    wrong: dict[str, BootcLiveError] = field(default_factory=dict)

    def takes(self, member: Member, first: bytes) -> bool:
        """Tell whether to keep a member as it is: small JSON. A layer that looks like it is found there in the end."""
        kept = sum(map(len, self.small.values()))
        looks_right = first.lstrip()[:1] in (b"{", b"[")
        return looks_right and member.size <= MANIFEST_LIMIT and kept + member.size <= _MOST_SMALL

    def plan(self, *, final: bool) -> _Plan | None:
        """Give the plan, or None as long as something for it may still come. Raises SourceError and ImageError."""
        if "index.json" in self.small:
            try:
                source = self.source
                layout = LayoutSource(MemoryFiles(self.small), source.typed, source.label, insecure=source.insecure)
                image = resolve_image(layout, self.wanted)
            except MissingBlobError:
                if final:
                    raise
                return None
            return _Plan(image, tuple(blob_name(layer.digest) for layer in image.manifest.layers))
        if MANIFEST in self.small and (final or self.source.docker):
            return self._docker_plan(final=final)
        if final:
            raise SourceError(
                f"{self.source.typed!r} is neither an OCI archive nor a docker-archive: it has no index.json",
                hint=_HINT,
            )
        return None

    def _docker_plan(self, *, final: bool) -> _Plan | None:
        typed = self.source.typed
        image = docker_image(typed, self.small[MANIFEST], self.source.label)
        content = self.small.get(image.config)
        if content is None:
            if final:
                raise SourceError(f"{typed!r} does not hold {image.config!r}, which its {MANIFEST} names", hint=_HINT)
            return None
        self.wanted.check_pin(typed, content)
        config = Descriptor("", digest_of(content), len(content))
        what = f"the image config {image.config!r} of {typed!r}"
        diff_ids = parse_config(content, len(image.layers), what).diff_ids
        layers = [
            Descriptor("", diff_id, self.sizes.get(name) or self.source.size_of(name) or 0, annotations={TITLE: name})
            for diff_id, name in zip(diff_ids, image.layers, strict=True)
        ]
        resolved = resolved_image(
            typed, Manifest(config, tuple(layers)), content, insecure=self.source.insecure, manifest_digest=None
        )
        check(resolved.config.platform, self.wanted.platform, typed)
        return _Plan(resolved, image.layers)


def resolve_stream(source: StreamSource, wanted: Wanted) -> ResolvedImage:
    """Find the image in an archive, reading no further than that takes; raises SourceError and ImageError."""
    gathered = _Gathered(source, wanted)
    with source.members() as members:
        for member in members:
            gathered.sizes[member.name] = member.size
            first, chunks = _peeked(member)
            if gathered.takes(member, first):
                gathered.small[member.name] = b"".join(chunks)
                plan = gathered.plan(final=False)
                if plan is not None:
                    return plan.image
    plan = gathered.plan(final=True)
    assert plan is not None, "a final plan is one or an error"
    return plan.image


def fetch_stream(
    source: StreamSource, wanted: Wanted, store: LayerStore, recorder: Recorder, admit: Admit = admit_all
) -> VerifiedImage:
    """Read an archive once and put the image's layers into the store.

    ``admit`` is asked as soon as it is known which image it is. Layers that come by before that are in the store by
    then: most tools write the manifest somewhere among the blobs, and index.json, which names it, last.
    Raises SourceError, ImageError, RunError and OutOfMemoryError.
    """
    gathered = _Gathered(source, wanted)
    with recorder.phase("fetch", "reading the archive and verifying layers"), source.members() as members:
        try:
            plan = _read(gathered, members, store, Progress(recorder, "fetch", 0), admit)
        except BaseException:
            # Whoever waits for bytes would keep the program waiting.
            source.interrupt()
            raise
        image = _assemble(plan, gathered, store)
    store.keep_only(image.resolved.config.diff_ids)
    return image


def _read(gathered: _Gathered, members: Iterator[Member], store: LayerStore, progress: Progress, admit: Admit) -> _Plan:
    plan: _Plan | None = None
    for member in members:
        gathered.sizes[member.name] = member.size
        if plan is not None and member.name not in _missing(plan, gathered, store):
            continue
        first, chunks = _peeked(_counted(member, progress))
        if gathered.takes(member, first):
            gathered.small[member.name] = b"".join(chunks)
            if plan is None:
                plan = gathered.plan(final=False)
                if plan is not None:
                    admit(gathered.source, plan.image)
        else:
            _place(gathered, member.name, chunks, store)
        if plan is not None and not _missing(plan, gathered, store):
            break
    if plan is None:
        plan = gathered.plan(final=True)
        assert plan is not None, "a final plan is one or an error"
        admit(gathered.source, plan.image)
    return plan


def _place(gathered: _Gathered, name: str, chunks: Iterator[bytes], store: LayerStore) -> None:
    """Inflate a member into the store. What is wrong with it matters only if the image needs it."""
    what = f"{name!r} of {gathered.source.typed!r}"
    named = _digest_in(name)
    hasher = hashlib.new(named.partition(":")[0] if named else "sha256")
    hashed = _hashed(chunks, hasher)
    slot = store.rest()
    try:
        found, size = store.inflate(slot, hashed, gathered.sizes[name], what, lambda: False)
        exhaust(hashed)
    except OutOfMemoryError as error:
        # Whether these bytes are the image's own is not known where their name is no digest: not the end of all then.
        gathered.wrong[name] = error if named else AdmissionError(error.message, hint=error.hint)
        exhaust(hashed)
        store.has_room()
    except (ImageError, RunError) as error:
        gathered.wrong[name] = error
        exhaust(hashed)
    else:
        _keep(gathered, name, verified_layer(found, found, slot.offset, size, what), store)
    digest = f"{hasher.name}:{hasher.hexdigest()}"
    if named is not None and digest != named:
        gathered.wrong[name] = ImageError(f"{what} has the digest {digest}, it must be {named}", hint=_HINT)


def _keep(gathered: _Gathered, name: str, layer: VerifiedLayer, store: LayerStore) -> None:
    """Keep what has come under its own digest: whatever becomes of this archive, a later source may need it."""
    kept = store.layers.setdefault(layer.diff_id, layer)
    if kept is not layer:
        store.drop(layer.offset, layer.size)
    gathered.placed[name] = kept


def _assemble(plan: _Plan, gathered: _Gathered, store: LayerStore) -> VerifiedImage:
    typed = gathered.source.typed
    pairs = list(zip(plan.image.config.diff_ids, plan.names, strict=True))
    for number, (diff_id, name) in enumerate(pairs):
        what = f"layer {number} ({name}) of {typed!r}"
        if diff_id not in store.layers and name not in gathered.placed and name in gathered.small:
            _place(gathered, name, iter([gathered.small[name]]), store)
        if name in gathered.wrong:
            raise gathered.wrong[name]
        if diff_id in store.layers:
            continue
        if name not in gathered.placed:
            raise SourceError(f"{typed!r} does not hold {name!r}, a layer of its image", hint=_HINT)
        placed = gathered.placed[name]
        found = store.digest(placed, diff_id.partition(":")[0])
        store.layers[diff_id] = verified_layer(diff_id, found, placed.offset, placed.size, what)
    return verified_image(plan.image, store.path, [store.layers[diff_id] for diff_id, _ in pairs])


def _missing(plan: _Plan, gathered: _Gathered, store: LayerStore) -> set[str]:
    """Give the names of layers that have not come by yet."""
    pairs = zip(plan.image.config.diff_ids, plan.names, strict=True)
    return {name for diff_id, name in pairs if diff_id not in store.layers and name not in gathered.placed}


def _peeked(member: Member) -> tuple[bytes, Iterator[bytes]]:
    first = next(member.chunks, b"")
    return first, itertools.chain([first], member.chunks)


def _counted(member: Member, progress: Progress) -> Member:
    def counted() -> Iterator[bytes]:
        for chunk in member.chunks:
            progress.add(len(chunk))
            yield chunk

    return Member(member.name, member.size, counted())


def _hashed(chunks: Iterator[bytes], hasher: hashlib._Hash) -> Iterator[bytes]:
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk


def _digest_in(name: str) -> str | None:
    """Give the digest that a blob's name says it has (image-layout.md, blobs)."""
    parts = name.split("/")
    if len(parts) == 3 and parts[0] == "blobs" and parts[1] in ("sha256", "sha512"):
        return f"{parts[1]}:{parts[2]}"
    return None
