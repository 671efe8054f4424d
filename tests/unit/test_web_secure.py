"""HTTPS and secrets of URLs: whom archives may come from, that insecure is said, and who sees a password."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from tests.lib.acquiring import Attempted, acquired, contents
from tests.lib.archive_members import oci_members, tar_of
from tests.lib.archive_servers import PLACE, ArchiveServer, Asked, Reply, Stored, archive_server, cut_at
from tests.lib.oci_writer import Image, Layer
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer
from tests.lib.tls import Certificate, make_authority, make_server

TARS = [layer(file("a", b"a" * 100_000))]
SECRET = "open%20sesame-17"
ARCHIVE = tar_of(oci_members(Image([Layer(TARS[0], "none")], architecture=HERE)))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_authority(tmp_path_factory.mktemp("other")).certificate


@pytest.fixture(scope="module")
def certificate(authority: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_server(tmp_path_factory.mktemp("server"), authority)


@pytest.fixture
def served(certificate: Certificate) -> Iterator[ArchiveServer]:
    with archive_server(Stored(ARCHIVE), tls=certificate) as running:
        yield running


@pytest.fixture
def system(other: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that trusts somebody else."""
    monkeypatch.setenv("SSL_CERT_FILE", str(other))


def certificates(top: Path, name: str, content: bytes) -> str:
    """A root directory below `top` with this file in its certs.d."""
    path = top / "root/etc/bootc-live/certs.d" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return str(top / "root")


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize("name", ["ours.txt", "127.0.0.1:1/ca.crt", "localhost/ca.crt"])
def test_unknown_authority(name: str, served: ArchiveServer, authority: Certificate, tmp_path: Path) -> None:
    root = certificates(tmp_path, name.format(port=served.port), authority.certificate.read_bytes())
    with pytest.raises(SourceError, match="failed the TLS check") as caught:
        Attempted({"root": root}).acquire(tmp_path / "data", served.url())
    assert served.asked == []
    assert "certs.d" in caught.value.hint
    assert os.listdir(tmp_path) == ["root"]


@pytest.mark.usefixtures("system")
def test_unsecure_is_said_of_registries(served: ArchiveServer, tmp_path: Path) -> None:
    """Whoever wants an archive unprotected writes http://."""
    attempted = Attempted({"root": str(tmp_path), "unsecure": True})
    with pytest.raises(SourceError, match="failed the TLS check") as caught:
        attempted.acquire(tmp_path / "data", served.url())
    assert served.asked == []
    assert "bootc.registry.unsecure" not in caught.value.hint


def test_plain_text_behind_https(tmp_path: Path) -> None:
    with archive_server(Stored(ARCHIVE)) as served, pytest.raises(SourceError, match="does not speak TLS"):
        Attempted({"root": str(tmp_path)}).acquire(
            tmp_path / "data", served.url().replace("http:", "https:"), served.url("/").replace("http:", "https:")
        )


def test_redirect_to_plain_text_is_not_silent(
    certificate: Certificate, authority: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody chose that: it is refused, or at least said as loudly as a source that begins with http:."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    attempted = Attempted({"root": str(tmp_path)})
    with archive_server(Stored(ARCHIVE)) as plain:
        moved = Reply(302, headers={"Location": plain.url()})
        with archive_server(lambda _asked: moved, tls=certificate) as secure, suppress(SourceError):
            assert attempted.acquire(tmp_path / "data", secure.url()).image.resolved.insecure
            assert "INSECURE" in " ".join(attempted.recorder.warnings)


def authorization(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_password_of_the_url(ranges: bool, tmp_path: Path) -> None:
    """It is shown to the server, percent-decoded (RFC 3986, 3.2.1), and to nobody else."""

    def answer(asked: Asked) -> Reply:
        right = asked.header("Authorization") == authorization("me:open sesame-17")
        return Stored(ARCHIVE, ranges)(asked) if right else Reply(401)

    attempted = Attempted()
    with archive_server(cut_at(answer, 90_000)) as served:
        made = attempted.acquire(tmp_path / "data", served.url(login=f"me:{SECRET}"))
        assert contents(made.image) == TARS
        told = [made.image.resolved.source_text, made.attempts[0].source, *attempted.said, *attempted.recorder.warnings]
        assert "sesame" not in " ".join([*told, *attempted.access.traffic.hosts])
        (tmp_path / "data").unlink()
        with pytest.raises(SourceError, match="answered 401") as caught:
            acquired(tmp_path / "data", served.url(login="me:wrong-sesame"))
        assert "sesame" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("status", [301, 303, 307])
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_password_does_not_follow_to_another_host(ranges: bool, status: int, tmp_path: Path) -> None:
    with archive_server(Stored(ARCHIVE, ranges)) as storage:
        moved = Reply(status, headers={"Location": storage.url(f"{PLACE}?signature=sesame-18")})
        with archive_server(lambda _asked: moved) as served:
            assert contents(acquired(tmp_path / "data", served.url(login=f"me:{SECRET}"))) == TARS
        assert all(asked.header("Authorization") for asked in served.asked)
    assert storage.asked
    assert not any(asked.header("Authorization") for asked in storage.asked)


def test_secrets_of_a_redirect_are_not_shown(tmp_path: Path) -> None:
    attempted = Attempted()
    with archive_server(lambda _asked: Reply(503)) as storage:
        moved = Reply(307, headers={"Location": storage.url(f"{PLACE}?signature=sesame-18", login="you:sesame-19")})
        with archive_server(lambda _asked: moved) as served, pytest.raises(SourceError) as caught:
            attempted.acquire(tmp_path / "data", served.url(f"{PLACE}?key=sesame-20", login=f"me:{SECRET}"))
    assert "sesame" not in " ".join([caught.value.message, caught.value.hint, *attempted.said])
