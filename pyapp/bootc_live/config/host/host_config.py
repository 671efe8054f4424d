"""Read the rules, logins and certificates for registries from files and credentials of the host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.identity import host_identity
from bootc_live.config.host.logins import Logins, parse_logins
from bootc_live.config.host.routes import RegistryRules
from bootc_live.config.next_kernel.handover import HOST

_OWN = "/etc/bootc-live"
RULES = f"{_OWN}/registries.yaml"
_CREDENTIALS = "/run/credentials/@system"
CERTIFICATES = ("/etc/bootc-live/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")
# The system paths are those of ostree and bootc, the user's those of podman and docker.
_LOGINS = (
    "/etc/bootc-live/auth.json",
    "/run/ostree/auth.json",
    "/etc/ostree/auth.json",
    "/usr/lib/ostree/auth.json",
)
_USER_LOGINS = (
    ("XDG_RUNTIME_DIR", "containers/auth.json"),
    # Where podman writes without that variable, such as under sudo.
    ("", f"/run/containers/{os.geteuid()}/auth.json"),
    ("HOME", ".config/containers/auth.json"),
    ("HOME", ".docker/config.json"),
)


@dataclass(frozen=True)
class HostCertificates:
    """Paths of PEM files for one server: additional authorities and the client's certificate and key.

    Certificate and key are both None, or both set; they can be one file.
    """

    authorities: tuple[str, ...] = ()
    client_certificate: str | None = None
    client_key: str | None = None


@dataclass(frozen=True)
class HostConfig:
    """The settings of this host for connections to registries and web servers.

    ``authorities`` are paths of PEM files to trust in addition to the system's. Each of ``host_directories`` has a
    subdirectory per server. ``client`` is a PEM file with certificate and key for servers without their own.
    ``identity`` distinguishes this host from others.
    """

    rules: RegistryRules = field(default_factory=RegistryRules)
    logins: Logins = field(default_factory=Logins)
    authorities: tuple[str, ...] = ()
    host_directories: tuple[str, ...] = ()
    client: str | None = None
    identity: str = ""

    def for_host(self, hostport: str) -> HostCertificates:
        """Return the certificates for ``host[:port]`` (containers-certs.d(5)).

        Use the authorities of all directories, and the first client certificate. Raise ConfigError for a client
        certificate without its key.
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
    """Return the settings in files and systemd credentials below ``root``; raise ConfigError.

    Rules of the credential have precedence over those of the file, and files of the previous kernel over those that
    exist now.
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
    """Yield the paths, relative to ``root``, of all files that ``read_host_config`` may read."""
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
        # A late import: few hosts have such a file, and importing yaml is slow.
        try:
            from bootc_live.config.host.registries import parse_rules
        except ImportError as error:
            raise ConfigError(
                f"cannot read {path!r}: this initramfs contains no YAML support ({error})",
                hint="rebuild it with the dracut module bootc-live-registry, or remove that file",
            ) from error
        rules = rules.before(parse_rules(_read(path), path))
    return rules


def _login_files(root: str, environ: Mapping[str, str]) -> Iterator[str]:
    credential = _credential(root, "auth")
    if credential is not None:
        yield credential
    named = environ.get("REGISTRY_AUTH_FILE")
    if named:
        path = _find(root, os.path.abspath(named))
        if not os.path.isfile(path):
            raise ConfigError(
                f"the environment variable REGISTRY_AUTH_FILE names {named!r}, which is not a file",
                hint="create that file, or unset the variable",
            )
        yield path
    users = [os.path.join(environ.get(name, ""), path) for name, path in _USER_LOGINS if not name or environ.get(name)]
    for path in (_find(root, path) for path in (*_LOGINS, *users)):
        if os.path.isfile(path):
            yield path


def _client_pair(directory: str, names: list[str]) -> tuple[str, str] | None:
    for name in names:
        stem, extension = os.path.splitext(name)
        other = {".cert": ".key", ".key": ".cert"}.get(extension)
        if other is not None and f"{stem}{other}" not in names:
            raise ConfigError(
                f"{os.path.join(directory, name)!r} needs the file {stem}{other} in the same directory",
                hint="a client certificate needs two files: client.cert and client.key",
            )
        if extension == ".cert":
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
        raise ConfigError(f"cannot read {path!r}: {error.strerror}", hint="make it readable, or remove it") from error


def _credential(root: str, name: str) -> str | None:
    """Return the path of a credential of the system (systemd.system-credentials(7)), or None if it cannot be read."""
    paths = (_below(root, f"{top}{_CREDENTIALS}/bootc-live.{name}") for top in (HOST, ""))
    return next((path for path in paths if os.access(path, os.R_OK) and os.path.isfile(path)), None)


def _find(root: str, path: str) -> str:
    """Return the path of a file that the previous kernel handed over, else of the current one."""
    handed = _below(root, f"{HOST}{path}")
    return handed if os.path.isfile(handed) else _below(root, path)


def _below(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))
