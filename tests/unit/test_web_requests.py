"""Redirects, and what goes along with them: who is told what, and what a server cannot make the program do."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from bootc_live.base.errors import SourceError
from bootc_live.config.model import RetryLimits
from bootc_live.config.source_spec import RegistryImage
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.source.access import Access
from bootc_live.source.http.client import HttpClient, from_requested_origin, http_client, origin_of
from bootc_live.source.registry.source import open_registry
from bootc_live.source.retry import RetryPolicy
from tests.lib.archive_servers import Answer, ArchiveServer, Asked, Framing, Reply, archive_server
from tests.lib.fetching import quiet
from tests.lib.oci_writer import sha256
from tests.lib.tls import Certificate, make_authority, make_server

SECRET = "Basic c2VjcmV0"
HEADERS = {"Authorization": SECRET, "Cookie": "a=secret", "Accept": "text/*", "Range": "bytes=0-9", "If-Range": '"a"'}
POLICY = RetryPolicy(RetryLimits(tries=1, stall=60.0))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certificate]:
    """Of a server on loopback that is trusted."""
    where = tmp_path_factory.mktemp("keys")
    authority = make_authority(where)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(authority.certificate))
        yield make_server(where, authority)


@pytest.fixture
def web(certificate: Certificate, tmp_path: Path) -> Iterator[HttpClient]:
    """It trusts whoever has that certificate."""
    assert certificate.key.exists()
    with http_client(Access(quiet, policy=POLICY, root=str(tmp_path)), "source") as opened:
        yield opened


def moved(to: str, status: int = 302, more: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, headers={"Location": to, **(more or {})})


def fixed(reply: Reply) -> Answer:
    return lambda _asked: reply


@dataclass
class Servers:
    """Three of them: `home` is asked, `away` is named by it, `secure` speaks TLS. `table` has replies by path."""

    home: ArchiveServer
    away: ArchiveServer
    secure: ArchiveServer
    table: dict[str, Reply]


@pytest.fixture
def servers(certificate: Certificate) -> Iterator[Servers]:
    table: dict[str, Reply] = {}

    def answer(asked: Asked) -> Reply:
        return table.get(asked.path, Reply(200, b"end"))

    with ExitStack() as stack:
        home, away = (stack.enter_context(archive_server(answer)) for _ in range(2))
        yield Servers(home, away, stack.enter_context(archive_server(answer, tls=certificate)), table)


@contextmanager
def sent(web: HttpClient, url: str, headers: Mapping[str, str] = HEADERS) -> Iterator[requests.Response]:
    with closing(web.send(url, dict(headers))) as response:
        yield response


def told(asked: Asked) -> set[str]:
    """What of the headers came along."""
    return {name for name in HEADERS if asked.header(name)}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_secret_leaves_the_origin(status: int, web: HttpClient, servers: Servers) -> None:
    servers.table["/a"] = moved("/b", status)
    servers.table["/b"] = moved(servers.away.url("/c"), status)
    servers.table["/c"] = moved(servers.home.url("/d"), status)
    with sent(web, servers.home.url("/a")) as response:
        assert [hop.status_code for hop in response.history] == [status] * 3
        assert not from_requested_origin(response)
    first, second, last = servers.home.asked
    assert told(first) == told(second) == set(HEADERS)
    # Not even the first origin is trusted with it again: another server chose what to ask it for.
    assert told(last) == told(servers.away.asked[0]) == {"Accept", "Range", "If-Range"}


def test_scheme_and_port_are_part_of_an_origin(web: HttpClient, servers: Servers) -> None:
    servers.table["/a"] = moved(servers.secure.url("/b"))
    with sent(web, servers.home.url("/a")) as response:
        assert response.status_code == 200
    assert "Authorization" in told(servers.home.asked[0])
    assert "Authorization" not in told(servers.secure.asked[0])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("hops", "headers", "plain", "followed"),
    [
        # What a digest decides about may come from anywhere, unless somebody could learn whom it is for.
        (("secure", "away"), {}, True, True),
        (("secure", "secure", "away", "secure"), {}, True, True),
        (("secure", "away"), {"Authorization": SECRET}, True, False),
        (("secure", "secure", "away"), {"Authorization": SECRET}, True, False),
        (("secure", "away"), {}, False, False),
        (("secure", "away", "secure"), {}, False, False),
        (("secure", "secure", "away"), {"Authorization": SECRET}, False, False),
        # Who asks without protection has none.
        (("home", "away"), {"Authorization": SECRET}, False, True),
        (("home", "secure", "away"), {"Authorization": SECRET}, False, True),
    ],
)
def test_plain_servers_are_asked_nothing(
    status: int,
    hops: tuple[str, ...],
    headers: dict[str, str],
    plain: bool,
    followed: bool,
    web: HttpClient,
    servers: Servers,
) -> None:
    """A redirect from HTTPS to one of them is refused before anything is sent to it."""
    urls = [getattr(servers, name).url(f"/{number}") for number, name in enumerate(hops)]
    for number, url in enumerate(urls[1:]):
        servers.table[f"/{number}"] = moved(url, status)
    if followed:
        with closing(web.send(urls[0], dict(headers), plain=plain)) as response:
            assert [hop.url for hop in (*response.history, response)] == urls
        return
    with pytest.raises(SourceError, match="redirects from HTTPS to plain HTTP"):
        web.send(urls[0], dict(headers), plain=plain)
    assert servers.away.asked == []
    assert len(servers.secure.asked) == hops.index("away")


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
@pytest.mark.parametrize("login", [False, True])
def test_a_registry_that_leads_to_a_plain_server(
    kind: str, login: bool, certificate: Certificate, servers: Servers, tmp_path: Path
) -> None:
    """Only a blob may come from there, and only where nobody logged in for it."""
    basic = f"Basic {base64.b64encode(b'me:pw').decode()}"

    def answer(asked: Asked) -> Reply:
        if login and asked.header("Authorization") != basic:
            return Reply(401, headers={"WWW-Authenticate": "Basic"})
        return moved(servers.away.url("/x"))

    with archive_server(answer, tls=certificate) as secure:
        host = f"127.0.0.1:{secure.port}"
        (tmp_path / "etc/bootc-live").mkdir(parents=True)
        auths = {host: {"auth": basic.partition(" ")[2]}}
        (tmp_path / "etc/bootc-live/auth.json").write_text(json.dumps({"auths": auths}))
        access = Access(quiet, policy=POLICY, root=str(tmp_path))
        descriptor = Descriptor("a/b", sha256(b"end"), 3)
        with open_registry(RegistryImage(f"{host}/os", "source"), access) as source:
            opener = source.open_blob if kind == "blobs" else source.open_manifest
            if kind == "blobs" and not login:
                with opener(descriptor) as chunks:
                    assert b"".join(chunks) == b"end"
                return
            with pytest.raises(SourceError, match="redirects from HTTPS to plain HTTP"), opener(descriptor) as chunks:
                next(chunks)
        assert servers.away.asked == []
        assert len(secure.asked) == 1 + login


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://a.example/x", "https://a.example:443/y?z", True),
        ("http://A.example", "http://a.example:80/", True),
        ("http://u:p@a.example/", "http://a.example/", True),
        ("http://a.example/", "https://a.example/", False),
        ("https://a.example:444/", "https://a.example/", False),
        ("https://a.example/", "https://a.example./", False),
        ("https://a.example/", "https://a.example@b.example/", False),
        ("https://[::1]:5000/", "https://[::1]:5000", True),
    ],
)
def test_origins(one: str, other: str, same: bool) -> None:
    assert (origin_of(one) == origin_of(other)) == same


def test_what_is_added(web: HttpClient, servers: Servers) -> None:
    with sent(web, servers.home.url("/"), {}):
        pass
    headers = dict(servers.home.asked[0].headers)
    assert headers.pop("host")
    assert headers == {"accept": "*/*", "accept-encoding": "identity", "user-agent": "bootc-live"}


def test_cookies_stay_nowhere(web: HttpClient, servers: Servers) -> None:
    cookie = {"Set-Cookie": "session=1; Path=/"}
    servers.table["/a"] = moved("/b", more=cookie)
    servers.table["/b"] = Reply(200, headers=cookie)
    for _ in range(2):
        with sent(web, servers.home.url("/a"), {}) as response:
            assert not response.cookies
    assert not any(asked.header("Cookie") for asked in servers.home.asked)


@pytest.mark.parametrize("login", ["u:p", "u"])
def test_logins_in_urls_are_not_sent(login: str, web: HttpClient, servers: Servers) -> None:
    """Neither one that was typed, which is shown in a header, nor one that a server writes."""
    servers.table["/a"] = moved(servers.away.url("/b", login=login))
    with sent(web, servers.home.url("/a", login=login), {}):
        pass
    assert not any(asked.header("Authorization") for asked in (*servers.home.asked, *servers.away.asked))


def test_the_environment_does_not_count(
    web: HttpClient, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    for name, value in {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    servers.table["/a"] = moved(servers.away.url("/b"))
    with sent(web, servers.home.url("/a"), {}) as response:
        assert response.status_code == 200
    assert not any(asked.header("Authorization") for asked in (*servers.home.asked, *servers.away.asked))


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_bodies_of_redirects_are_not_read(framing: Framing, encoding: str, web: HttpClient, servers: Servers) -> None:
    """What is left of one after the sockets' buffers are full is never sent."""
    content = gzip.compress(b"x") if encoding == "gzip" else b""
    reply = moved("/b", more={"Content-Encoding": encoding})
    servers.table["/a"] = Reply(302, content + bytes(1 << 26), reply.headers, framing)
    with sent(web, servers.home.url("/a"), {}) as response:
        assert b"".join(web.body(response)) == b"end"
    assert servers.home.sent < 1 << 25


