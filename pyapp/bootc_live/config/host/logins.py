"""Read registry logins from containers-auth.json(5) and docker's config.json."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bootc_live.base.errors import ConfigError

_HINT = "write it again, for example with: podman login --authfile FILE REGISTRY"
_DOCKER_HUB = frozenset({"index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, repr=False)
class Login:
    """User and password, or an identity token (OAuth2 refresh token); ``repr`` hides both."""

    username: str | None = None
    password: str | None = None
    identity_token: str | None = None

    def __repr__(self) -> str:
        """Return the kind of the login only."""
        return f"Login({'identity token' if self.identity_token else 'password'}, hidden)"


@dataclass(frozen=True)
class AuthFile:
    """The logins of one file by normalised key, and its credential helpers.

    An unusable entry is stored as its error, which is raised only if that login is needed.
    """

    origin: str
    logins: Mapping[str, Login | ConfigError] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None


@dataclass(frozen=True)
class Logins:
    """The logins of several files; the first file has precedence."""

    files: tuple[AuthFile, ...] = ()

    def find(self, registry: str, repository: str) -> Login | None:
        """Return the login from the first file that has one, by its longest matching key.

        Raise ConfigError if that entry cannot be used.
        """
        for file in self.files:
            for key in _keys(registry, repository):
                found = file.logins.get(key)
                if isinstance(found, ConfigError):
                    raise found
                if found is not None:
                    return found
        return None

    def helper_for(self, registry: str, repository: str = "") -> str | None:
        """Return a text that names the credential helper for a repository, or None; helpers are never started.

        Errors show it to explain why other programs on this machine have a login.
        """
        for file in self.files:
            named = (file.helpers[key] for key in _keys(registry, repository) if key in file.helpers)
            helper = next(named, file.store)
            if helper is not None:
                return f"{file.origin!r} names the credential helper docker-credential-{helper}"
        return None


def parse_logins(text: bytes, origin: str) -> AuthFile:
    """Return the logins in a file named ``origin``; raise ConfigError, which never quotes the content.

    Unusable entries of ``auths`` raise no error here; see ``AuthFile``.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        # Not chained: the cause contains the text with the secrets.
        raise ConfigError(f"{origin!r} is not JSON", hint=_HINT) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{origin!r} is not a JSON object", hint=_HINT)
    auths, helpers, store = data.get("auths") or {}, data.get("credHelpers") or {}, data.get("credsStore") or None
    if not isinstance(auths, dict) or not isinstance(helpers, dict) or not isinstance(store, str | None):
        raise ConfigError(f"auths, credHelpers or credsStore of {origin!r} has the wrong type", hint=_HINT)
    logins: dict[str, Login | ConfigError] = {}
    # Normalised keys have precedence over other spellings.
    for number, (key, entry) in sorted(enumerate(auths.items(), 1), key=lambda item: _normal(item[1][0]) != item[1][0]):
        login: Login | ConfigError | None
        try:
            login = _login(entry, f"entry {number} of auths in {origin!r}")
        except ConfigError as error:
            login = error
        if login is not None:
            logins.setdefault(_normal(key), login)
    return AuthFile(origin, logins, {_normal(key): str(value) for key, value in helpers.items() if value}, store)


def _login(entry: object, where: str) -> Login | None:
    """Return the login of one entry, or None for an empty one, which credential helpers leave."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is not a JSON object", hint=_HINT)
    auth, username, password, token = (_text(entry, key, where) for key in _FIELDS)
    if auth:
        try:
            # base64(1) wraps lines.
            decoded = base64.b64decode("".join(auth.split()), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise ConfigError(f"{where} has an auth that is not base64 of USER:PASSWORD", hint=_HINT) from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise ConfigError(f"{where} has an auth that is not base64 of USER:PASSWORD", hint=_HINT)
        # Old versions of docker padded the text with zero bytes.
        password = password.rstrip("\0")
    if token:
        return Login(username or None, None, token)
    return Login(username, password or "") if username else None


_FIELDS = ("auth", "username", "password", "identitytoken")


def _text(entry: dict[str, object], key: str, where: str) -> str | None:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where} has a {key} that is not a string", hint=_HINT)
    return value


def _keys(registry: str, repository: str) -> Iterator[str]:
    parts = [_normal(registry), *(repository.split("/") if repository else ())]
    for count in range(len(parts), 0, -1):
        yield "/".join(parts[:count])


def _normal(key: str) -> str:
    """Return a key as ``host[:port][/path]``, without scheme and API version, and with docker.io for Docker Hub."""
    place = key.removeprefix("https://").removeprefix("http://")
    if place != key or place.endswith("/"):
        place = place.rstrip("/")
        for version in ("/v1", "/v2"):
            place = place.removesuffix(version)
    host, slash, path = place.partition("/")
    host = host.lower()
    return f"{'docker.io' if host in _DOCKER_HUB else host}{slash}{path}"
