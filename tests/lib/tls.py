"""Certificates of a private authority, made by openssl(1), for servers that tests run on loopback.

They carry what Python 3.13 insists on (RFC 5280 key identifiers and key usage), so that a test fails for its own
reason only.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from tests.lib.needs import need

# The last one is what a QEMU guest calls the loopback of its host.
NAMES: Final = ("IP:127.0.0.1", "IP:10.0.2.2", "DNS:localhost")

Key = Literal["ec", "rsa"]

_KEYS: Final[dict[Key, tuple[str, ...]]] = {
    "ec": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "rsa": ("-newkey", "rsa:2048"),
}
_AUTHORITY: Final = """
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER: Final = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""
_CLIENT: Final = """
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, both as PEM files."""

    certificate: Path
    key: Path


def make_authority(directory: Path, name: str = "authority", extensions: str = _AUTHORITY) -> Certificate:
    """A self-signed authority in `directory`, good for thirty days; `extensions` are lines of x509v3_config(5)."""
    return _make(directory, name, extensions, "ec", None)


def make_server(
    directory: Path,
    authority: Certificate | None,
    *,
    name: str = "server",
    names: tuple[str, ...] = NAMES,
    key: Key = "ec",
    days: tuple[int, int] | None = None,
    extensions: str = _SERVER,
) -> Certificate:
    """A server's certificate for `names`, signed by `authority` or, without one, by itself.

    `days` are its first and last, counted from today, for one that is not good now; that takes openssl 3.4.
    """
    return _make(directory, name, extensions.format(names=", ".join(names)), key, authority, days)


def make_client(
    directory: Path, authority: Certificate, *, name: str = "client", days: tuple[int, int] | None = None
) -> Certificate:
    """A client's certificate, signed by `authority`; `days` as for `make_server`."""
    return _make(directory, name, _CLIENT, "ec", authority, days)


def _make(
    directory: Path,
    name: str,
    extensions: str,
    key: Key,
    authority: Certificate | None,
    days: tuple[int, int] | None = None,
) -> Certificate:
    need("openssl")
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificate(directory / f"{name}.crt", directory / f"{name}.key")
    settings = directory / f"{name}.cnf"
    settings.write_text(
        f"[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = extensions\n"
        f"[subject]\nCN = bootc-live test {name}\n[extensions]{extensions}"
    )
    signer = ("-CA", authority.certificate, "-CAkey", authority.key) if authority else ()
    until = ("-not_before", _date(days[0]), "-not_after", _date(days[1])) if days else ("-days", "30")
    command = ["openssl", "req", "-x509", "-config", settings, *until, "-nodes", *_KEYS[key], *signer]
    command += ["-keyout", made.key, "-out", made.certificate]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def _date(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")