def test_bodies_come_as_they_are(web: HttpClient, servers: Servers) -> None:
    packed = gzip.compress(bytes(1 << 20))
    servers.table["/a"] = Reply(200, packed, {"Content-Encoding": "gzip"})
    with sent(web, servers.home.url("/a"), {}) as response:
        assert b"".join(web.body(response)) == packed


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:70/x", "data:,x", "javascript:0", "httpx://a"],
)
def test_only_http_is_followed(target: str, web: HttpClient, servers: Servers) -> None:
    servers.table["/a"] = moved(target)
    with pytest.raises((requests.RequestException, ValueError)), sent(web, servers.home.url("/a")):
        pass


@pytest.mark.parametrize("target", ["/a", "?again", "http://127.0.0.1:{port}/a"])
def test_redirects_end(target: str, web: HttpClient, servers: Servers) -> None:
    loop = moved(target.format(port=servers.home.port))
    servers.table.update({"/a": loop, "/a?again": loop})
    with pytest.raises(requests.TooManyRedirects), sent(web, servers.home.url("/a")):
        pass
    assert len(servers.home.asked) == 11


def test_targets_are_not_endless(web: HttpClient, servers: Servers) -> None:
    """Neither one that is long, nor one that grows from hop to hop."""
    for target in (f"/{'a' * 20_000}", "x/" * 2000):
        servers.table["/a/"] = moved(target)
        servers.table.update({f"/a/{'x/' * 2000 * count}": moved(target) for count in range(1, 9)})
        with pytest.raises(ValueError, match="redirects to a URL of"), sent(web, servers.home.url("/a/")):
            pass


