"""Whom HTTPS connections trust, and what they show of themselves."""

from __future__ import annotations

import os
import ssl
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from bootc_live.base.errors import SourceError
from bootc_live.config.surroundings import HostCertificates, Surroundings

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

Settings = tuple[bool | str, tuple[str, str] | None]


class TrustError(SourceError):
    """There is nothing to check a server by, or what there is cannot be used."""


class Trust:
    """What to check a host's certificate by, and the client certificate for it. Use ``opened_trust``."""

    def __init__(self, surroundings: Surroundings, directory: str, *, unsecure: bool) -> None:
        """``directory`` is for joined bundles; ``unsecure`` leaves all certificates unchecked."""
        self._surroundings = surroundings
        self._directory = directory
        self._unsecure = unsecure
        self._unchecked: set[str] = set()
        self._made: dict[str, Settings] = {}
        self._lock = threading.Lock()

    def leave_unchecked(self, host: str) -> None:
        """Do not check the certificate of one ``host[:port]``: the user said so."""
        self._unchecked.add(host)
        self._made.pop(host, None)

    def for_url(self, url: str) -> Settings:
        """Give ``verify`` and ``cert`` as requests wants them; raises TrustError.

        There is nothing to check for plain HTTP.
        """
        parts = urlsplit(url)
        if parts.scheme != "https":
            return False, None
        host = parts.netloc.rpartition("@")[2]
        with self._lock:
            if host not in self._made:
                self._made[host] = self._settings(host)
            return self._made[host]

    def context_for(self, url: str) -> ssl.SSLContext:
        """Give a context for TLS to the host of a URL, such as a proxy; raises TrustError."""
        verify, certificate = self.for_url(url)
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
        if verify is False:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context

    def _settings(self, host: str) -> Settings:
        certificates = self._surroundings.for_host(host)
        shown = _client(certificates, host)
        if self._unsecure or host in self._unchecked:
            return False, shown
        extra = [*self._surroundings.authorities, *certificates.authorities]
        check_authorities(extra)
        bundle = self._joined(host, extra)
        if bundle is None:
            raise TrustError(
                f"cannot check who {host} is: there are no certificate authorities here",
                hint="install ca-certificates where the initramfs is built, put the server's CA certificate into "
                "/etc/bootc-live/certs.d, or, on a network you trust, set bootc.registry.unsecure",
            )
        return bundle, shown

    def _joined(self, host: str, extra: Sequence[str]) -> str | None:
        system = system_bundle()
        if not extra:
            return system
        path = os.path.join(self._directory, f"{host.replace(':', '_')}.pem")
        with open(path, "wb") as joined:
            for part in [*([system] if system else []), *extra]:
                with open(part, "rb") as file:
                    joined.write(file.read() + b"\n")
        return path


@contextmanager
def opened_trust(surroundings: Surroundings, *, unsecure: bool) -> Iterator[Trust]:
    """Give the trust of these surroundings; its files go with the block."""
    with tempfile.TemporaryDirectory(prefix="bootc-live-ca.") as directory:
        yield Trust(surroundings, directory, unsecure=unsecure)


def system_bundle() -> str | None:
    """Give the path of the system's CA bundle, or None; ``SSL_CERT_FILE`` replaces it."""
    candidates = [os.environ.get("SSL_CERT_FILE", ""), *SYSTEM_BUNDLES]
    return next((path for path in candidates if path and os.path.isfile(path)), None)


def check_authorities(paths: Iterable[str]) -> None:
    """Raise TrustError for a CA file that is none: one of them would make all HTTPS fail."""
    for path in paths:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        except OSError as error:
            raise TrustError(
                f"the CA file {path!r} cannot be used: {error.strerror or error}",
                hint="put certificates in PEM form there, or take the file away",
            ) from error


def _client(certificates: HostCertificates, host: str) -> tuple[str, str] | None:
    if certificates.client_certificate is None or certificates.client_key is None:
        return None
    pair = certificates.client_certificate, certificates.client_key
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(*pair)
    except OSError as error:
        raise TrustError(
            f"the client certificate for {host} ({pair[0]!r}) cannot be used: {error.strerror or error}",
            hint="put a certificate and its key, in PEM form and without a password, there",
        ) from error
    return pair
