"""From a source to the one image meant: manifest, platform and config, all verified."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from bootc_live.base.errors import ImageError
from bootc_live.image.manifest import is_index, parse_index, parse_manifest
from bootc_live.image.platform import check, choose, machine_platform
from bootc_live.image.verified import ResolvedImage, resolved_image
from bootc_live.image.verify import WrongBytesError, check_content, digest_of, verified
from bootc_live.source.descriptor import Descriptor, Platform
from bootc_live.source.interface import MANIFEST_LIMIT, Mirrored, Source


@dataclass(frozen=True)
class Wanted:
    """Which image of a source: for this platform, and with this manifest digest where ``pin`` is not None.

    ``known`` collects what was verified on the way, by digest, so that no other source is asked for it again.
    """

    platform: Platform = field(default_factory=machine_platform)
    pin: str | None = None
    known: dict[str, bytes] = field(default_factory=dict, compare=False)

    def check_pin(self, typed: str, *contents: bytes) -> None:
        """Raise ImageError where a digest is pinned that none of the contents has."""
        if self.pin is None:
            return
        found = [digest_of(content, self.pin.partition(":")[0]) for content in contents]
        if self.pin not in found:
            raise ImageError(
                f"{typed!r} has the digest {found[-1]}, bootc.live.digest= allows {self.pin} alone",
                hint="name the image that was pinned, or pin the one that is there",
            )


def resolve_image(source: Source, wanted: Wanted | None = None) -> ResolvedImage:
    """Fetch and verify manifest and config, by default for this machine.

    Raises SourceError and ImageError.
    """
    wanted = wanted or Wanted()
    of = f"of {source.typed!r}"
    top = source.top()
    what = f"the manifest {of}" + (f" from {top.whence}" if top.whence else "")
    if top.digest is not None:
        check_content(top.content, top.digest, top.size, what)
    content, digest = top.content, top.digest or digest_of(top.content)
    if is_index(content, top.media_type, what):
        chosen = choose(parse_index(content, f"the image index {of}"), wanted.platform, source.typed)
        digest, what = chosen.digest, f"the manifest {chosen.digest} {of}"
        content = _small(source, source.open_manifest, chosen, what, wanted.known)
        if is_index(content, chosen.media_type, what):
            raise ImageError(f"the index {of} points to another index", hint="name an image directly")
    else:
        wanted.known[digest] = content
    wanted.check_pin(source.typed, top.content, content)
    manifest = parse_manifest(content, what)
    what = f"the image config {manifest.config.digest} {of}"
    described = _small(source, source.open_blob, manifest.config, what, wanted.known)
    image = resolved_image(source.typed, manifest, described, insecure=source.insecure, manifest_digest=digest)
    check(image.config.platform, wanted.platform, source.typed)
    return image


def _small(
    source: Source,
    opener: Callable[[Descriptor], AbstractContextManager[Iterator[bytes]]],
    descriptor: Descriptor,
    what: str,
    known: dict[str, bytes],
) -> bytes:
    if descriptor.size > MANIFEST_LIMIT:
        raise ImageError(f"{what} has {descriptor.size} bytes, too many for a manifest", hint="check the image")
    if descriptor.digest in known:
        check_content(known[descriptor.digest], descriptor.digest, descriptor.size, what)
        return known[descriptor.digest]
    try:
        with opener(descriptor) as chunks:
            content = b"".join(verified(chunks, descriptor, what))
    except WrongBytesError as error:
        blame(error, source.whence(descriptor))
        if isinstance(source, Mirrored) and source.distrust(descriptor):
            return _small(source, opener, descriptor, what, known)
        raise
    known[descriptor.digest] = content
    return content


def blame(error: ImageError, whence: str | None) -> None:
    """Add to an error where the bytes came from, where the source's name does not say it."""
    if whence is not None:
        error.message += f"; it came from {whence}"
