"""From a source to the one image meant: manifest, platform and config, all verified."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from bootc_live.base.errors import ImageError
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
    """Which image of a source: for this platform, and with this manifest digest where ``pin`` is not None.

    ``known`` collects what was verified on the way, by digest, so that no other source is asked for it again.
    """

    platform: Platform = field(default_factory=machine_platform)
    pin: str | None = None
    known: dict[str, bytes] = field(default_factory=dict, compare=False)

    def check_pin(self, typed: str, *contents: bytes) -> None:
        """Raise MisfitError where a digest is pinned that none of the contents has."""
        if self.pin is None:
            return
        found = [digest_of(content, self.pin.partition(":")[0]) for content in contents]
        if self.pin not in found:
            raise MisfitError(
                f"{typed!r} has the digest {found[-1]}, bootc.live.digest= allows {self.pin} alone",
                hint="name the image that was pinned, or pin the one that is there",
            )


# How deep an index may lead to indexes, and how many documents of one are looked at, signatures and the like included.
_DEEPEST, _MOST_DOCUMENTS = 4, 32


def resolve_image(source: Source, wanted: Wanted | None = None) -> ResolvedImage:
    """Fetch and verify manifest and config, by default for this machine.

    Out of an index, it is the first image that runs here, going by the platforms in it, else by those in the configs.
    Raises SourceError and ImageError.
    """
    wanted = wanted or Wanted()
    top = source.top()
    what = f"the manifest of {source.typed!r}" + (f" from {top.served_by}" if top.served_by else "")
    if top.digest is not None:
        check_content(top.content, top.digest, top.size, what)
    reader = _Reader(source, wanted.known)
    reader.spend(len(top.content))
    first = _Document(top.content, top.digest or digest_of(top.content), top.media_type, what)
    if not is_index(first.content, first.media_type, what):
        wanted.known[first.digest] = first.content
        return _described(reader, wanted, first)
    misfits: list[MisfitError] = []
    for document in _documents(reader, wanted, first, misfits):
        try:
            return _described(reader, wanted, document)
        except MisfitError as error:
            misfits.append(error)
    if len(misfits) == 1:
        raise misfits[0]
    raise MisfitError(
        f"{source.typed!r} holds no image for {wanted.platform}: {'; '.join(str(error.message) for error in misfits)}",
        hint="build the image for this machine, or name another image",
    )


@dataclass(frozen=True)
class _Document:
    """A verified manifest or index, the ``media_type`` it is given as, and the contents of the indexes it is from."""

    content: bytes
    digest: str
    media_type: str
    what: str
    within: tuple[bytes, ...] = ()


def _documents(
    reader: _Reader, wanted: Wanted, top: _Document, misfits: list[MisfitError]
) -> Generator[_Document, None, None]:
    """Give the manifests that an index leads to, the likeliest first; ``misfits`` collects why others are none."""
    source, seen = reader.source, {top.digest}

    def below(index: _Document) -> Generator[_Document, None, None]:
        try:
            entries = candidates(parse_index(index.content, index.what), wanted.platform, source.typed, wanted.pin)
        except MisfitError as error:
            misfits.append(error)
            return
        for entry in entries:
            if entry.digest in seen:
                continue
            seen.add(entry.digest)
            if len(seen) > _MOST_DOCUMENTS or len(index.within) >= _DEEPEST:
                raise ImageError(
                    f"the image index of {source.typed!r} has more than {_MOST_DOCUMENTS} images that may be meant, or "
                    f"indexes more than {_DEEPEST} deep",
                    hint="name an image directly, by its digest",
                )
            what = f"the manifest {entry.digest} of {source.typed!r}"
            content = reader.read(source.open_manifest, entry, what)
            found = _Document(content, entry.digest, entry.media_type, what, (*index.within, index.content))
            if is_index(content, entry.media_type, what):
                yield from below(found)
            elif is_artifact(content, what):
                misfits.append(MisfitError(f"{what} is no image", hint="name an image directly, by its digest"))
            else:
                yield found

    return below(top)


def _described(reader: _Reader, wanted: Wanted, document: _Document) -> ResolvedImage:
    """Add the config to a manifest; raises MisfitError where it is for other machines, or not the pinned one."""
    source = reader.source
    wanted.check_pin(source.typed, *document.within, document.content)
    manifest = parse_manifest(document.content, document.what)
    what = f"the image config {manifest.config.digest} of {source.typed!r}"
    described = reader.read(source.open_blob, manifest.config, what)
    image = resolved_image(
        source.typed,
        manifest,
        described,
        insecure=source.insecure,
        digests=(*map(digest_of, document.within), document.digest),
    )
    check(image.config.platform, wanted.platform, source.typed)
    return image


@dataclass(frozen=True)
class _Reader:
    """Reads the documents that lead to the image of a source, each of them verified; ``known`` collects them."""

    source: Source
    known: dict[str, bytes]
    budget: Budget = field(default_factory=Budget)

    def spend(self, size: int) -> None:
        """Count a document of so many bytes; raises ImageError where all together have too many."""
        try:
            self.budget.spend(size)
        except ValueError as error:
            raise ImageError(
                f"{self.source.typed!r} leads to {error}", hint="name an image directly, by its digest"
            ) from error

    def read(self, opener: _Opener, descriptor: Descriptor, what: str) -> bytes:
        """Return a document; raises SourceError and ImageError."""
        if descriptor.size > MANIFEST_LIMIT:
            raise ImageError(f"{what} has {descriptor.size} bytes, too many for a manifest", hint="check the image")
        self.spend(descriptor.size)
        if descriptor.digest in self.known:
            check_content(self.known[descriptor.digest], descriptor.digest, descriptor.size, what)
        else:
            self.known[descriptor.digest] = self._fetch(opener, descriptor, what)
        return self.known[descriptor.digest]

    def _fetch(self, opener: _Opener, descriptor: Descriptor, what: str) -> bytes:
        while True:
            try:
                with opener(descriptor) as chunks:
                    return b"".join(verified(chunks, descriptor, what))
            except WrongBytesError as error:
                blame(error, self.source.served_by(descriptor))
                if not isinstance(self.source, Mirrored) or not self.source.distrust(descriptor):
                    raise


def blame(error: ImageError, served_by: str | None) -> None:
    """Add to an error where the bytes came from, where the source's name does not say it."""
    if served_by is not None:
        error.message += f"; it came from {served_by}"
