"""Check sizes and digests while bytes stream by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from bootc_live.base.errors import BootcLiveError, ImageError
from bootc_live.formats.oci.descriptor import Descriptor

_HINT = "the image was changed in the registry or on the network: push it again, or check the proxies in between"


class WrongBytesError(ImageError):
    """Bytes do not match their digest or size; another server may have the right ones."""


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of a byte string in the form ``sha256:…``."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def verified(chunks: Iterator[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """Yield the chunks; raise WrongBytesError for an excess byte, or at the end if size or digest does not match.

    The data must not be used before the iterator has ended without an error (image-spec, descriptor.md, digests).
    """
    hasher, count = hashlib.new(descriptor.algorithm), 0
    for chunk in chunks:
        count += len(chunk)
        if count > descriptor.size:
            raise WrongBytesError(f"it is longer than the {descriptor.size} bytes its manifest gives", hint=_HINT)
        hasher.update(chunk)
        yield chunk
    if count != descriptor.size:
        raise WrongBytesError(f"it has {count} bytes, its manifest gives {descriptor.size}", hint=_HINT)
    found = f"{descriptor.algorithm}:{hasher.hexdigest()}"
    if found != descriptor.digest:
        raise WrongBytesError(f"it has the digest {found}, it must be {descriptor.digest}", hint=_HINT)


class RepeatingError(Iterator[bytes]):
    """Chunks that raise their error at every further call, so that each thread gets it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Wrap chunks of which none was read yet."""
        self._chunks = chunks
        self._error: BootcLiveError | None = None

    def __next__(self) -> bytes:
        """Return the next chunk, or raise the error of the chunks again."""
        if self._error is not None:
            raise self._error
        try:
            return next(self._chunks)
        except BootcLiveError as error:
            self._error = error
            raise


def exhaust(chunks: Iterator[bytes]) -> None:
    """Read to the end, so that all checks are made."""
    for _ in chunks:
        pass


def check_content(content: bytes, digest: str, size: int | None) -> None:
    """Raise WrongBytesError unless the content has the digest and, if given, the size."""
    if size is not None and len(content) != size:
        raise WrongBytesError(f"it has {len(content)} bytes, it must have {size}", hint=_HINT)
    found = digest_of(content, digest.partition(":")[0])
    if found != digest:
        raise WrongBytesError(f"it has the digest {found}, it must be {digest}", hint=_HINT)
