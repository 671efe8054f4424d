"""Check sizes and digests while bytes stream by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bootc_live.base.errors import BootcLiveError, ImageError
from bootc_live.formats.oci.descriptor import Descriptor

_HINT = "the image was changed on its way or in its store: push it again, or check what lies between"


class WrongBytesError(ImageError):
    """Bytes are not those that a digest or a size stands for: whoever gave them has others, or lies."""


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Give the digest of a byte string in the form ``sha256:…``."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def verified(chunks: Iterator[bytes], descriptor: Descriptor, what: str) -> Iterator[bytes]:
    """Pass chunks on; raise WrongBytesError at the first byte too many or at an end that does not match.

    Whoever consumes this must not use the data before the iterator has ended
    without an error (image-spec, descriptor.md, digests).
    """
    hasher, count = hashlib.new(descriptor.algorithm), 0
    for chunk in chunks:
        count += len(chunk)
        if count > descriptor.size:
            raise WrongBytesError(f"{what} is longer than the {descriptor.size} bytes its manifest gives", hint=_HINT)
        hasher.update(chunk)
        yield chunk
    if count != descriptor.size:
        raise WrongBytesError(f"{what} has {count} bytes, its manifest gives {descriptor.size}", hint=_HINT)
    found = f"{descriptor.algorithm}:{hasher.hexdigest()}"
    if found != descriptor.digest:
        raise WrongBytesError(f"{what} has the digest {found}, it must be {descriptor.digest}", hint=_HINT)


class Told(Iterator[bytes]):
    """Chunks whose error is told to everybody who asks for more: a thread that was the first may have gone with it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Take chunks of which none was asked for yet."""
        self._chunks = chunks
        self._error: BootcLiveError | None = None

    def __next__(self) -> bytes:
        """Return the next chunk; raises as the chunks do, and goes on doing so."""
        if self._error is not None:
            raise self._error
        try:
            return next(self._chunks)
        except BootcLiveError as error:
            self._error = error
            raise


def exhaust(chunks: Iterator[bytes]) -> None:
    """Read to the end, for the checks that happen on the way."""
    for _ in chunks:
        pass


def check_content(content: bytes, digest: str, size: int | None, what: str) -> None:
    """Raise WrongBytesError unless the content has the digest and, where it is known, the size."""
    if size is not None and len(content) != size:
        raise WrongBytesError(f"{what} has {len(content)} bytes, it must have {size}", hint=_HINT)
    found = digest_of(content, digest.partition(":")[0])
    if found != digest:
        raise WrongBytesError(f"{what} has the digest {found}, it must be {digest}", hint=_HINT)
