"""Apply the rules of a registries file to a repository: other locations, mirrors, blocked registries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bootc_live.base.errors import ConfigError
from bootc_live.config.model import Mirror


@dataclass(frozen=True)
class Endpoint:
    """A server, and the name of the repository there; ``pull`` is all, digest-only or tag-only.

    ``login`` allows to send a login from auth.json, and ``token_service`` to send it to this URL of another host.
    """

    host: str
    repository: str
    insecure: bool = False
    pull: str = "all"
    login: bool = True
    token_service: str | None = None


@dataclass(frozen=True)
class Route:
    """The mirrors of one repository, in order, and its origin; ``prefix`` is that of the rule, or empty."""

    blocked: bool
    origin: Endpoint
    mirrors: tuple[Endpoint, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class Rule:
    """One entry of the registries file ``origin``; without a ``location``, names do not change.

    ``token_service`` is that of the location.
    """

    prefix: str
    location: str | None = None
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    origin: str = ""
    token_service: str | None = None

    def rest_of(self, name: str) -> str | None:
        """Return the part of ``registry/repository`` after the prefix, or None without a match."""
        wanted, given = self.prefix.split("/"), name.split("/")
        if wanted[1:] != given[1 : len(wanted)] or not _host_matches(wanted[0], given[0]):
            return None
        return "/".join(given[len(wanted) :])

    @property
    def weight(self) -> tuple[int, bool, int]:
        """Return the precision of the prefix: path components, no wildcard, length."""
        return self.prefix.count("/"), not self.prefix.startswith("*."), len(self.prefix)


@dataclass(frozen=True)
class RegistryRules:
    """The rules of containers-registries.conf(5); without a matching rule, a name is its own location."""

    rules: tuple[Rule, ...] = ()

    def resolve(self, registry: str, repository: str) -> Route:
        """Return the servers for a repository, by the rule with the longest matching prefix.

        The part of the name after the prefix is appended to the location. Docker Hub is ``docker.io``, with
        ``library/`` in the repository. Raise ConfigError if the new name has no repository.
        """
        name = f"{registry}/{repository}"
        matching = [(rule, rest) for rule in self.rules if (rest := rule.rest_of(name)) is not None]
        if not matching:
            return Route(blocked=False, origin=Endpoint(registry, repository))
        rule, rest = max(matching, key=lambda match: match[0].weight)
        place = Mirror(rule.location or registry, rule.insecure, token_service=rule.token_service)
        origin = _endpoint(place, repository if rule.location is None else rest, name, rule)
        mirrors = (_endpoint(mirror, rest, name, rule) for mirror in rule.mirrors)
        return Route(rule.blocked, origin, tuple(mirrors), rule.prefix)

    def before(self, other: RegistryRules) -> RegistryRules:
        """Return the rules of both; those of ``self`` have precedence."""
        own = {rule.prefix for rule in self.rules}
        return RegistryRules(self.rules + tuple(rule for rule in other.rules if rule.prefix not in own))


def with_mirrors(route: Route, mirrors: Sequence[Mirror], repository: str) -> Route:
    """Return the route with mirrors of the kernel command line before those of the rules.

    The repository is appended to the path of each mirror. A mirror without TLS serves digests only and gets no login:
    an attacker on the network can neither choose the image nor read a password.
    """
    named = tuple(
        replace(
            _join(mirror, repository),
            pull="digest-only" if mirror.insecure else mirror.pull,
            login=not mirror.insecure,
        )
        for mirror in mirrors
    )
    return Route(route.blocked, route.origin, tuple(dict.fromkeys([*named, *route.mirrors])), route.prefix)


def _endpoint(place: Mirror, rest: str, name: str, rule: Rule) -> Endpoint:
    endpoint = _join(place, rest)
    if not endpoint.repository:
        raise ConfigError(
            f"{rule.origin!r} maps {name!r} to {place.location!r}, which contains no repository",
            hint=f"add the repository to the location of the prefix {rule.prefix!r}",
        )
    return endpoint


def _join(place: Mirror, rest: str) -> Endpoint:
    host, _, path = place.location.partition("/")
    repository = "/".join(part for part in (path, rest) if part)
    return Endpoint(host, repository, place.insecure, place.pull, token_service=place.token_service)


def _host_matches(wanted: str, given: str) -> bool:
    if wanted.startswith("*."):
        return given.endswith(wanted[1:]) and given != wanted[1:]
    return given == wanted