def test_answers_that_only_look_like_redirects(web: HttpClient, servers: Servers) -> None:
    for number, reply in enumerate((Reply(302), moved("/b", 300), moved("/b", 304), moved("/b", 201))):
        servers.table["/a"] = reply
        with sent(web, servers.home.url("/a")) as response:
            assert (response.status_code, response.history) == (reply.status, [])
        assert len(servers.home.asked) == number + 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_one_request_is_one_request(status: int, web: HttpClient, servers: Servers) -> None:
    servers.table["/a?x=1&y=2"] = moved(servers.away.url("/b"), status)
    form = {"refresh_token": "secret"}
    with closing(
        web.send_once("POST", servers.home.url("/a?x=1"), {"Authorization": SECRET}, parameters={"y": "2"}, form=form)
    ) as response:
        assert response.status_code == status
    assert servers.home.asked[0].body == b"refresh_token=secret"
    assert servers.away.asked == []


def test_failures_are_not_repeated(web: HttpClient, servers: Servers) -> None:
    servers.table["/a"] = Reply(503, headers={"Retry-After": "0"})
    with sent(web, servers.home.url("/a")) as response:
        assert response.status_code == 503
    assert len(servers.home.asked) == 1


def test_unchecked_is_said_of_one_origin(tmp_path: Path) -> None:
    """Of two servers with certificates of nobody, the one that a redirect leads to is not trusted."""
    nobody = make_server(tmp_path, None)
    with archive_server(fixed(Reply(200, b"end")), tls=nobody) as other:
        with (
            archive_server(fixed(moved(other.url("/b"))), tls=nobody) as first,
            http_client(Access(quiet, policy=POLICY, root=str(tmp_path)), "source") as web,
        ):
            with closing(web.send_once("GET", first.url("/a"), {}, checked=False)) as response:
                assert response.status_code == 302
            with pytest.raises((requests.exceptions.SSLError, SourceError)):
                web.send(first.url("/a"), {}, checked=False)
            # Nor does a request that is checked use a connection of one that is not.
            with pytest.raises((requests.exceptions.SSLError, SourceError)):
                web.send_once("GET", first.url("/a"), {})
        assert other.asked == []
