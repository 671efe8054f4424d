"""Make TLS contexts: trusted authorities and client certificates."""

from __future__ import annotations

import os
import ssl
import threading

from bootc_live.base.errors import SourceError
from bootc_live.config.host.host_config import HostCertificates, HostConfig
from bootc_live.source.http.deadline import DeadlineTLSSocket
from bootc_live.source.http.proxies import host_of

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class TrustError(SourceError):
    """Certificates to verify a server are missing, or cannot be used."""


class Trust:
    """The TLS contexts of all servers. Each request decides whether the server is verified."""

    def __init__(self, host_config: HostConfig) -> None:
        """Read no files yet."""
        self._host_config = host_config
        self._contexts: dict[tuple[HostCertificates, bool], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def context(self, url: str, *, checked: bool) -> ssl.SSLContext:
        """Return the TLS context for the server of a URL; raise TrustError and ConfigError.

        Only requests with the same context share connections.
        """
        host = host_of(url)
        certificates = self._host_config.for_host(host)
        key = certificates, checked
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._make(certificates, host, checked=checked)
            return self._contexts[key]

    def _make(self, certificates: HostCertificates, host: str, *, checked: bool) -> ssl.SSLContext:
        # Not create_default_context: since Python 3.13, it rejects private authorities that OpenSSL, curl and Go
        # accept (VERIFY_X509_STRICT), and it writes keys to SSLKEYLOGFILE.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.post_handshake_auth = True
        context.sslsocket_class = DeadlineTLSSocket
        _load_client_certificate(context, certificates, host)
        if not checked:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        context.hostname_checks_common_name = False
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        # A configured authority need not be self-signed, as in curl and Go.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        system = system_bundle()
        authorities = [*([system] if system else []), *self._host_config.authorities, *certificates.authorities]
        if not authorities:
            raise TrustError(
                f"cannot verify {host}: there are no certificate authorities",
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
            f"cannot use the CA file {path!r}: {error.strerror or error}",
            hint="put PEM certificates there, or remove the file",
        ) from error


def _load_client_certificate(context: ssl.SSLContext, certificates: HostCertificates, host: str) -> None:
    if certificates.client_certificate is None:
        return
    try:
        context.load_cert_chain(certificates.client_certificate, certificates.client_key, password=_no_password)
    except (OSError, ValueError) as error:
        raise TrustError(
            f"cannot use the client certificate for {host} ({certificates.client_certificate!r}): "
            f"{getattr(error, 'strerror', None) or error}",
            hint="put a PEM certificate and its key without a password there",
        ) from error


def _no_password() -> str:
    """Return an empty password: OpenSSL would ask for it on the terminal, which stops a boot."""
    return ""
