"""Decide whether an image may be used: signatures, policies, age; between the manifest and the first layer.

Signatures are looked for beside the image: in its registry, or in the archive or layout that it is in. They are read
within bounds, and only verified bytes decide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bootc_live.base.advice import advise
from bootc_live.base.errors import ImageError, SourceError, TrustError
from bootc_live.config.host.policy import ANY, Kind, Policy, Requirement
from bootc_live.config.host.trust import Trust
from bootc_live.config.model import Require
from bootc_live.config.source_spec import HandlerArchive, RegistryImage, SourceSpec
from bootc_live.formats.json_text import Budget, read_json
from bootc_live.formats.oci.descriptor import FIELDS, Descriptor, parse_descriptor
from bootc_live.formats.oci.reference import Reference, parse_reference
from bootc_live.formats.sigstore import (
    BUNDLE_PREFIX,
    LARGEST_SIGNATURE,
    SIGNATURE_ANNOTATION,
    SIMPLE_SIGNING,
    Signature,
    parse_bundle,
    parse_simple_signing,
)
from bootc_live.image.detached import Beside, Evidence, signed_file
from bootc_live.image.verified import ResolvedImage
from bootc_live.image.verify import verified
from bootc_live.source.interface import AnySource, SignedSource, StreamSource
from bootc_live.system.signatures import PublicKey

# Of one image: documents that hold signatures, and signatures.
_MOST_MANIFESTS, _MOST_SIGNATURES, _MOST_ATTEMPTS = 64, 64, 256
_MOST_REASONS = 3
_UNREADABLE = (
    "signatures cannot be read in a docker-archive, nor in an archive that is read once from start to end (it is "
    "compressed as a whole, or its server has no ranges)"
)


@dataclass(frozen=True)
class TrustVerdict:
    """What was decided about an image: ``rules`` are the lines of policies that did, ``keys`` those that signed.

    ``identity`` is the repository that the signature names, None if it names none.
    """

    signed: bool = False
    unchecked: bool = False
    rules: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    identity: str | None = None


def check_source(spec: SourceSpec, trust: Trust, pin: str | None) -> None:
    """Raise TrustError for a source that cannot be trusted whatever it holds, before anything is fetched."""
    reference = _reference(spec)
    pinned = pin is not None or (reference is not None and reference.digest is not None)
    decisions = [policy.requirements(reference) for policy in trust.policies]
    signed = any(each.kind is Kind.SIGNED for _, requirements in decisions for each in requirements)
    if trust.require is not Require.NONE and not signed and not (pinned and trust.require is Require.DIGEST):
        wanted = "a digest or a signature" if trust.require is Require.DIGEST else "a signature"
        raise TrustError(
            f"{spec.source_text!r} is not used: 'bootc.trust.require={trust.require}' wants {wanted}, and "
            f"{'no policy or key is there to check one' if pinned else 'nothing pins it, and no key is given'}",
            hint="write the image with its digest (@sha256:…), or give a key with bootc.trust.key=",
        )
    if trust.require is Require.SIGNATURE and isinstance(spec, HandlerArchive):
        raise TrustError(
            f"{spec.source_text!r} is not used: 'bootc.trust.require=signature' wants a checked connection, "
            "and it has none",
            hint="use a source over HTTPS, or change bootc.trust.require=",
        )
    # Which line is about an archive is known when it is open.
    for rule, requirements in decisions if reference is not None else []:
        _check_rejected(spec, rule, requirements)


def _check_rejected(spec: SourceSpec, rule: str, requirements: Sequence[Requirement]) -> None:
    for each in requirements:
        if each.kind is Kind.REJECT:
            raise TrustError(
                f"{spec.source_text!r} is not used: the policy rejects it ({rule})"
                + (f"; {each.fault}" if each.fault else ""),
                hint="use another image, or change the policy in the initramfs",
            )


def unsigned_accepted(spec: SourceSpec | None, trust: Trust) -> tuple[str, ...] | None:
    """Return the lines of the policies that accept the image of a source as it is; None if one wants more of it.

    A source that is not known any more counts as an archive.
    """
    reference, rules = _reference(spec), []
    for policy in trust.policies:
        # Which line is about an archive is known when it is open.
        for docker in (False, True) if reference is None else (False,):
            rule, requirements = policy.requirements(reference, docker=docker)
            if any(each.kind is not Kind.ACCEPT for each in requirements):
                return None
            rules.append(rule)
    return tuple(dict.fromkeys(rules))


def check_stream(source: AnySource, trust: Trust, beside: Beside) -> None:
    """Raise TrustError, before it is read, for a source that cannot show a signature that is wanted in any case."""
    if isinstance(source, SignedSource) or beside.signatures:
        return
    kinds = (True,) if isinstance(source, StreamSource) and source.docker else (False, True)
    for policy in trust.policies:
        wanted = [any(each.kind is Kind.SIGNED for each in policy.requirements(None, docker=kind)[1]) for kind in kinds]
        if all(wanted):
            raise _unsigned(repr(source.source_text), "no valid signature", policy, [*beside.faults, _UNREADABLE])


def check_trust(
    spec: SourceSpec, evidence: Evidence, trust: Trust, pin: str | None, say: Callable[[str], None] = lambda _: None
) -> TrustVerdict:
    """Return what was decided about an image that is known but not fetched, and ``say`` who signed it.

    Raise TrustError if it may not be used.
    """
    image = evidence.image
    _check_age(image, trust.not_before)
    if not trust.policies:
        return TrustVerdict(unchecked=trust.unchecked)
    reference, found = _reference(spec), _Signatures(evidence)
    rules, keys, identities = [], dict[str, None](), dict[str, None]()
    for policy in trust.policies:
        rule, requirements = policy.requirements(reference, docker=not image.digests)
        _check_rejected(spec, rule, requirements)
        rules.append(rule)
        for each in requirements:
            if each.kind is Kind.SIGNED:
                signers = _signers(each, policy, found, image, reference)
                keys.update(dict.fromkeys(name for name, _ in signers))
                identities.update(dict.fromkeys(signature.reference for _, signature in signers if signature.reference))
    # Which line of a policy is about an archive was not known before.
    pinned = pin is not None or (reference is not None and reference.digest is not None)
    if trust.require is Require.DIGEST and not keys and not pinned:
        raise TrustError(
            f"{image.source_text!r} is not used: 'bootc.trust.require=digest' wants a digest or a signature, "
            "and has neither",
            hint=advise("pin the image with bootc.live.digest=", "write it with its digest (@sha256:…)")
            + ", or sign it",
        )
    if trust.require is Require.SIGNATURE and (image.insecure or not keys):
        raise TrustError(
            f"{image.source_text!r} is not used: 'bootc.trust.require=signature' wants a signature and "
            "a checked connection",
            hint="remove bootc.registry.unsecure, or change bootc.trust.require=",
        )
    if keys:
        say(f"signed by {' and '.join(keys)}")
    return TrustVerdict(bool(keys), rules=tuple(rules), keys=tuple(keys), identity=next(iter(identities), None))


@dataclass
class _Signatures:
    """The signatures of an image and of its file, read at the first use; ``faults`` is why others cannot be used."""

    evidence: Evidence
    faults: list[str] = field(default_factory=list)
    _found: list[Signature] | None = None
    _attempts: int = 0

    @property
    def image(self) -> ResolvedImage:
        """The image."""
        return self.evidence.image

    def all(self) -> Sequence[Signature]:
        """Return those that can be read; raise SourceError."""
        if self._found is None:
            self._found = [*self.evidence.file.signatures]
            self.faults += self.evidence.file.faults
            for signature in self._read():
                if signature.signed is None:
                    self.faults.append("a signature is that of a file")
                    continue
                if not set(signature.digests) & set(self.image.digests):
                    self.faults.append(f"a signature names another image, {signature.digests[0]}")
                    continue
                self._found.append(signature)
                if len(self._found) >= _MOST_SIGNATURES:
                    break
        return self._found

    def _read(self) -> Iterator[Signature]:
        if self.evidence.signed is None:
            self.faults.append(_UNREADABLE)
            return
        budget = Budget()
        count = 0
        seen = set[bytes]()
        for digest in self.image.digests:
            for manifest in self._manifests(self.evidence.signed, digest):
                count += 1
                if count > _MOST_MANIFESTS:
                    self.faults.append(f"there are more than {_MOST_MANIFESTS} documents")
                    return
                if manifest in seen:
                    continue
                seen.add(manifest)
                try:
                    budget.spend(len(manifest))
                    yield from self._in_manifest(manifest, budget)
                except (ValueError, ImageError) as error:
                    self.faults.append(str(error))

    def _manifests(self, source: SignedSource, digest: str) -> Iterator[bytes]:
        """Yield the documents about one digest; a server that fails to list them hides none that came before."""
        try:
            yield from source.signature_manifests(digest)
        except SourceError as error:
            self.faults.append(error.message)

    def _in_manifest(self, content: bytes, budget: Budget) -> Iterator[Signature]:
        document: Any = read_json(content, FIELDS)
        layers = document.get("layers") if isinstance(document, dict) else None
        if not isinstance(layers, list):
            raise ValueError("a document beside the image is no manifest of signatures")
        for layer in layers:
            try:
                descriptor = parse_descriptor(layer)
                if descriptor.media_type != SIMPLE_SIGNING and not descriptor.media_type.startswith(BUNDLE_PREFIX):
                    continue
                self._attempts += 1
                if self._attempts > _MOST_ATTEMPTS:
                    self.faults.append(f"there are more than {_MOST_ATTEMPTS} signatures")
                    return
                payload = self._blob(descriptor, budget)
                if descriptor.media_type == SIMPLE_SIGNING:
                    yield parse_simple_signing(payload, descriptor.annotations.get(SIGNATURE_ANNOTATION, ""))
                else:
                    yield parse_bundle(payload)
            except (ValueError, ImageError, SourceError) as error:
                self.faults.append(f"a signature cannot be used: {error}")

    def _blob(self, descriptor: Descriptor, budget: Budget) -> bytes:
        if descriptor.size > LARGEST_SIGNATURE:
            raise ValueError(f"it has {descriptor.size} bytes, {LARGEST_SIGNATURE} is the limit")
        budget.spend(descriptor.size)
        assert self.evidence.signed is not None
        with self.evidence.signed.open_blob(descriptor) as chunks:
            return b"".join(verified(chunks, descriptor))


def _signers(
    wanted: Requirement, policy: Policy, found: _Signatures, image: ResolvedImage, reference: Reference | None
) -> list[tuple[str, Signature]]:
    """Return keys that signed the image, with their signatures, as many as a requirement wants; raise TrustError."""
    signers: dict[str, tuple[str, Signature]] = {}
    reasons = list[str]()
    for signature in found.all():
        reason = _misfit(signature, wanted, reference)
        if reason:
            reasons.append(reason)
            continue
        for key in wanted.keys:
            try:
                if key.fingerprint not in signers and _signed_by(key, signature):
                    signers[key.fingerprint] = (key.name, signature)
                    break
            except ValueError as error:
                reasons.append(str(error))
        else:
            reasons.append("a signature is by none of the keys")
        if len(signers) >= wanted.threshold:
            return list(signers.values())
    count = f"{len(signers)} of {wanted.threshold} signatures" if signers else "no valid signature"
    raise _unsigned(f"{image.source_text!r} ({image.identity})", count, policy, [*reasons, *found.faults])


def _unsigned(subject: str, count: str, policy: Policy, reasons: Sequence[str]) -> TrustError:
    shown = "; ".join(list(dict.fromkeys(reasons))[:_MOST_REASONS]) or "there is none beside it"
    hint = "sign the image with cosign and the key, or boot one that is signed"
    if _UNREADABLE in reasons:
        hint = "sign the file of the archive (docs/signing.md), or serve it uncompressed by a server with ranges"
    return TrustError(f"{subject} has {count} that {policy.origin} wants: {shown}", hint=hint)


def _signed_by(key: PublicKey, signature: Signature) -> bool:
    if signature.signed is None:
        return signed_file(key, signature)
    return key.verifies(signature.value, signature.signed)


def _misfit(signature: Signature, wanted: Requirement, reference: Reference | None) -> str:
    """Return why a signature is not about this image, empty if it is; what it says is not verified yet."""
    if wanted.identity == ANY:
        return ""
    if signature.reference is None:
        return f"a {signature.kind} names no repository, so that {wanted.identity!r} cannot be checked"
    return (
        ""
        if _same_identity(signature.reference, wanted, reference)
        else f"a signature names the repository {signature.reference!r}"
    )


def _same_identity(named: str, wanted: Requirement, reference: Reference | None) -> bool:
    """Compare as containers-policy.json(5) describes; an archive has no name of its own to compare with."""
    try:
        signed = parse_reference(named).canonical
    except ValueError:
        return False
    repository = f"{signed.registry}/{signed.repository}"
    exact = "@" in named or ":" in named.rpartition("/")[2]
    if wanted.identity == "exactRepository":
        return repository == _repository(wanted.expected)
    if wanted.identity == "exactReference":
        return exact and str(signed) == str(parse_reference(wanted.expected).canonical)
    reference = None if reference is None else reference.canonical
    if reference is None or repository != f"{reference.registry}/{reference.repository}":
        return False
    if wanted.identity == "matchRepository" or (wanted.identity == "matchRepoDigestOrExact" and reference.digest):
        return True
    return exact and str(signed) == str(reference)


def _repository(text: str) -> str:
    parsed = parse_reference(text).canonical
    return f"{parsed.registry}/{parsed.repository}"


def _check_age(image: ResolvedImage, not_before: datetime | None) -> None:
    if not_before is None:
        return
    try:
        created = datetime.fromisoformat(image.config.created)
        created = created if created.tzinfo is not None else created.replace(tzinfo=UTC)
    except ValueError:
        created = None
    if created is None or created < not_before:
        when = "does not say when it was created" if created is None else f"was created {image.config.created}"
        raise TrustError(
            f"{image.source_text!r} {when}, 'bootc.trust.notbefore=' wants {not_before.isoformat()} or later",
            hint="boot a newer image, or correct bootc.trust.notbefore=",
        )


def _reference(spec: SourceSpec | None) -> Reference | None:
    try:
        return parse_reference(spec.reference) if isinstance(spec, RegistryImage) else None
    except ValueError:
        # The source says what is wrong with it when it is opened.
        return None
