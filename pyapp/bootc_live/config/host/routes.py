"""Where a repository is really asked for: rewritten locations, mirrors, blocked registries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bootc_live.base.errors import ConfigError
from bootc_live.config.model import Mirror


@dataclass(frozen=True)
class Endpoint:
    """A place to ask: ``repository`` is the name there; ``pull`` is all, digest-only or tag-only.

    ``login`` tells whether it may have a login from auth.json.
    """

    host: str
    repository: str
    insecure: bool = False
    pull: str = "all"
    login: bool = True


@dataclass(frozen=True)
class Route:
    """The places for one repository: mirrors in order, then the origin. ``prefix`` is the rule's, or empty."""

    blocked: bool
    origin: Endpoint
    mirrors: tuple[Endpoint, ...] = ()
    prefix: str = ""


@dataclass(frozen=True)
class Rule:
    """One entry of a registries file; a ``location`` of None leaves names as they are.

    ``origin`` is the file it stands in.
    """

    prefix: str
    location: str | None = None
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()
    origin: str = ""

    def rest_of(self, name: str) -> str | None:
        """Give what follows the prefix in ``registry/repository``, or None where it does not match."""
        wanted, given = self.prefix.split("/"), name.split("/")
        if wanted[1:] != given[1 : len(wanted)] or not _host_matches(wanted[0], given[0]):
            return None
        return "/".join(given[len(wanted) :])

    @property
    def weight(self) -> tuple[int, bool, int]:
        """How exact the prefix is: more path, then a whole host rather than a wildcard, then more letters."""
        return self.prefix.count("/"), not self.prefix.startswith("*."), len(self.prefix)


@dataclass(frozen=True)
class RegistryRules:
    """What containers-registries.conf(5) calls registries; without rules every name is its own location."""

    rules: tuple[Rule, ...] = ()

    def resolve(self, registry: str, repository: str) -> Route:
        """Give the places for a repository, by the rule with the longest matching prefix.

        The part of the name after the prefix is added to the location. Docker
        Hub is ``docker.io``, with ``library/`` in the repository. Raises
        ConfigError where the rewritten name has no repository.
        """
        name = f"{registry}/{repository}"
        matching = [(rule, rest) for rule in self.rules if (rest := rule.rest_of(name)) is not None]
        if not matching:
            return Route(blocked=False, origin=Endpoint(registry, repository))
        rule, rest = max(matching, key=lambda match: match[0].weight)
        origin = Endpoint(registry, repository, rule.insecure)
        if rule.location is not None:
            origin = _endpoint(rule.location, rest, name, rule, insecure=rule.insecure)
        mirrors = (
            _endpoint(mirror.location, rest, name, rule, insecure=mirror.insecure, pull=mirror.pull)
            for mirror in rule.mirrors
        )
        return Route(rule.blocked, origin, tuple(mirrors), rule.prefix)

    def before(self, other: RegistryRules) -> RegistryRules:
        """Give the rules of both; of two with the same prefix, the one of ``self``."""
        own = {rule.prefix for rule in self.rules}
        return RegistryRules(self.rules + tuple(rule for rule in other.rules if rule.prefix not in own))


def with_mirrors(route: Route, mirrors: Sequence[Mirror], repository: str) -> Route:
    """Put mirrors of the kernel command line before those of the rules.

    The repository, as in the reference, is added to each one's path. Whoever is on the way to one without TLS must
    neither choose the image nor see a password: it is asked for digests only, and gets no login.
    """
    named = tuple(
        replace(
            _join(mirror.location, repository, mirror.insecure, "digest-only" if mirror.insecure else mirror.pull),
            login=not mirror.insecure,
        )
        for mirror in mirrors
    )
    return Route(route.blocked, route.origin, tuple(dict.fromkeys([*named, *route.mirrors])), route.prefix)


def _endpoint(location: str, rest: str, name: str, rule: Rule, *, insecure: bool, pull: str = "all") -> Endpoint:
    endpoint = _join(location, rest, insecure, pull)
    if not endpoint.repository:
        raise ConfigError(
            f"{rule.origin!r} sends {name!r} to {location!r}, where no name of a repository is left",
            hint=f"add the repository to that location, below the prefix {rule.prefix!r}",
        )
    return endpoint


def _join(location: str, rest: str, insecure: bool, pull: str) -> Endpoint:
    host, _, path = location.partition("/")
    return Endpoint(host, "/".join(part for part in (path, rest) if part), insecure, pull)


def _host_matches(wanted: str, given: str) -> bool:
    if wanted.startswith("*."):
        return given.endswith(wanted[1:]) and given != wanted[1:]
    return given == wanted
