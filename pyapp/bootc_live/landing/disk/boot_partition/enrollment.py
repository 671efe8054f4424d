"""Files from which systemd-boot enrols keys for Secure Boot, in firmware that is in setup mode (loader.conf(5))."""

from __future__ import annotations

import os
import ssl
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bootc_live.artifacts.uki import Signing
from bootc_live.base.errors import ConfigError
from bootc_live.formats.secure_boot import authenticated, signature_list, signed_part
from bootc_live.landing.disk.boot_partition import files
from bootc_live.system.run import require_program, run

_DIRECTORY = "loader/keys/auto"


@dataclass(frozen=True)
class Enrollment:
    """Which certificates firmware is to know: that of ``signing`` as its owner's, and ``others`` that may sign, too.

    They are DER.
    """

    signing: Signing
    own: bytes
    others: tuple[bytes, ...] = ()


def read_enrollment(signing: Signing, others: Sequence[str]) -> Enrollment:
    """Return what PEM files of certificates have; raise ConfigError, and RunError without OpenSSL."""
    _openssl()
    own = _certificate("--sb-cert", signing.certificate)
    return Enrollment(signing, own, tuple(_certificate("--sb-db-cert", path) for path in others))


def write_enrollment(wanted: Enrollment, boot: str, scratch: str) -> None:
    """Write PK.auth, KEK.auth and db.auth to the EFI system partition; raise LandingError and RunError."""
    owner, now = uuid.uuid4(), datetime.now(UTC)
    own, *others = (signature_list(certificate, owner) for certificate in (wanted.own, *wanted.others))
    with files.boot_partition(boot):
        target = os.path.join(boot, _DIRECTORY)
        os.makedirs(target, exist_ok=True)
        files.remove_unfinished(target)
        for name, content in (("db", b"".join([own, *others])), ("KEK", own), ("PK", own)):
            signature = _sign(wanted.signing, signed_part(name, now, content), scratch)
            made = authenticated(now, signature, content)
            files.replace_if_changed(os.path.join(target, f"{name}.auth"), made, boot)


def _sign(signing: Signing, data: bytes, scratch: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="enrol-", dir=scratch) as directory:
        given, made = os.path.join(directory, "data"), os.path.join(directory, "signature")
        with open(given, "wb") as file:
            file.write(data)
        argv = [_openssl(), "smime", "-sign", "-binary", "-noattr", "-md", "sha256", "-outform", "DER"]
        run([*argv, "-signer", signing.certificate, "-inkey", signing.key, "-in", given, "-out", made])
        return files.content(made)


def _openssl() -> str:
    return require_program("openssl", "sign files for enrolment", "openssl")


def _certificate(option: str, path: str) -> bytes:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
        begin = text.index(ssl.PEM_HEADER)
        return ssl.PEM_cert_to_DER_cert(text[begin : text.index(ssl.PEM_FOOTER, begin) + len(ssl.PEM_FOOTER)])
    except OSError as error:
        raise ConfigError(f"{option} {path!r} cannot be read: {error.strerror}", hint="name a PEM file") from error
    except ValueError as error:
        raise ConfigError(f"{option} {path!r} is no certificate (PEM)", hint="name a PEM file") from error
