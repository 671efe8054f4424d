"""Find the image of a source: its manifest and config for a platform, all verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

from bootc_live.base.advice import advise
from bootc_live.base.errors import ImageError, about
from bootc_live.formats.json_text import Budget
from bootc_live.formats.oci.descriptor import Descriptor, Platform
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT, is_artifact, is_index, parse_index, parse_manifest
from bootc_live.formats.oci.platform import MisfitError, candidates, check, machine_platform
from bootc_live.image.verified import ResolvedImage, resolved_image
from bootc_live.image.verify import WrongBytesError, check_content, digest_of, verified
from bootc_live.source.interface import Mirrored, Source

_Opener = Callable[[Descriptor], AbstractContextManager[Iterator[bytes]]]


@dataclass(frozen=True)
class Wanted:
    """The wanted image: its platform, and its manifest digest if ``pin`` is not None.

    ``known`` collects verified documents by digest, so that the next source is not asked for them again. ``pinned_by``
    is what messages call the origin of ``pin``; empty for what the user wants.
    """

    platform: Platform = field(default_factory=machine_platform)
    pin: str | None = None
    known: dict[str, bytes] = field(default_factory=dict, compare=False)
    pinned_by: str = ""

    def check_pin(self, source_text: str, *contents: bytes) -> None:
        """Raise MisfitError if a digest is pinned and none of the contents has it."""
        if self.pin is None:
            return
        found = [digest_of(content, self.pin.partition(":")[0]) for content in contents]
        if self.pin not in found:
            by = self.pinned_by or advise("bootc.live.digest=", "what is wanted")
            raise MisfitError(
                f"{source_text!r} has the digest {found[-1]}, but {by} allows only {self.pin}",
                hint="name the pinned image, or pin this digest",
            )


# Limits of nested indexes, and of the documents of a source that are read, including signatures.
_MAX_DEPTH, _MAX_DOCUMENTS = 4, 32


def resolve_image(source: Source, wanted: Wanted | None = None) -> ResolvedImage:
    """Fetch and verify manifest and config, by default for this machine; raise SourceError and ImageError.

    From an index, use the first image that runs here, by the platforms in the index, or else by those in the configs.
    """
    wanted = wanted or Wanted()
    top = source.top()
    name = from_server(f"the manifest of {source.source_text!r}", top.served_by)
    reader = _Reader(source, wanted.known, top.served_by)
    reader.spend(len(top.content))
    with about(name):
        if top.digest is not None:
            check_content(top.content, top.digest, top.size)
        first = _Document(top.content, top.digest or digest_of(top.content), top.media_type, name)
        index = is_index(first.content, first.media_type)
    if not index:
        wanted.known[first.digest] = first.content
        return _described(reader, wanted, first)
    misfits: list[MisfitError] = []
    for found in _documents(reader, wanted, first):
        if isinstance(found, MisfitError):
            misfits.append(found)
            continue
        try:
            return _described(reader, wanted, found)
        except MisfitError as error:
            misfits.append(error)
    if len(misfits) == 1:
        raise misfits[0]
    reasons = "; ".join(error.message for error in misfits)
    raise MisfitError(
        f"{source.source_text!r} contains no image for {wanted.platform}: {reasons}",
        hint="build the image for this machine, or name another image",
    )


@dataclass(frozen=True)
class _Document:
    """A verified manifest or index, the ``media_type`` that its descriptor or server gives, and its name in messages.

    ``within`` contains the indexes that lead to it.
    """

    content: bytes
    digest: str
    media_type: str
    name: str
    within: tuple[bytes, ...] = ()


def _documents(reader: _Reader, wanted: Wanted, top: _Document) -> Iterator[_Document | MisfitError]:
    """Yield the manifests that an index leads to, best matches first, and why others do not match."""
    source, seen = reader.source, {top.digest}

    def below(index: _Document) -> Iterator[_Document | MisfitError]:
        try:
            with about(index.name):
                found = parse_index(index.content)
            with about(repr(source.source_text)):
                entries = candidates(found, wanted.platform, wanted.pin)
        except MisfitError as error:
            yield error
            return
        for entry in entries:
            if entry.digest in seen:
                continue
            seen.add(entry.digest)
            if len(seen) > _MAX_DOCUMENTS or len(index.within) >= _MAX_DEPTH:
                raise ImageError(
                    f"the image index of {source.source_text!r} has more than {_MAX_DOCUMENTS} possible images, or "
                    f"indexes nested more than {_MAX_DEPTH} deep",
                    hint="name an image directly, by its digest",
                )
            content = reader.read("manifest", source.open_manifest, entry)
            name = reader.name("manifest", entry)
            document = _Document(content, entry.digest, entry.media_type, name, (*index.within, index.content))
            with about(name):
                is_below, artifact = is_index(content, entry.media_type), is_artifact(content)
            if is_below:
                yield from below(document)
            elif artifact:
                yield MisfitError(f"{name} is not an image", hint="name an image directly, by its digest")
            else:
                yield document

    return below(top)


def _described(reader: _Reader, wanted: Wanted, document: _Document) -> ResolvedImage:
    """Return a manifest with its config; raise MisfitError if it is for other machines, or not the pinned one."""
    source = reader.source
    wanted.check_pin(source.source_text, *document.within, document.content)
    with about(document.name):
        manifest = parse_manifest(document.content)
    described = reader.read("image config", source.open_blob, manifest.config)
    image = resolved_image(
        source.source_text,
        manifest,
        described,
        insecure=source.insecure,
        digests=(*map(digest_of, document.within), document.digest),
        named_by=reader.named_by,
    )
    with about(repr(source.source_text)):
        check(image.config.platform, wanted.platform)
    return image


@dataclass(frozen=True)
class _Reader:
    """Reads and verifies documents of a source, and collects them in ``known``."""

    source: Source
    known: dict[str, bytes]
    named_by: str | None = None
    budget: Budget = field(default_factory=Budget)

    def spend(self, size: int) -> None:
        """Count the bytes of a document; raise ImageError if all documents together have too many."""
        try:
            self.budget.spend(size)
        except ValueError as error:
            raise ImageError(
                f"{self.source.source_text!r} leads to {error}", hint="name an image directly, by its digest"
            ) from error

    def name(self, kind: str, descriptor: Descriptor) -> str:
        """Return what messages call a document."""
        name = f"the {kind} {descriptor.digest} of {self.source.source_text!r}"
        return from_server(name, self.source.served_by(descriptor))

    def read(self, kind: str, opener: _Opener, descriptor: Descriptor) -> bytes:
        """Return a document; raise SourceError and ImageError."""
        with about(partial(self.name, kind, descriptor)):
            if descriptor.size > MANIFEST_LIMIT:
                raise ImageError(f"it has {descriptor.size} bytes, too many for a manifest", hint="check the image")
            self.spend(descriptor.size)
            if descriptor.digest in self.known:
                check_content(self.known[descriptor.digest], descriptor.digest, descriptor.size)
            else:
                self.known[descriptor.digest] = self._fetch(kind, opener, descriptor)
        return self.known[descriptor.digest]

    def _fetch(self, kind: str, opener: _Opener, descriptor: Descriptor) -> bytes:
        while True:
            try:
                with about(partial(self.name, kind, descriptor)), opener(descriptor) as chunks:
                    return b"".join(verified(chunks, descriptor))
            except WrongBytesError:
                if not isinstance(self.source, Mirrored) or not self.source.distrust(descriptor):
                    raise


def from_server(name: str, served_by: str | None) -> str:
    """Add the server to a name for messages, unless the source's own name says it already."""
    return name if served_by is None else f"{name} from {served_by}"
