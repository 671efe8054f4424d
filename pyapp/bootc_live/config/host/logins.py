"""Credentials for registries, as containers-auth.json(5) and docker's config.json hold them."""

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
    """Name and password, or an identity token (OAuth2 refresh token); ``repr`` shows neither."""

    username: str | None = None
    password: str | None = None
    identity_token: str | None = None

    def __repr__(self) -> str:
        """Tell only which kind it is."""
        return f"Login({'identity token' if self.identity_token else 'password'}, hidden)"


@dataclass(frozen=True)
class AuthFile:
    """One file: logins by normal key, and the helper programs it names instead of some.

    An entry that cannot be used is kept as what is wrong with it: it matters only to who needs it.
    """

    origin: str
    logins: Mapping[str, Login | ConfigError] = field(default_factory=dict)
    helpers: Mapping[str, str] = field(default_factory=dict)
    store: str | None = None


@dataclass(frozen=True)
class Logins:
    """The logins of several files, the most important file first."""

    files: tuple[AuthFile, ...] = ()

    def find(self, registry: str, repository: str) -> Login | None:
        """Return the login of the first file that has one, there by the key with the most of the name in it.

        Raises ConfigError where that very entry cannot be used.
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
        """Return the file and the helper program that may know a login; such programs are never started.

        None where no file names a helper. For errors: why there is no login
        although other programs on this machine have one.
        """
        for file in self.files:
            named = (file.helpers[key] for key in _keys(registry, repository) if key in file.helpers)
            helper = next(named, file.store)
            if helper is not None:
                return f"{file.origin!r} leaves it to the program docker-credential-{helper}"
        return None


def parse_logins(text: bytes, origin: str) -> AuthFile:
    """Read one file; ``origin`` names it. Raises ConfigError, which quotes nothing of the content.

    Entries of its ``auths`` that are damaged raise nothing here: see ``AuthFile``.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        # Not chained: the cause would hold the text with the secrets.
        raise ConfigError(f"{origin!r} is not JSON", hint=_HINT) from None
    if not isinstance(data, dict):
        raise ConfigError(f"{origin!r} is not a JSON object", hint=_HINT)
    auths, helpers, store = data.get("auths") or {}, data.get("credHelpers") or {}, data.get("credsStore") or None
    if not isinstance(auths, dict) or not isinstance(helpers, dict) or not isinstance(store, str | None):
        raise ConfigError(f"{origin!r} has auths, credHelpers or credsStore of a wrong type", hint=_HINT)
    logins: dict[str, Login | ConfigError] = {}
    # A key that needs no rewriting comes before its older spellings.
    for key, entry, number in sorted(_entries(auths), key=lambda item: _normal(item[0]) != item[0]):
        login: Login | ConfigError | None
        try:
            login = _login(entry, f"entry {number} of auths in {origin!r}")
        except ConfigError as error:
            login = error
        if login is not None:
            logins.setdefault(_normal(key), login)
    return AuthFile(origin, logins, {_normal(key): str(value) for key, value in helpers.items() if value}, store)


def _entries(auths: dict[str, object]) -> Iterator[tuple[str, object, int]]:
    for number, (key, entry) in enumerate(auths.items(), 1):
        yield key, entry, number


def _login(entry: object, where: str) -> Login | None:
    """Give the login of one entry; None for an empty one, as helper programs leave it."""
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is not a JSON object", hint=_HINT)
    auth, username, password, token = (_text(entry, key, where) for key in _FIELDS)
    if auth:
        try:
            # base64(1) writes it in lines.
            decoded = base64.b64decode("".join(auth.split()), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise ConfigError(f"{where} has an auth that is not base64 of USER:PASSWORD", hint=_HINT) from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise ConfigError(f"{where} has an auth that is not base64 of USER:PASSWORD", hint=_HINT)
        # Old versions of docker filled the decoded text up with these.
        password = password.rstrip("\0")
    if token:
        return Login(username or None, None, token)
    return Login(username, password or "") if username else None


_FIELDS = ("auth", "username", "password", "identitytoken")


def _text(entry: dict[str, object], key: str, where: str) -> str | None:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where} has a {key} that is not a text", hint=_HINT)
    return value


def _keys(registry: str, repository: str) -> Iterator[str]:
    parts = [_normal(registry), *(repository.split("/") if repository else ())]
    for count in range(len(parts), 0, -1):
        yield "/".join(parts[:count])


def _normal(key: str) -> str:
    """Give a key as ``host[:port][/path]``: without scheme and API version, Docker Hub as docker.io."""
    place = key.removeprefix("https://").removeprefix("http://")
    if place != key or place.endswith("/"):
        place = place.rstrip("/")
        for version in ("/v1", "/v2"):
            place = place.removesuffix(version)
    host, slash, path = place.partition("/")
    host = host.lower()
    return f"{'docker.io' if host in _DOCKER_HUB else host}{slash}{path}"
