"""HTTPS: whom the program trusts, what it says where it does not, and that insecure is a choice that shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lib.booted import booted
from tests.lib.oci_writer import write_layout
from tests.lib.program import Program
from tests.lib.registry import Registry, registry
from tests.lib.small_image import small_image
from tests.lib.tls import Certificate, make_authority, make_server

CERTIFICATES = Path("/etc/bootc-live/certs.d")
RECEIPT_WARNING = "NOT checked"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def authority(keys: Path) -> Certificate:
    return make_authority(keys)


@contextmanager
def serving(where: Path, certificate: Certificate | None) -> Iterator[tuple[Registry, str]]:
    """A registry with the small image, and the digest of its manifest."""
    layout = write_layout(where / "layout", small_image())
    with registry(where / "registry", tls=certificate) as running:
        yield running, running.put(layout, "os", "latest")


@pytest.fixture(scope="module")
def secure(
    authority: Certificate, keys: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Registry, str]]:
    """A registry with a certificate of the private authority."""
    with serving(tmp_path_factory.mktemp("secure"), make_server(keys, authority)) as running:
        yield running


@contextmanager
def trusting(*certificates: Path) -> Iterator[None]:
    """Puts certificates where an initramfs has them."""
    CERTIFICATES.mkdir(parents=True)
    try:
        for number, certificate in enumerate(certificates):
            (CERTIFICATES / f"{number}.crt").write_bytes(certificate.read_bytes())
        yield
    finally:
        for path in CERTIFICATES.iterdir():
            path.unlink()
        CERTIFICATES.rmdir()
        CERTIFICATES.parent.rmdir()


def test_boot_by_digest(program: Program, secure: tuple[Registry, str], authority: Certificate, tmp_path: Path) -> None:
    served, digest = secure
    source = served.source(f"os@{digest}")
    with trusting(authority.certificate), booted(program, f"root=bootc-live:{source}", tmp_path) as made:
        assert (made.root / "usr/new").read_text() == "new\n"
        assert made.receipt["image"]["manifest_digest"] == digest
        assert made.receipt["policy"] == {
            "digests": "verified",
            "pin": None,
            "signatures": "not checked",
            "insecure": False,
        }
        assert made.receipt["warnings"] == []


def test_unknown_authority(program: Program, secure: tuple[Registry, str], tmp_path: Path) -> None:
    source = secure[0].source("os")
    other = make_authority(tmp_path, "other")
    for certificates in ((), (other.certificate,)):
        with trusting(*certificates):
            told = program.run("inspect", source).error(f"{secure[0].url}/v2/os", repr(source), "certificate verify")
        assert str(CERTIFICATES) in told
        assert "bootc.registry.unsecure" in told


def test_name_that_the_certificate_lacks(program: Program, authority: Certificate, keys: Path, tmp_path: Path) -> None:
    other = make_server(keys, authority, name="other", names=("DNS:registry.example",))
    with serving(tmp_path, other) as (served, _), trusting(authority.certificate):
        told = program.run("inspect", served.source("os")).error(served.url, "127.0.0.1")
        assert "match" in told


@pytest.mark.parametrize("signed", ["by itself", "by an authority"])
def test_unsecure_over_https(signed: str, program: Program, authority: Certificate, keys: Path, tmp_path: Path) -> None:
    certificate = make_server(keys, None if signed == "by itself" else authority, name="unknown")
    with serving(tmp_path, certificate) as (served, _):
        source = served.source("os")
        program.run("inspect", source).error(served.url, "certificate verify")
        cmdline = f"root=bootc-live:{source} bootc.registry.unsecure"
        with booted(program, cmdline, tmp_path / "boot") as made:
            assert made.receipt["policy"]["insecure"] is True
            warned = made.receipt["warnings"]
            assert len(warned) == 1
            assert RECEIPT_WARNING in warned[0]
            assert f"warning: {warned[0]}" in made.ended.stderr
            # Nothing else is said: no library warns in its own words.
            assert all(line.startswith("bootc-live: ") for line in made.ended.stderr.splitlines())
            status = program.run("status", "--receipt", tmp_path / "boot/receipt.json").good().stdout
            assert "INSECURE" in status


@pytest.mark.parametrize("verb", ["inspect", "unpack"])
def test_unsecure_warns_in_every_verb(
    verb: str, program: Program, secure: tuple[Registry, str], tmp_path: Path
) -> None:
    target = (tmp_path / "tree",) if verb == "unpack" else ()
    ended = program.run(verb, "--unsecure", secure[0].source("os"), *target).good()
    assert RECEIPT_WARNING in ended.stderr


def test_plain_http_without_unsecure(program: Program, tmp_path: Path) -> None:
    with serving(tmp_path, None) as (served, _):
        source = served.source("os")
        told = program.run("inspect", source).error(f"https://{served.host}/v2/os", repr(source), "does not speak TLS")
        assert "bootc.registry.unsecure" in told.splitlines()[-1]


def test_unsecure_switched_off(program: Program, tmp_path: Path) -> None:
    with serving(tmp_path, None) as (served, _):
        (tmp_path / "root").mkdir()
        cmdline = f"root=bootc-live:{served.source('os')} bootc.registry.unsecure bootc.registry.unsecure=0"
        program.run("boot", "--cmdline", cmdline, "--sysroot", tmp_path / "root").error("does not speak TLS")
