"""Judge signatures of whole archives, which lie beside them as ``cosign sign-blob`` writes them.

Such a signature is about every byte of the file, so the file is read to its end, as a stream, before anything in it
decides. A bundle names the digest that it signs: if no key made it, it is known before the archive is opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bootc_live.base.errors import SourceError
from bootc_live.config.host.trust import Trust
from bootc_live.config.source_spec import SourceSpec
from bootc_live.formats.sigstore import LARGEST_SIGNATURE, Signature, parse_bundle, parse_file_signature
from bootc_live.image.verified import ResolvedImage
from bootc_live.source.access import Access
from bootc_live.source.beside import read_beside
from bootc_live.source.interface import AnySource, SignedSource
from bootc_live.system.signatures import PublicKey

ENDINGS = {".sigstore.json": parse_bundle, ".sig": parse_file_signature}
_ALGORITHMS = ("sha256", "sha384")


@dataclass(frozen=True)
class FileSignatures:
    """Signatures that are about the whole file of an archive, which was read; ``faults`` is why others are not."""

    signatures: tuple[Signature, ...] = ()
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """What tells who made an image: what has signatures of it, or None, and signatures of the file it came in."""

    image: ResolvedImage
    signed: SignedSource | None
    file: FileSignatures


@dataclass(frozen=True)
class Beside:
    """The signatures beside an archive that is not read yet; ``faults`` is why others cannot count.

    What they sign is only known when the file was read: ``of_file`` alone gives what may decide.
    """

    signatures: tuple[Signature, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms by which the whole file has to be hashed; none if nothing is beside it."""
        named = {digest.partition(":")[0] for each in self.signatures for digest in each.digests}
        anyhow = not all(each.digests for each in self.signatures)
        return tuple(name for name in _ALGORITHMS if anyhow or name in named)

    def of_file(self, digests: Mapping[str, str]) -> FileSignatures:
        """Return the signatures of the file with these digests, by algorithm, with none if it was not hashed."""
        file = tuple(f"{algorithm}:{encoded}" for algorithm, encoded in digests.items())
        kept, faults = [], list(self.faults)
        for each in self.signatures:
            about = tuple(digest for digest in each.digests or file if digest in file)
            if about:
                kept.append(replace(each, digests=about))
            else:
                named = f", {each.digests[0]}" if each.digests else ""
                faults.append(f"a signature beside it is that of another file{named}")
        return FileSignatures(tuple(kept), tuple(faults))


def signatures_beside(spec: SourceSpec, access: Access) -> Beside:
    """Return the signatures beside an archive of which a key may have made one; nothing if no signature is wanted."""
    keys = archive_keys(access.trust)
    if not keys:
        return Beside()
    found, faults = [], []
    for ending, content in read_beside(spec, access, tuple(ENDINGS), LARGEST_SIGNATURE):
        try:
            if isinstance(content, SourceError):
                raise ValueError(content.message)
            if len(content) > LARGEST_SIGNATURE:
                raise ValueError(f"it has more than {LARGEST_SIGNATURE} bytes")
            signature = ENDINGS[ending](content)
            if signature.signed is not None:
                raise ValueError("it is the signature of an image, not of a file")
            if signature.digests:
                _check_signed(keys, signature)
        except ValueError as error:
            faults.append(f"the signature {ending!r} beside it cannot be used: {error}")
        else:
            found.append(signature)
    return Beside(tuple(found), tuple(faults))


def _check_signed(keys: Sequence[PublicKey], signature: Signature) -> None:
    """Raise ValueError if none of the keys made the signature of a file."""
    reason = "it is by none of the keys"
    for key in keys:
        try:
            if signed_file(key, signature):
                return
        except ValueError as error:
            # Another key may be of a kind that can.
            reason = str(error)
    raise ValueError(reason)


def signed_source(source: AnySource) -> SignedSource | None:
    """Return the source if signatures can be read from it."""
    return source if isinstance(source, SignedSource) else None


def signed_file(key: PublicKey, signature: Signature) -> bool:
    """Return whether a key made a signature of a file with a digest that it names; raise ValueError if none can."""
    return any(key.verifies_digest(signature.value, digest) for digest in signature.digests)


def archive_keys(trust: Trust) -> tuple[PublicKey, ...]:
    """Return the keys that may have to sign an archive."""
    return tuple(
        key
        for policy in trust.policies
        for docker in (False, True)
        for requirement in policy.requirements(None, docker=docker)[1]
        for key in requirement.keys
    )
