"""Names the system's CA bundle under certifi's interface, so that requests trusts what the machine trusts.

The published certifi package carries its own bundle, which requests would have to copy out of the zip
into a temporary file on every start, and which knows nothing of an operator's private CA.
"""

import os

__all__ = ["contents", "where"]

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def where() -> str:
    """Path of the PEM bundle: `SSL_CERT_FILE` if set, else the first of the usual places that exists.

    Without any bundle the first usual place is returned, so that the error of the TLS layer names a
    path at which one belongs.
    """
    chosen = os.environ.get("SSL_CERT_FILE")
    if chosen:
        return chosen
    return next((path for path in _BUNDLES if os.path.exists(path)), _BUNDLES[0])


def contents() -> str:
    """The PEM text of the bundle at `where()`; raises OSError if it cannot be read."""
    with open(where(), encoding="utf-8") as bundle:
        return bundle.read()
