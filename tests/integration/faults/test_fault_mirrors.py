"""Mirrors that fail in the middle, from the start or on purpose: the boot goes on with the next, or says who lied."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.dead_servers import closed_port, full_server
from tests.lib.fault_boot import PATIENT, STALLED, boot
from tests.lib.fault_image import NAME, Published
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import FaultServer
from tests.lib.faults import BLOBS, EVERYTHING, MANIFESTS, MIB, End, Fault, Ranges, Rule, Trickle
from tests.lib.program import Program
from tests.lib.side_by_side import batches, side_by_side
from tests.lib.tls import make_authority, make_server
from tests.lib.token_gate import TokenGate


@pytest.fixture
def home(image: Published) -> Iterator[FaultServer]:
    """The registry itself, without a fault."""
    with fault_proxy(image.registry) as running:
        yield running


def through(*mirrors: str, patience: str = PATIENT) -> str:
    """The kernel arguments for mirrors (`HOST:PORT[/PATH]`) that speak HTTP."""
    plain = (f"bootc.registry.mirror=http://{mirror}" for mirror in mirrors)
    return " ".join(["bootc.registry.unsecure", patience, *plain])


def served(digest: str, *servers: FaultServer) -> int:
    """How often a digest was sent, in parts or whole."""
    return sum(seen.status in {200, 206} for server in servers for seen in server.asked(digest))


def everything(fault: Fault) -> tuple[Rule, ...]:
    return (Rule(EVERYTHING, fault, times=None),)


@dataclass(frozen=True)
class Broken:
    """What a mirror does that leaves all to the registry, sooner or later."""

    name: str
    rules: tuple[Rule, ...]
    ranges: Ranges = Ranges.HONEST
    patience: str = PATIENT


BROKEN = (
    Broken("missing", everything(Fault(status=404))),
    Broken("failing", everything(Fault(status=500))),
    Broken("looping", everything(Fault(redirect=""))),
    Broken("without-blobs", (Rule(BLOBS, Fault(status=404), times=None),)),
    Broken("without-tags", (Rule(MANIFESTS, Fault(status=404), times=None),)),
    Broken("trickling", (Rule(BLOBS, Fault(trickle=Trickle(50, 0.2)), times=None),), patience=STALLED),
    Broken("lying-about-ranges", (Rule(BLOBS, Fault(after=MIB)),), Ranges.WRONG_HEADER),
)


@pytest.mark.parametrize("rows", batches(BROKEN))
def test_broken_mirror(rows: tuple[Broken, ...], program: Program, image: Published, tmp_path: Path) -> None:
    def check(row: Broken, where: Path) -> None:
        with (
            fault_proxy(image.registry, *row.rules, ranges=row.ranges) as mirror,
            fault_proxy(image.registry) as home,
        ):
            boot(program, home.source(NAME), where, through(mirror.host, patience=row.patience)).of(image)
            assert mirror.asked(), "the mirror comes first"
            for blob in image.blobs:
                assert mirror.sent(blob.digest) + home.sent(blob.digest) <= blob.size + MIB

    side_by_side(rows, check, tmp_path)


def test_dead_mirror(program: Program, image: Published, home: FaultServer, tmp_path: Path) -> None:
    with full_server() as port:
        booted = boot(program, home.source(NAME), tmp_path, through(f"127.0.0.1:{port}", patience=STALLED)).of(image)
    assert str(booted.receipt["policy"]["named_by"]).startswith(f"{home.host}/")
    assert all(blob.size <= home.sent(blob.digest) <= blob.size + MIB for blob in image.blobs)


def test_registry_that_is_dead(program: Program, image: Published, tmp_path: Path) -> None:
    with closed_port() as port, fault_proxy(image.registry) as mirror:
        source = f"docker://127.0.0.1:{port}/{NAME}@{image.digest}"
        boot(program, source, tmp_path, through(mirror.host)).of(image)


@pytest.mark.parametrize(
    ("after", "end"),
    [(3 * MIB, End.CLOSE), (1_234_567, End.RESET), (3 * MIB + 1, End.SILENCE)],
    ids=["end", "reset", "silence"],
)
def test_the_next_one_goes_on_where_the_last_stopped(
    after: int, end: End, program: Program, image: Published, home: FaultServer, tmp_path: Path
) -> None:
    digest, size = image.bulk.digest, image.bulk.size
    with fault_proxy(image.registry, Rule(digest, Fault(after=after, end=end))) as mirror:
        kargs = through(mirror.host, patience=STALLED if end is End.SILENCE else PATIENT)
        receipt = boot(program, home.source(NAME), tmp_path, kargs).of(image).receipt
        (first,), (second,) = mirror.asked(digest), home.asked(digest)
        assert (first.start, first.sent) == (0, after)
        assert second.status == 206
        assert after - MIB <= second.start <= after
        assert mirror.sent(digest) + home.sent(digest) <= size + MIB
        # No other blob had to be fetched twice.
        for blob in image.missing([image.bulk]):
            assert served(blob.digest, mirror, home) == 1
    assert receipt["bytes"]["transferred"] >= image.size


def test_three_take_turns(program: Program, image: Published, tmp_path: Path) -> None:
    """All of them cut the large layer again and again; each begins where another one stopped."""
    digest, size = image.bulk.digest, image.bulk.size
    with ExitStack() as stack:
        rule = Rule(digest, Fault(after=700_000), times=None)
        home, *mirrors = (stack.enter_context(fault_proxy(image.registry, rule)) for _ in range(3))
        kargs = through(*(mirror.host for mirror in mirrors))
        boot(program, home.source(NAME), tmp_path, kargs).of(image)
        asked = sorted((seen for server in (home, *mirrors) for seen in server.asked(digest)), key=lambda s: s.at)
        assert sum(seen.sent for seen in asked) <= size + MIB * (len(asked) - 1)
        assert all(server.asked(digest) for server in (home, *mirrors))
        assert [seen.start for seen in asked] == sorted(seen.start for seen in asked)


def test_mirror_that_dies_after_some_blobs(
    program: Program, image: Published, home: FaultServer, tmp_path: Path
) -> None:
    dying = Rule(BLOBS, Fault(silent=True, end=End.CLOSE), times=None, each=False, spared=2)
    with fault_proxy(image.registry, dying) as mirror:
        boot(program, home.source(NAME), tmp_path, through(mirror.host)).of(image)
        assert all(served(blob.digest, mirror, home) == 1 for blob in image.blobs)
        assert sum(served(blob.digest, mirror) for blob in image.blobs) == 2


@pytest.mark.parametrize("fault", [Fault(flip=1), Fault(short=5)], ids=["other", "short"])
def test_mirror_that_lies_about_a_digest(
    fault: Fault, program: Program, image: Published, home: FaultServer, tmp_path: Path
) -> None:
    """It is told with the host it came from, and costs one try."""
    with fault_proxy(image.registry, Rule(image.last.digest, fault, times=None)) as mirror:
        booted = boot(program, home.source(NAME), tmp_path, through(mirror.host)).of(image)
        (told,) = (line for line in booted.ended.stderr.splitlines() if "continuing without that server" in line)
        assert image.last.digest in told
        assert mirror.host in told
        assert len(mirror.asked(image.last.digest)) == 1
    assert len(home.asked(image.last.digest)) == 1


def forged(image: Published, **headers: str) -> Rule:
    """Another image's manifest for the tag; `headers` make it more or less honest."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    return Rule(f"{MANIFESTS}latest", Fault(body=image.other, headers=said), times=None)


