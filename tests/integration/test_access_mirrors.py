"""Which mirror a host asks first, where the bytes came from, and what becomes of mirrors that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootc_live.config.host.routes import Endpoint
from bootc_live.source.registry.source import order_for_host
from tests.lib.access import Stored, rehearsed
from tests.lib.dead_servers import closed_port
from tests.lib.fault_boot import PATIENT, boot
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import FaultServer
from tests.lib.faults import BLOBS, EVERYTHING, Fault, Rule
from tests.lib.host_files import AUTH, RULES, host_files, rules
from tests.lib.htpasswd import STRANGER, USER, auth_json, htpasswd
from tests.lib.program import Program
from tests.lib.registry import registry

pytest_plugins = ("tests.lib.access_fixtures",)

HOSTS = 200
MACHINES = tuple(f"{number:032x}" for number in range(0xFEED, 0xFEED + 4))
# Hides the network cards, so that the machine id is what tells one host from another.
AS_MACHINE = """
mount -t tmpfs tmpfs /sys/class/net
echo "$0" >/etc/machine-id
exec "$@"
"""


def endpoints(*hosts: str) -> list[Endpoint]:
    return [Endpoint(host, "os") for host in hosts]


def firsts(among: list[Endpoint]) -> Counter[str]:
    """How many of the hosts ask which endpoint first."""
    return Counter(
        order_for_host(among, f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}")[0].host for number in range(HOSTS)
    )


@pytest.mark.parametrize(
    ("hosts", "least", "most"),
    [
        (("a.example", "b.example"), 80, 120),
        (("10.0.0.1:5000", "10.0.0.2:5000"), 80, 120),
        (("cache-1.example", "cache-2.example", "cache-3.example"), 45, 90),
    ],
)
def test_hosts_spread(hosts: tuple[str, ...], least: int, most: int) -> None:
    counted = firsts(endpoints(*hosts))
    assert set(counted) == set(hosts)
    assert all(least <= count <= most for count in counted.values()), counted


def test_a_host_keeps_its_order() -> None:
    """Whatever order they are written in; and without one of them the others stay in theirs."""
    among = endpoints("a.example", "b.example", "c.example", "d.example")
    for identity in ("one", "two", "three", ""):
        order = order_for_host(among, identity)
        assert order_for_host(list(reversed(among)), identity) == order
        assert all(
            order_for_host([e for e in among if e != gone], identity) == [e for e in order if e != gone]
            for gone in among
        )


def test_hosts_of_a_dead_mirror_spread_over_the_rest() -> None:
    among = endpoints("a.example", "b.example", "c.example")
    orders = [order_for_host(among, str(number)) for number in range(600)]
    seconds = Counter(order[1].host for order in orders if order[0].host == "a.example")
    assert min(seconds["b.example"], seconds["c.example"]) >= 70, seconds


@pytest.fixture
def three(image: Stored) -> Iterator[list[FaultServer]]:
    """The registry itself, and two mirrors."""
    with ExitStack() as stack:
        yield [stack.enter_context(fault_proxy(image.registry)) for _ in range(3)]


def through(*mirrors: FaultServer) -> str:
    return " ".join(f"bootc.registry.mirror=http://{mirror.host}" for mirror in mirrors)


def test_the_same_host_asks_the_same_mirror(
    program: Program, image: Stored, three: list[FaultServer], tmp_path: Path
) -> None:
    home, *mirrors = three
    for order in (mirrors, mirrors[::-1]):
        kargs = f"{through(*order)} bootc.registry.unsecure"
        rehearsed(program, home.source(f"os@{image.digest}"), tmp_path, kargs).good()
    assert sorted(bool(mirror.asked()) for mirror in mirrors) == [False, True]
    assert home.asked() == []


def test_other_hosts_ask_other_mirrors(program: Program, three: list[FaultServer], tmp_path: Path) -> None:
    """By the machine id here: every one asks whom it should."""
    home, *mirrors = three
    among = endpoints(*(mirror.host for mirror in mirrors))
    wanted = [order_for_host(among, machine)[0].host for machine in MACHINES]
    (tmp_path / "sysroot").mkdir()
    asked = []
    plain = [{"location": m.host, "insecure": True, "pull-from-mirror": "all"} for m in mirrors]
    with host_files({RULES: rules({"location": home.host, "mirrors": plain})}):
        for machine in MACHINES:
            before = [len(mirror.asked()) for mirror in mirrors]
            as_machine = ("unshare", "--mount", "sh", "-euc", AS_MACHINE, machine)
            Program(program.zipapp, before=as_machine).run("inspect", home.source("os")).good()
            asked += [m.host for m, count in zip(mirrors, before, strict=True) if len(m.asked()) > count]
    assert asked == wanted


def test_receipt_tells_where_the_bytes_came_from(
    program: Program, image: Stored, three: list[FaultServer], tmp_path: Path
) -> None:
    """All from the first mirror, if nothing is wrong with it."""
    home, *mirrors = three
    kargs = f"{through(*mirrors)} bootc.registry.unsecure {PATIENT}"
    booted = boot(program, home.source(f"os@{image.digest}"), tmp_path, kargs)
    booted.ended.good()
    (used,) = (mirror for mirror in mirrors if mirror.asked())
    assert booted.receipt["hosts"] == {used.host: used.sent()}
    assert booted.receipt["bytes"]["transferred"] == used.sent()


def test_receipt_of_two_places(program: Program, image: Stored, tmp_path: Path) -> None:
    with (
        fault_proxy(image.registry, Rule(BLOBS, Fault(status=404), times=None)) as mirror,
        fault_proxy(image.registry) as home,
    ):
        kargs = f"{through(mirror)} bootc.registry.unsecure {PATIENT}"
        booted = boot(program, home.source(f"os@{image.digest}"), tmp_path, kargs)
        booted.ended.good()
        assert booted.receipt["hosts"] == {mirror.host: mirror.sent("/manifests/"), home.host: home.sent(BLOBS)}


def test_mirrors_that_cannot_be_used(program: Program, image: Stored, tmp_path: Path) -> None:
    """A dead one, one that refuses, a good one: the good one has it all, and the receipt says so."""
    with (
        closed_port() as port,
        fault_proxy(image.registry, Rule(EVERYTHING, Fault(status=403), times=None)) as refusing,
        fault_proxy(image.registry) as good,
    ):
        mirrors = f"{through(refusing, good)} bootc.registry.mirror=http://127.0.0.1:{port}"
        source = f"docker://registry.invalid/os@{image.digest}"
        booted = boot(program, source, tmp_path, f"{mirrors} {PATIENT}")
        booted.ended.good()
        assert booted.receipt["hosts"] == {good.host: good.sent()}
        assert booted.receipt["image"]["manifest_digest"] == image.digest
        assert booted.receipt["source"] == source


def test_nobody_has_it(program: Program, three: list[FaultServer], tmp_path: Path) -> None:
    home, *mirrors = three
    source = home.source(f"missing@sha256:{'0' * 64}")
    ended = rehearsed(program, source, tmp_path, f"{through(*mirrors)} bootc.registry.unsecure")
    ended.error(repr(source), home.url, "404")
    assert all(len(server.asked()) == 1 for server in three)


@pytest.mark.parametrize("known", [True, False], ids=["login", "no-login"])
@pytest.mark.parametrize("by_file", [True, False], ids=["file", "argument"])
def test_mirror_with_a_login(by_file: bool, known: bool, program: Program, image: Stored, tmp_path: Path) -> None:
    """It has an entry of its own in auth.json, by its own path; that of the registry is not for it.

    Without TLS it gets it only where a file calls it insecure; bootc.registry.unsecure is about the registry.
    """
    with (
        registry(tmp_path / "mirror", auth=htpasswd(tmp_path / "users", USER), same_as=image.registry) as real,
        fault_proxy(real) as mirror,
        fault_proxy(image.registry) as home,
    ):
        logins = {home.host: STRANGER.entry, mirror.host: STRANGER.entry}
        if known:
            logins[f"{mirror.host}/team"] = USER.entry
        named = {"location": f"{mirror.host}/team", "insecure": True}
        files = {RULES: rules({"prefix": home.host, "mirrors": [named]})} if by_file else {}
        with host_files({AUTH: auth_json(logins), **files}):
            kargs = "bootc.registry.unsecure"
            if not by_file:
                kargs += f" bootc.registry.mirror=http://{mirror.host}/team"
            ended = rehearsed(program, home.source(f"os@{image.digest}"), tmp_path, kargs).good()
        assert bool(home.asked()) != (known and by_file)
        assert not any(seen.authorization for seen in home.asked())
        assert mirror.asked()
        shown = {seen.authorization for seen in mirror.asked()} - {""}
        assert shown == ({f"Basic {USER.encoded if known else STRANGER.encoded}"} if by_file else set())
        assert not any(text in ended.stderr for text in (*USER.secrets, *STRANGER.secrets))
