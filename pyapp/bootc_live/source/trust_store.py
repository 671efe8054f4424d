"""The certificate authorities that HTTPS servers are checked against."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
# Packed into the initramfs or appended as a cpio by the boot loader.
EXTRA_DIRECTORY = "/etc/bootc-live/certs.d"


def extra_authorities(directory: str = EXTRA_DIRECTORY) -> list[str]:
    """Give the paths of the extra CA files, sorted; a missing directory has none."""
    if not os.path.isdir(directory):
        return []
    return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith((".crt", ".pem"))]


@contextmanager
def ca_bundle(directory: str = EXTRA_DIRECTORY) -> Iterator[str | None]:
    """Give one PEM file with the system's and the extra authorities, or None if there are none.

    ``SSL_CERT_FILE`` replaces the system's bundle. A joined file lives as long
    as the block.
    """
    candidates = [os.environ.get("SSL_CERT_FILE", ""), *SYSTEM_BUNDLES]
    system = next((path for path in candidates if path and os.path.isfile(path)), None)
    extra = extra_authorities(directory)
    if not extra:
        yield system
        return
    with tempfile.NamedTemporaryFile(prefix="bootc-live-ca.", suffix=".pem") as joined:
        for path in [*([system] if system else []), *extra]:
            with open(path, "rb") as part:
                joined.write(part.read() + b"\n")
        joined.flush()
        yield joined.name
