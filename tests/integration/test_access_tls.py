"""Private authorities, client certificates and wrong clocks: who is trusted, and what is said where nobody is."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.lib.access import ARCHIVE, LAYERS, Stored, found, rehearsed
from tests.lib.addressed import LOOPBACK
from tests.lib.fault_boot import PATIENT, boot
from tests.lib.fault_files import Files
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import fault_server
from tests.lib.faults import End, Fault, Rule
from tests.lib.host_files import CERTIFICATES, RULES, credential, host_files, rules
from tests.lib.program import Program
from tests.lib.registry import registry
from tests.lib.relay import tls_front
from tests.lib.tls import Certificate, make_authority, make_client, make_server

pytest_plugins = ("tests.lib.access_fixtures",)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
PLACES = ("host", "credential")
LOUD = "is NOT checked"
CLOCK = re.compile(r"this machine's clock \((\d{4}-\d\d-\d\d \d\d:\d\d) UTC\)")


class Keys:
    """Certificates of all kinds."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.authority = make_authority(where)
        self.other = make_authority(where, "other")
        self.server = make_server(where, self.authority)
        self.alone = make_server(where, None, name="alone")
        self.client = make_client(where, self.authority)
        self.stranger = make_client(where, self.other, name="stranger")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def secure(image: Stored, keys: Keys) -> Iterator[int]:
    """The port of a registry with a certificate of the private authority."""
    with tls_front(image.registry.port, keys.server) as port:
        yield port