def test_mirror_that_lies_about_a_tag(program: Program, image: Published, home: FaultServer, tmp_path: Path) -> None:
    """It is not asked: anybody on the way to it could lie."""
    with fault_proxy(image.registry, forged(image)) as mirror:
        boot(program, home.source(NAME), tmp_path, through(mirror.host)).of(image)
        assert mirror.asked(MANIFESTS) == []
        assert mirror.asked(BLOBS)


def test_mirror_whose_manifest_has_not_the_digest_it_names(
    program: Program, image: Published, home: FaultServer, tmp_path: Path
) -> None:
    """One with TLS is asked for tags, too: it is told by its name, and costs one try."""
    authority = make_authority(tmp_path)
    certificate = make_server(tmp_path, authority)
    rule = forged(image, Docker_Content_Digest=image.digest)
    with fault_proxy(image.registry, rule, tls=certificate) as mirror:
        kargs = f"bootc.registry.unsecure {PATIENT} bootc.registry.mirror={mirror.host}"
        trusting = {"SSL_CERT_FILE": str(authority.certificate)}
        booted = boot(program, home.source(NAME), tmp_path, kargs, env=trusting).of(image)
        (told,) = (line for line in booted.ended.stderr.splitlines() if mirror.host in line and "sent" in line)
        assert image.digest in told
        assert len(mirror.asked()) == 1
    assert home.asked(f"{MANIFESTS}latest")


def test_logins_of_the_registry_are_not_for_mirrors(program: Program, image: Published, tmp_path: Path) -> None:
    """A token from one server is shown to that server alone."""
    gates = TokenGate(), TokenGate()
    rule = Rule(BLOBS, Fault(after=1000))
    with (
        fault_proxy(image.registry, rule, guard=gates[0]) as mirror,
        fault_proxy(image.registry, guard=gates[1]) as home,
    ):
        boot(program, home.source(NAME), tmp_path, through(mirror.host)).of(image)
        for server, other in ((mirror, gates[1]), (home, gates[0])):
            shown = {seen.authorization.removeprefix("Bearer ") for seen in server.asked()}
            assert not shown & set(other.tokens)
