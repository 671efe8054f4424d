"""Whom HTTPS connections trust, and what they show of themselves."""

from __future__ import annotations

import os
import ssl
import threading
from urllib.parse import urlsplit

from bootc_live.base.errors import SourceError
from bootc_live.config.host.host_config import HostCertificates, HostConfig
from bootc_live.source.http.patience import PatientTLSSocket

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class TrustError(SourceError):
    """There is nothing to check a server by, or what there is cannot be used."""


class Trust:
    """The TLS contexts of all servers. Whether one is checked is said with each request, and kept nowhere."""

    def __init__(self, host_config: HostConfig) -> None:
        """Read nothing yet."""
        self._surroundings = host_config
        self._made: dict[tuple[HostCertificates, bool], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, url: str, *, checked: bool) -> ssl.SSLContext:
        """Return the context for TLS to the server of a URL; raise TrustError and ConfigError.

        Connections are shared only by those who have the same one.
        """
        host = urlsplit(url).netloc.rpartition("@")[2]
        certificates = self._surroundings.for_host(host)
        key = certificates, checked
        with self._lock:
            if key not in self._made:
                self._made[key] = self._make(certificates, host, checked=checked)
            return self._made[key]

    def _make(self, certificates: HostCertificates, host: str, *, checked: bool) -> ssl.SSLContext:
        # Not create_default_context: Python 3.13 makes it refuse private authorities that OpenSSL itself, curl and
        # Go accept (VERIFY_X509_STRICT), and it writes keys where SSLKEYLOGFILE says.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.post_handshake_auth = True
        context.sslsocket_class = PatientTLSSocket
        _show(context, certificates, host)
        if not checked:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        context.hostname_checks_common_name = False
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # What is named as an authority is one, self-signed or not, as for curl and Go.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        system = system_bundle()
        authorities = [*([system] if system else []), *self._surroundings.authorities, *certificates.authorities]
        if not authorities:
            raise TrustError(
                f"cannot check who {host} is: there are no certificate authorities here",
                hint="install ca-certificates where the initramfs is built, or put the server's CA certificate into "
                "/etc/bootc-live/certs.d",
            )
        for path in authorities:
            _trust(context, path)
        return context


def system_bundle() -> str | None:
    """Return the path of the system's CA bundle, or None; ``SSL_CERT_FILE`` replaces it."""
    candidates = [os.environ.get("SSL_CERT_FILE", ""), *SYSTEM_BUNDLES]
    return next((path for path in candidates if path and os.path.isfile(path)), None)


def _trust(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise TrustError(
            f"the CA file {path!r} cannot be used: {error.strerror or error}",
            hint="put certificates in PEM form there, or take the file away",
        ) from error


def _show(context: ssl.SSLContext, certificates: HostCertificates, host: str) -> None:
    if certificates.client_certificate is None:
        return
    try:
        context.load_cert_chain(certificates.client_certificate, certificates.client_key, password=_no_password)
    except (OSError, ValueError) as error:
        raise TrustError(
            f"the client certificate for {host} ({certificates.client_certificate!r}) cannot be used: "
            f"{getattr(error, 'strerror', None) or error}",
            hint="put a certificate and its key, in PEM form and without a password, there",
        ) from error


def _no_password() -> str:
    """Return none: asking for it on the terminal, as OpenSSL would, stops a boot."""
    return ""
