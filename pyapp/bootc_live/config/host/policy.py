"""Read a signature policy: the words of containers-policy.json(5), or keys alone.

What the policy of other programs may say and is not supported here (GPG keys, certificates, transparency logs) is an
error only for images that it is about: a policy that cannot be followed must not be skipped.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bootc_live.base.errors import ConfigError
from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.reference import Reference, canonical_host, parse_reference
from bootc_live.system.signatures import PublicKey

# Of keys without a policy: whatever a signature names.
ANY = "any"
_REGISTRY, _DOCKER_ARCHIVE = "docker", "docker-archive"
_OCI = ("oci-archive", "oci")
_KEYS = {"keyPath": False, "keyPaths": True, "keyData": False, "keyDatas": True}
_EXPECTED = {"exactReference": "dockerReference", "exactRepository": "dockerRepository"}
_IDENTITIES = frozenset({"matchExact", "matchRepoDigestOrExact", "matchRepository", *_EXPECTED})
_HINT = "correct the policy; docs/signing.md describes what of containers-policy.json(5) is supported"


class Kind(StrEnum):
    """What one requirement of a policy asks for."""

    ACCEPT = "insecureAcceptAnything"
    REJECT = "reject"
    SIGNED = "sigstoreSigned"


@dataclass(frozen=True)
class Requirement:
    """One requirement. ``fault`` is why it cannot be followed, empty if it can.

    A signature counts if one of ``keys`` made it and it names what ``identity`` wants, with ``expected`` for the kinds
    that name it. ``threshold`` different keys must have signed.
    """

    kind: Kind
    keys: tuple[PublicKey, ...] = ()
    threshold: int = 1
    identity: str = "matchRepoDigestOrExact"
    expected: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Policy:
    """The requirements for images: all of those that stand for the scope nearest to an image must be met.

    ``origin`` is where the policy is from. ``scopes`` are those of registries, as written; ``archives`` are the
    requirements for other sources, by transport.
    """

    origin: str
    default: tuple[Requirement, ...]
    scopes: tuple[tuple[str, tuple[Requirement, ...]], ...] = ()
    archives: tuple[tuple[str, tuple[Requirement, ...]], ...] = ()

    def requirements(self, reference: Reference | None, *, docker: bool = False) -> tuple[str, tuple[Requirement, ...]]:
        """Return which line of the policy decides about an image, and its requirements.

        ``reference`` is None for an image that is not from a registry; ``docker`` tells that it is in a docker-archive.
        An OCI archive and a layout are the same here: if both have a line, both count.
        """
        if reference is None:
            transports = (_DOCKER_ARCHIVE,) if docker else _OCI
            found = [(name, each) for name, each in self.archives if name in transports]
            if not found:
                return f"{self.origin}: default", self.default
            return f"{self.origin}: {' and '.join(name for name, _ in found)}", tuple(
                one for _, each in found for one in each
            )
        scopes = {_canonical_scope(scope): (scope, found) for scope, found in self.scopes}
        for name in _scopes_of(reference.canonical):
            if name in scopes:
                scope, requirements = scopes[name]
                return f"{self.origin}: docker {scope!r}", requirements
        return f"{self.origin}: default", self.default


def keys_policy(keys: Sequence[PublicKey], threshold: int) -> Policy:
    """Return the policy that wants every image signed by so many of the keys."""
    requirement = Requirement(Kind.SIGNED, tuple(keys), threshold, ANY)
    return Policy(" and ".join(key.name for key in keys), (requirement,))


def parse_policy(content: bytes, origin: str, read: Callable[[str], bytes], threshold: int = 1) -> Policy:
    """Parse a policy; ``read`` gives the content of a file that it names. Raise ConfigError."""
    try:
        document = read_json(content, frozenset({"default", "transports"}))
        if not isinstance(document, dict) or document.keys() - {"default", "transports"}:
            raise ValueError("it must be an object with 'default' and 'transports'")
        transports = document.get("transports", {})
        if not isinstance(transports, dict) or not all(isinstance(scopes, dict) for scopes in transports.values()):
            raise ValueError("'transports' must have an object for each transport")

        def parsed(data: object) -> tuple[Requirement, ...]:
            if not isinstance(data, list) or not data:
                raise ValueError("a scope must have a list of requirements, and not an empty one")
            return tuple(_requirement(each, read, threshold) for each in data)

        archives = []
        for name in (*_OCI, _DOCKER_ARCHIVE):
            scopes = transports.get(name, {})
            if scopes.keys() - {""}:
                raise ValueError(f'the transport {name!r} has a scope; only "" is supported there')
            if scopes:
                archives.append((name, parsed(scopes[""])))
        return Policy(
            origin,
            parsed(document.get("default")),
            tuple((scope, parsed(data)) for scope, data in _distinct(transports.get(_REGISTRY, {}))),
            tuple(archives),
        )
    except ValueError as error:
        raise ConfigError(f"the policy {origin!r} cannot be used: {error}", hint=_HINT) from error


def _requirement(data: object, read: Callable[[str], bytes], threshold: int) -> Requirement:
    if not isinstance(data, dict):
        raise ValueError("a requirement must be an object")
    kind = data.get("type")
    if kind == "signedBy":
        return Requirement(Kind.REJECT, fault="it wants signatures of GPG keys (signedBy), which are not supported")
    if not isinstance(kind, str) or kind not in tuple(Kind):
        raise ValueError(f"a requirement has the unknown type {kind!r}")
    if kind != Kind.SIGNED:
        _known(data, {"type"})
        return Requirement(Kind(kind))
    unsupported = data.keys() & {
        "fulcio",
        "pki",
        "rekorPublicKeyPath",
        "rekorPublicKeyPaths",
        "rekorPublicKeyData",
        "rekorPublicKeyDatas",
    }
    if unsupported:
        return Requirement(
            Kind.REJECT, fault=f"it wants {', '.join(sorted(unsupported))}, which is not supported: only keys are"
        )
    _known(data, {"type", "signedIdentity", *_KEYS})
    identity = data.get("signedIdentity", {"type": "matchRepoDigestOrExact"})
    if not isinstance(identity, dict) or str(identity.get("type")) not in _IDENTITIES:
        raise ValueError(f"a requirement has a signedIdentity that is not supported: {identity!r}")
    field = _EXPECTED.get(str(identity["type"]), "")
    if identity.keys() != {"type", field} - {""}:
        raise ValueError(f"the signedIdentity {identity['type']!r} needs {field or 'nothing'} besides its type")
    expected = str(identity.get(field, ""))
    if field:
        parse_reference(expected)
    return Requirement(Kind.SIGNED, tuple(_keys(data, read)), threshold, str(identity["type"]), expected)


def _keys(data: dict[str, Any], read: Callable[[str], bytes]) -> Iterator[PublicKey]:
    given = [name for name in _KEYS if name in data]
    if len(given) != 1:
        raise ValueError(f"sigstoreSigned must have exactly one of {', '.join(_KEYS)}")
    values = data[given[0]] if _KEYS[given[0]] else [data[given[0]]]
    if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{given[0]} must be text, or a list of texts")
    for value in values:
        yield read_key(value, read) if "Path" in given[0] else _key_in(value)


def _key_in(text: str) -> PublicKey:
    try:
        key = PublicKey(base64.b64decode(text, validate=True), "key data of the policy")
    except binascii.Error as error:
        raise ValueError("its key data is not in base64") from error
    key.check()
    return key


def read_key(path: str, read: Callable[[str], bytes]) -> PublicKey:
    """Return the key in a file; raise ValueError."""
    key = PublicKey(read(path), path)
    try:
        key.check()
    except ValueError as error:
        raise ValueError(f"the key {path!r} cannot be used: {error}") from error
    return key


def _known(data: dict[str, Any], names: set[str]) -> None:
    unknown = data.keys() - names
    if unknown:
        raise ValueError(f"a requirement has the unknown field {sorted(unknown)[0]!r}")


def _distinct(scopes: dict[str, object]) -> Iterator[tuple[str, object]]:
    seen: dict[str, str] = {}
    for scope, data in scopes.items():
        same = seen.setdefault(_canonical_scope(scope), scope)
        if same != scope:
            raise ValueError(f"the scopes {same!r} and {scope!r} are the same")
        yield scope, data


def _canonical_scope(scope: str) -> str:
    """Return a scope with its host in the one spelling: a rule must not be evaded by writing a name differently."""
    host, slash, path = scope.partition("/")
    return f"{canonical_host(host)}{slash}{path}"


def _scopes_of(reference: Reference) -> Iterator[str]:
    """Yield the scopes that an image is in, the nearest first (containers-policy.json(5), docker:)."""
    name = f"{reference.registry}/{reference.repository}"
    if reference.digest is not None:
        yield f"{name}@{reference.digest}"
    elif reference.tag:
        yield f"{name}:{reference.tag}"
    while name:
        yield name
        name = name.rpartition("/")[0]
    host = reference.registry.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        yield f"*.{host}"
    yield ""
