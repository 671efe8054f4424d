"""What a host brings along besides the kernel command line: rules, logins and certificates for registries."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.credentials import SYSTEM_CREDENTIALS, credential_path
from bootc_live.config.host.identity import host_identity
from bootc_live.config.host.logins import Logins, parse_logins
from bootc_live.config.host.routes import RegistryRules
from bootc_live.config.next_kernel.handover import HOST

_OWN = "/etc/bootc-live"
RULES = f"{_OWN}/registries.yaml"
CERTIFICATES = ("/etc/bootc-live/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
# bootc looks into the three of ostree, podman and docker into the two of a user.
_LOGINS = (
    "/etc/bootc-live/auth.json",
    "/run/ostree/auth.json",
    "/etc/ostree/auth.json",
    "/usr/lib/ostree/auth.json",
)
_USER_LOGINS = (
    ("XDG_RUNTIME_DIR", "containers/auth.json"),
    ("HOME", ".config/containers/auth.json"),
    ("HOME", ".docker/config.json"),
)


@dataclass(frozen=True)
class HostCertificates:
    """Paths of PEM files for one server: authorities besides the usual ones, and who we are to it.

    Certificate and key are either both there or both None; they may be one file.
    """

    authorities: tuple[str, ...] = ()
    client_certificate: str | None = None
    client_key: str | None = None


@dataclass(frozen=True)
class HostConfig:
    """Everything on this host that says how registries and web servers are to be talked to.

    ``authorities`` are paths of PEM files to trust besides the system's;
    ``host_directories`` hold one directory per server; ``client`` is a PEM file
    with certificate and key for servers that have none of their own there;
    ``identity`` tells this host from others.
    """

    rules: RegistryRules = field(default_factory=RegistryRules)
    logins: Logins = field(default_factory=Logins)
    authorities: tuple[str, ...] = ()
    host_directories: tuple[str, ...] = ()
    client: str | None = None
    identity: str = ""

    def for_host(self, hostport: str) -> HostCertificates:
        """Give the certificates for ``host[:port]`` (containers-certs.d(5)).

        Authorities of all directories count, and the first client certificate.
        Raises ConfigError for a client certificate without its key.
        """
        authorities: list[str] = []
        pair: tuple[str, str] | None = None
        for top in self.host_directories:
            directory = os.path.join(top, hostport)
            names = _names(directory) if "/" not in hostport and hostport.strip(".") else []
            authorities += [os.path.join(directory, name) for name in names if name.endswith(".crt")]
            pair = pair or _client_pair(directory, names)
        if pair is None and self.client is not None:
            pair = self.client, self.client
        return HostCertificates(tuple(authorities), *(pair or (None, None)))


def read_host_config(root: str = "/", environ: Mapping[str, str] = os.environ) -> HostConfig:
    """Look at the files and systemd credentials of this host; raises ConfigError for damaged ones.

    Every path is taken below ``root``. Logins: the first file that has one for a
    name wins; rules of the credential come before those of the file. What the kernel before this one had at a path
    comes before what is there now.
    """
    certificates = [_below(root, path) for path in CERTIFICATES]
    extra = [os.path.join(certificates[0], name) for name in _names(certificates[0]) if name.endswith((".crt", ".pem"))]
    authority = _credential(root, "ca")
    return HostConfig(
        rules=_rules([_credential(root, "registries"), _below(root, RULES)]),
        logins=Logins(tuple(parse_logins(_read(path), path) for path in _login_files(root, environ))),
        authorities=(*extra, *([authority] if authority else [])),
        host_directories=tuple(certificates),
        client=_credential(root, "client"),
        identity=host_identity(root),
    )


def host_files(root: str = "/", environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield the paths, without ``root`` in front, of all files that ``read_host_config`` might read."""
    found = {_credential(root, name) for name in ("ca", "client", "registries")}
    for top in (_OWN, *CERTIFICATES):
        found |= {os.path.join(where, name) for where, _, names in os.walk(_below(root, top)) for name in names}
    with suppress(ConfigError):
        found |= set(_login_files(root, environ))
    for path in sorted(filter(None, found)):
        if os.path.isfile(path):
            yield f"/{os.path.relpath(path, root)}"


def _rules(paths: list[str | None]) -> RegistryRules:
    rules = RegistryRules()
    for path in paths:
        if path is None or not os.path.isfile(path):
            continue
        # Late, because few hosts have such a file and yaml takes its time to import.
        try:
            from bootc_live.config.host.registries import parse_rules
        except ImportError as error:
            raise ConfigError(
                f"cannot read {path!r}: this initramfs was built without YAML ({error})",
                hint="build it again with the dracut module bootc-live-registry, or take that file out",
            ) from error
        rules = rules.before(parse_rules(_read(path), path))
    return rules


def _login_files(root: str, environ: Mapping[str, str]) -> Iterator[str]:
    credential = _credential(root, "auth")
    if credential is not None:
        yield credential
    named = environ.get("REGISTRY_AUTH_FILE")
    if named:
        path = _place(root, os.path.abspath(named))
        if not os.path.isfile(path):
            raise ConfigError(
                f"the variable REGISTRY_AUTH_FILE names {named!r}, which is not a file",
                hint="create that file, or unset the variable",
            )
        yield path
    users = [os.path.join(environ[name], path) for name, path in _USER_LOGINS if environ.get(name)]
    for path in (_place(root, path) for path in (*_LOGINS, *users)):
        if os.path.isfile(path):
            yield path


def _client_pair(directory: str, names: list[str]) -> tuple[str, str] | None:
    for name in names:
        stem, ending = os.path.splitext(name)
        missing = {".cert": ".key", ".key": ".cert"}.get(ending)
        if missing is not None and f"{stem}{missing}" not in names:
            raise ConfigError(
                f"{os.path.join(directory, name)!r} has no {stem}{missing} beside it",
                hint="a client certificate is a pair of files: client.cert and client.key",
            )
        if ending == ".cert":
            return os.path.join(directory, name), os.path.join(directory, f"{stem}.key")
    return None


def _names(directory: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(directory) if os.path.isfile(os.path.join(directory, name)))
    except OSError:
        return []


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(
            f"cannot read {path!r}: {error.strerror}", hint="make it readable, or take it out of the way"
        ) from error


def _credential(root: str, name: str) -> str | None:
    places = (_below(root, f"{top}{SYSTEM_CREDENTIALS}") for top in (HOST, ""))
    return next(filter(None, (credential_path(f"bootc-live.{name}", place) for place in places)), None)


def _place(root: str, path: str) -> str:
    """Return where to look for a file that the kernel before this one may have had."""
    handed = _below(root, f"{HOST}{path}")
    return handed if os.path.isfile(handed) else _below(root, path)


def _below(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))