@pytest.fixture(scope="module")
def guarded(image: Stored, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a docker-registry that lets only clients of the private authority in."""
    where = tmp_path_factory.mktemp("guarded")
    with registry(where, tls=keys.server, clients=keys.authority, same_as=image.registry) as running:
        yield running.port


def source(port: int, host: str = LOOPBACK) -> str:
    return f"docker://{host}:{port}/os"


def pem(pair: Certificate) -> bytes:
    """Certificate and key in one file."""
    return pair.certificate.read_bytes() + pair.key.read_bytes()


@contextmanager
def showing(pair: Certificate, port: int, place: str, authority: Certificate) -> Iterator[None]:
    """A client certificate where an initramfs or a credential has it; the authority is trusted."""
    own = CERTIFICATES / f"{LOOPBACK}:{port}"
    shown: dict[Path, Path | bytes] = {own / "client.cert": pair.certificate, own / "client.key": pair.key}
    if place == "credential":
        shown = {credential("client"): pem(pair)}
    with host_files({CERTIFICATES / "ca.crt": authority.certificate, **shown}):
        yield


@pytest.mark.parametrize("top", ["/etc/bootc-live/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"])
def test_authority_of_one_host(top: str, program: Program, image: Stored, secure: int, keys: Keys) -> None:
    with host_files({Path(top) / f"{LOOPBACK}:{secure}" / "ca.crt": keys.authority.certificate}):
        found(program.run("inspect", "--json", source(secure)), image)
        # The same server by another name is another host.
        program.run("inspect", source(secure, "localhost")).error(f"https://localhost:{secure}", "certificate verify")
        with tls_front(image.registry.port, keys.server) as port:
            program.run("inspect", source(port)).error(f"https://{LOOPBACK}:{port}", "certificate verify")


@pytest.mark.parametrize("path", [CERTIFICATES / "some.pem", CERTIFICATES / "some.crt", credential("ca")])
def test_authority_for_all_hosts(path: Path, program: Program, image: Stored, secure: int, keys: Keys) -> None:
    # Beside others: a bundle is no less than its parts.
    bundle = keys.other.certificate.read_bytes() + keys.authority.certificate.read_bytes()
    with host_files({path: bundle}):
        for host in (LOOPBACK, "localhost"):
            found(program.run("inspect", "--json", source(secure, host)), image)
    with host_files({path: keys.other.certificate}):
        program.run("inspect", source(secure)).error(source(secure), "certificate verify")


@pytest.mark.parametrize(("version", "place"), [("1.2", "host"), ("1.3", "credential")])
def test_boot_with_a_client_certificate(
    version: str, place: str, program: Program, image: Stored, keys: Keys, tmp_path: Path
) -> None:
    with (
        tls_front(image.registry.port, keys.server, clients=keys.authority, version=VERSIONS[version]) as port,
        showing(keys.client, port, place, keys.authority),
    ):
        booted = boot(program, source(port), tmp_path, PATIENT)
    booted.ended.good()
    assert len([line for line in booted.tree if line.path.startswith("more/")]) == LAYERS - 1
    assert booted.receipt["policy"]["insecure"] is False
    assert booted.receipt["warnings"] == []


@contextmanager
def by_docker_registry(image: Stored, keys: Keys, where: Path) -> Iterator[int]:
    with registry(where, tls=keys.server, clients=keys.authority, same_as=image.registry) as running:
        yield running.port


def by_openssl(version: str) -> Callable[[Stored, Keys, Path], AbstractContextManager[int]]:
    def front(image: Stored, keys: Keys, _where: Path) -> AbstractContextManager[int]:
        return tls_front(image.registry.port, keys.server, clients=keys.authority, version=VERSIONS[version])

    return front


DEMANDING = {"registry": by_docker_registry, "openssl-1.2": by_openssl("1.2"), "openssl-1.3": by_openssl("1.3")}


@pytest.mark.parametrize("demanding", DEMANDING.values(), ids=DEMANDING.keys())
def test_client_certificate_that_does_not_do(
    demanding: Callable[[Stored, Keys, Path], AbstractContextManager[int]],
    program: Program,
    image: Stored,
    keys: Keys,
    tmp_path: Path,
) -> None:
    """None at all, one of an authority that the server does not know, one that is too old: final at once."""
    expired = make_client(tmp_path, keys.authority, days=(-20, -10))
    with demanding(image, keys, tmp_path / "server") as port:
        for shown in (None, keys.stranger, expired):
            trusted = {CERTIFICATES / "ca.crt": keys.authority.certificate}
            with host_files(trusted) if shown is None else showing(shown, port, "host", keys.authority):
                ended = program.run("inspect", source(port))
            told = ended.error(source(port), f"https://{LOOPBACK}:{port}/v2/os/", "another client certificate")
            assert "client.cert" in told
            assert "trying again" not in ended.stderr


@pytest.mark.parametrize("place", PLACES)
def test_client_certificate_with_another_key(place: str, program: Program, guarded: int, keys: Keys) -> None:
    mixed = Certificate(keys.client.certificate, keys.stranger.key)
    own = CERTIFICATES / f"{LOOPBACK}:{guarded}"
    path = credential("client") if place == "credential" else own / "client.cert"
    with showing(mixed, guarded, place, keys.authority):
        told = program.run("inspect", source(guarded)).error(source(guarded), path)
    assert "PRIVATE KEY" not in told


def test_certificate_is_shown_to_unchecked_servers_too(
    program: Program, image: Stored, guarded: int, keys: Keys
) -> None:
    with showing(keys.client, guarded, "host", keys.other):
        program.run("inspect", source(guarded)).error("certificate verify")
        found(program.run("inspect", "--json", "--unsecure", source(guarded)), image)


@pytest.mark.parametrize(
    ("days", "told"), [((2, 30), "is not valid yet"), ((-30, -2), "has expired")], ids=["not-yet", "expired"]
)
@pytest.mark.parametrize("kind", ["registry", "archive"])
def test_wrong_time(
    kind: str, days: tuple[int, int], told: str, program: Program, image: Stored, keys: Keys, tmp_path: Path
) -> None:
    """Said with the machine's clock: it is the first suspect."""
    certificate = make_server(tmp_path, keys.authority, days=days)
    with (
        tls_front(image.registry.port, certificate) as port,
        host_files({CERTIFICATES / "ca.crt": keys.authority.certificate}),
    ):
        url = source(port) if kind == "registry" else f"https://{LOOPBACK}:{port}/v2/"
        ended = program.run("inspect", url)
        message = ended.error(repr(url), f"https://{LOOPBACK}:{port}/v2/", told)
        assert "trying again" not in ended.stderr
        clock = CLOCK.search(message)
        assert clock
        shown = datetime.strptime(clock[1], "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - shown) < timedelta(minutes=3)


def serve_archive(image: Stored, certificate: Certificate | None) -> AbstractContextManager[int]:
    """The port of a web server that has the archive."""

    @contextmanager
    def serving() -> Iterator[int]:
        with fault_server(Files({ARCHIVE: image.archive}), tls=certificate) as server:
            yield server.port

    return serving()


@pytest.mark.parametrize(
    "path", [CERTIFICATES / "some.crt", credential("ca"), None], ids=["file", "credential", "host"]
)
def test_archive_over_https(path: Path | None, program: Program, image: Stored, keys: Keys) -> None:
    with serve_archive(image, keys.server) as port:
        url = f"https://{LOOPBACK}:{port}{ARCHIVE}"
        place = path or CERTIFICATES / f"{LOOPBACK}:{port}" / "ca.crt"
        with host_files({place: keys.authority.certificate}):
            ended = program.run("inspect", "--json", url)
            found(ended, image)
            assert ended.stderr == ""
        told = program.run("inspect", url).error(url, "certificate verify")
        assert "/etc/bootc-live/certs.d" in told


def test_archive_for_known_clients(program: Program, image: Stored, keys: Keys, tmp_path: Path) -> None:
    with (
        serve_archive(image, None) as plain,
        tls_front(plain, keys.server, clients=keys.authority) as port,
    ):
        url = f"https://{LOOPBACK}:{port}{ARCHIVE}"
        for place in PLACES:
            with showing(keys.client, port, place, keys.authority):
                found(program.run("inspect", "--json", url), image)
        with host_files({CERTIFICATES / "ca.crt": keys.authority.certificate}):
            rehearsed(program, url, tmp_path).error(repr(url), "another client certificate")


def test_archive_that_nobody_vouches_for(program: Program, image: Stored, tmp_path: Path) -> None:
    """Loud on the console, in the receipt and in the status."""
    with serve_archive(image, None) as port:
        url = f"http://{LOOPBACK}:{port}{ARCHIVE}"
        booted = boot(program, url, tmp_path, f"{PATIENT} bootc.live.digest={image.digest}")
    (warning,) = booted.receipt["warnings"]
    assert LOUD in warning
    assert "its digest is pinned" in warning
    assert f"warning: {warning}" in booted.ended.good().stderr
    assert booted.receipt["policy"]["insecure"] is True
    assert "INSECURE" in program.run("status", "--receipt", tmp_path / "receipt.json").good().stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_unsecure_does_not_hide_what_is_wrong(
    version: str, program: Program, image: Stored, keys: Keys, tmp_path: Path
) -> None:
    """A server that speaks TLS, and refuses us, is not one that speaks plain HTTP."""
    with tls_front(image.registry.port, keys.server, clients=keys.authority, version=VERSIONS[version]) as port:
        ended = rehearsed(program, source(port), tmp_path, "bootc.registry.unsecure")
        ended.error(source(port), "another client certificate")


def test_name_that_the_certificate_lacks(program: Program, image: Stored, keys: Keys, tmp_path: Path) -> None:
    other = make_server(tmp_path, keys.authority, name="other", names=("DNS:registry.example",))
    with (
        tls_front(image.registry.port, other) as port,
        host_files({CERTIFICATES / "ca.crt": keys.authority.certificate}),
    ):
        assert "match" in program.run("inspect", source(port)).error(f"https://{LOOPBACK}:{port}", LOOPBACK)


def test_unsecure_registry(program: Program, image: Stored, keys: Keys, tmp_path: Path) -> None:
    """One with a certificate of its own."""
    with tls_front(image.registry.port, keys.alone) as port:
        booted = boot(program, source(port), tmp_path, f"bootc.registry.unsecure {PATIENT}")
    (warning,) = booted.receipt["warnings"]
    assert LOUD in warning
    assert "an attacker on the network can choose the image" in warning
    assert f"warning: {warning}" in booted.ended.good().stderr
    # Nothing else is said: no library warns in its own words.
    assert all(line.startswith("bootc-live: ") for line in booted.ended.stderr.splitlines())
    assert booted.receipt["policy"]["insecure"] is True
    assert "INSECURE" in program.run("status", "--receipt", tmp_path / "receipt.json").good().stdout


def test_registry_over_plain_http(program: Program, image: Stored, tmp_path: Path) -> None:
    """Only where that is asked for, and not taken back; the error says how."""
    plain = image.registry.source("os")
    told = program.run("inspect", plain).error(
        f"https://{image.registry.host}/v2/os", repr(plain), "does not speak TLS"
    )
    assert "use --unsecure" in told.splitlines()[-1]
    assert LOUD in program.run("unpack", "--unsecure", plain, tmp_path / "tree").good().stderr
    kargs = "bootc.registry.unsecure bootc.registry.unsecure=0"
    rehearsed(program, plain, tmp_path, kargs).error("does not speak TLS")


def test_unsecure_and_a_bad_moment(program: Program, image: Stored, keys: Keys, tmp_path: Path) -> None:
    """Whether there is TLS is found out by asking, and a question that was lost is asked again."""
    lost = Rule("/v2/", Fault(silent=True, end=End.RESET))
    with fault_proxy(image.registry, lost, tls=keys.alone) as server:
        rehearsed(program, server.source("os"), tmp_path, "bootc.registry.unsecure").good()
        assert len(server.asked("/v2/os/manifests/")) >= 1


def test_insecure_in_a_rule_is_as_loud(program: Program, image: Stored, keys: Keys) -> None:
    """For that registry alone."""
    with (
        tls_front(image.registry.port, keys.alone) as port,
        tls_front(image.registry.port, keys.alone) as other,
        host_files({RULES: rules({"location": f"{LOOPBACK}:{port}", "insecure": True})}),
    ):
        ended = program.run("inspect", "--json", source(port))
        found(ended, image)
        assert LOUD in ended.stderr
        program.run("inspect", source(other)).error("certificate verify")


def test_https_asked_of_a_plain_server(program: Program, image: Stored) -> None:
    with serve_archive(image, None) as port:
        url = f"https://{LOOPBACK}:{port}{ARCHIVE}"
        told = program.run("inspect", url).error(repr(url), "does not speak TLS")
        assert "http://" in told.splitlines()[-1], "an archive is asked for as its URL says"


def test_plain_http_asked_of_a_tls_server(
    program: Program, image: Stored, secure: int, keys: Keys, tmp_path: Path
) -> None:
    """docker-registry says so, others hang up; it is an error with the URL either way."""
    with registry(tmp_path / "registry", tls=keys.server, same_as=image.registry) as real:
        url = f"http://{real.host}/v2/"
        rehearsed(program, url, tmp_path).error(repr(url), "400")
    url = f"http://{LOOPBACK}:{secure}/v2/"
    rehearsed(program, url, tmp_path).error(repr(url))


def test_mirror_named_as_plain_that_speaks_tls(program: Program, image: Stored, keys: Keys, tmp_path: Path) -> None:
    """http:// before a mirror allows plain HTTP, it does not forbid better."""
    with tls_front(image.registry.port, keys.alone) as port:
        kargs = f"bootc.registry.mirror=http://{LOOPBACK}:{port}"
        ended = rehearsed(program, f"docker://registry.invalid/os@{image.digest}", tmp_path, kargs).good()
        assert LOUD in ended.stderr
        # What a tag stands for is not for whoever is on the way to say.
        told = rehearsed(program, "docker://registry.invalid/os", tmp_path, kargs).error("registry.invalid")
        assert f"127.0.0.1:{port}" not in told
