"""Decide which token services get a login: whoever answers for a registry must not choose who learns a password."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.logins import Login, Logins
from bootc_live.config.host.routes import Endpoint
from bootc_live.formats.oci.reference import canonical_host
from bootc_live.source.http.client import origin_of

# Public registries whose token service is on another host.
_KNOWN: Final = {
    "docker.io": "https://auth.docker.io/token",
    "registry.gitlab.com": "https://gitlab.com/jwt/auth",
}


def gets_login(realm: str, host: str, endpoint: Endpoint, login: Login, logins: Logins) -> bool:
    """Return whether the login for an endpoint may be sent to a token service, by its URL as it will be requested.

    It may be sent to the registry's own ``host`` at any port, to the token service that the registries file names, and
    to a host for which ``logins`` have the same login.
    """
    place = urlsplit(realm)
    if place.hostname == urlsplit(f"//{host}").hostname:
        return True
    named = endpoint.token_service or _KNOWN.get(canonical_host(endpoint.host))
    if named is not None and origin_of(named) == origin_of(realm) and urlsplit(named).path in ("", "/", place.path):
        return True
    try:
        return logins.find(place.netloc, "") == login
    except ConfigError:
        # A damaged entry matters only for its own host.
        return False
