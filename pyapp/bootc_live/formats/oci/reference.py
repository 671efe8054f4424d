"""Image references as podman and docker write them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bootc_live.formats.oci.descriptor import check_digest

_DEFAULT_REGISTRY = "docker.io"
_DOCKER_HUB = frozenset({"index.docker.io", "registry-1.docker.io"})
# Patterns of a registry's host with an optional port, and of a path below it.
HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?"
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
PATH = rf"(?:/{_NAME})*"
_HOST = re.compile(rf"{HOST}\Z")
_COMPONENT = re.compile(rf"{_NAME}\Z")
_PORT = re.compile(r"(.*?)((?::[0-9]+)?)", re.DOTALL)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


@dataclass(frozen=True)
class Reference:
    """A registry host, a repository, and a tag or digest (distribution-spec, pulling manifests)."""

    registry: str
    repository: str
    tag: str
    digest: str | None

    @property
    def host(self) -> str:
        """The host of the API; Docker Hub has another one than in its references."""
        return "registry-1.docker.io" if self.registry == _DEFAULT_REGISTRY else self.registry

    @property
    def target(self) -> str:
        """The digest if there is one, else the tag."""
        return self.digest or self.tag

    @property
    def canonical(self) -> Reference:
        """The same image in the one spelling that rules about it compare; see ``canonical_host``."""
        registry, repository = canonical_host(self.registry), self.repository
        if registry == _DEFAULT_REGISTRY and "/" not in repository:
            repository = f"library/{repository}"
        return Reference(registry, repository, self.tag, self.digest)

    def __str__(self) -> str:
        """Return the full reference."""
        end = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.registry}/{self.repository}{end}"


def canonical_host(host: str) -> str:
    """Return the one spelling of a host: lower case, no final dot, no default port, and docker.io for Docker Hub."""
    match = _PORT.fullmatch(host.lower())
    assert match is not None, "it matches everything"
    name, port = match.groups()
    name = name.removesuffix(".")
    if port == ":443":
        port = ""
    return f"{_DEFAULT_REGISTRY if name in _DOCKER_HUB and not port else name}{port}"


def parse_reference(text: str) -> Reference:
    """Parse ``[HOST[:PORT]/]NAME[:TAG][@DIGEST]``; raises ValueError with the fault."""
    rest, at, digest_text = text.partition("@")
    digest = check_digest(digest_text) if at else None
    first, slash, others = rest.partition("/")
    if slash and (first == "localhost" or any(mark in first for mark in ".:[")):
        registry, rest = first, others
    else:
        registry = _DEFAULT_REGISTRY
    name, colon, tag = rest.rpartition(":")
    if not colon:
        name, tag = rest, "latest"
    if registry == _DEFAULT_REGISTRY and "/" not in name:
        name = f"library/{name}"
    if _HOST.match(registry) is None:
        raise ValueError(f"{registry!r} is not a host with an optional port")
    if not all(_COMPONENT.match(part) for part in name.split("/")):
        raise ValueError(f"{name!r} is not a repository name (lower-case letters, digits, . _ - and /)")
    if _TAG.match(tag) is None:
        raise ValueError(f"{tag!r} is not a tag")
    return Reference(registry, name, tag, digest)
