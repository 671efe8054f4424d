"""What one server can do wrong: the boot is right all the same, or ends soon with one error that says what happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.lib.fault_boot import IMPATIENT, PATIENT, boot
from tests.lib.fault_image import NAME, Published, published
from tests.lib.fault_proxy import fault_proxy
from tests.lib.faults import BLOBS, EVERYTHING, MANIFESTS, MIB, End, Fault, Ranges, Rule, Trickle, http_date
from tests.lib.program import Program
from tests.lib.tls import Certificate, make_authority, make_server

BULK, DRIP, LAST = "{bulk}", "{drip}", "{last}"


@dataclass(frozen=True)
class Row:
    """Faults of a server, and what the error names; if it names nothing, the image boots.

    `where` of a rule and `told` may name blobs: `{bulk}`, `{drip}`, `{last}`. `{url}` is the server's.
    """

    name: str
    rules: tuple[Rule, ...]
    told: tuple[str, ...] = ()
    kargs: str = PATIENT
    ranges: Ranges = Ranges.HONEST
    tls: bool = False


def once(where: str, fault: Fault, times: int = 1) -> tuple[Rule, ...]:
    """A fault for the first request of every path."""
    return (Rule(where, fault, times=times),)


def always(where: str, fault: Fault) -> tuple[Rule, ...]:
    """A fault for every request."""
    return (Rule(where, fault, times=None),)


WAIT = {"Retry-After": "1"}
DATE = {"Retry-After": http_date(2)}
BROKEN = ("{url}/v2/os/", "the transfer from")
REACHED = ("{url}/v2/os/",)

PASSING = (
    Row("drop-before-any-byte", once(EVERYTHING, Fault(after=0))),
    Row("drop-after-one-byte", once(EVERYTHING, Fault(after=1))),
    Row("drop-after-a-mib", once(BLOBS, Fault(after=MIB))),
    Row("reset", once(BLOBS, Fault(after=10_000, end=End.RESET))),
    Row("reset-after-the-last-byte", once(EVERYTHING, Fault(end=End.RESET))),
    Row("dropped-every-time", always(BULK, Fault(after=MIB + 1)), kargs=IMPATIENT.replace("total=5s", "total=60s")),
    Row("no-answer-and-closed", once(EVERYTHING, Fault(silent=True, end=End.CLOSE))),
    Row("no-answer-and-reset", once(EVERYTHING, Fault(silent=True, end=End.RESET))),
    Row("tls-no-answer-and-cut", once(EVERYTHING, Fault(silent=True, end=End.CUT)), tls=True),
    Row("tls-no-answer-and-reset", once(EVERYTHING, Fault(silent=True, end=End.RESET)), tls=True),
    Row("tls-cut", once(BLOBS, Fault(after=MIB, end=End.CUT)), tls=True),
    Row("tls-closed", once(BLOBS, Fault(after=MIB, end=End.CLOSE)), tls=True),
    Row("tls-reset", once(BLOBS, Fault(after=MIB, end=End.RESET)), tls=True),
    Row("tls-cut-after-the-last-byte", once(EVERYTHING, Fault(end=End.CUT)), tls=True),
    Row("500", once(EVERYTHING, Fault(status=500))),
    Row("503-with-seconds", once(BLOBS, Fault(status=503, headers=WAIT))),
    Row("429-with-a-date", once(MANIFESTS, Fault(status=429, headers=DATE))),
    Row("429-with-nonsense", once(MANIFESTS, Fault(status=429, headers={"Retry-After": "soon"}))),
    Row("silence-instead-of-an-answer", once(MANIFESTS, Fault(silent=True))),
    Row("silence-after-the-headers", once(BULK, Fault(after=0, end=End.SILENCE))),
    Row("silence-in-the-body", once(BULK, Fault(after=MIB, end=End.SILENCE))),
    Row("half-open-connection", once(EVERYTHING, Fault(end=End.SILENCE))),
    Row("slow-and-steady", always(DRIP, Fault(trickle=Trickle(2048, 0.25)))),
    Row("trickle-once", once(BULK, Fault(trickle=Trickle(50, 0.2)))),
    Row("late-answer", once(BLOBS, Fault(delay=0.5))),
    Row("length-too-large-and-closed", once(BLOBS, Fault(length=1000, end=End.CLOSE))),
    Row("length-too-large-and-open", once(BULK, Fault(length=1000))),
    Row("no-ranges", once(BLOBS, Fault(after=MIB)), ranges=Ranges.NONE),
    Row("everything-at-once", (*once(EVERYTHING, Fault(status=502)), *once(BLOBS, Fault(after=MIB), times=2))),
)
FAILING = (
    Row("short-body", always(LAST, Fault(short=10)), (LAST, "its manifest gives")),
    Row("no-body", always(LAST, Fault(short=10**9)), (LAST, "its manifest gives")),
    Row("long-body", always(LAST, Fault(extra=10)), (LAST, "is longer than")),
    Row("very-long-body", always(LAST, Fault(extra=3 * MIB)), (LAST, "is longer than")),
    Row("length-too-small", always(LAST, Fault(length=-10)), (LAST, "its manifest gives")),
    Row("first-byte-wrong", always(LAST, Fault(flip=0)), (LAST, "it must be")),
    Row("a-byte-wrong", always(BULK, Fault(flip=2 * MIB)), (BULK, "it must be")),
    Row("last-byte-wrong-after-a-drop", (*once(BULK, Fault(after=MIB)), *always(BULK, Fault(flip=5 * MIB))), (BULK,)),
    Row("wrong-range-bytes", once(BULK, Fault(after=MIB)), (BULK, "it must be"), ranges=Ranges.WRONG_BYTES),
    Row("wrong-range-header", once(BULK, Fault(after=MIB)), (BULK, "206"), ranges=Ranges.WRONG_HEADER),
    Row("500-always", always(BLOBS, Fault(status=500)), (*REACHED, "500"), IMPATIENT),
    Row("503-for-an-hour", always(EVERYTHING, Fault(status=503, headers={"Retry-After": "3600"})), ("503",), IMPATIENT),
    Row("429-for-ever", always(MANIFESTS, Fault(status=429, headers=DATE)), (*REACHED, "429"), IMPATIENT),
    Row("404", always(LAST, Fault(status=404)), (*REACHED, LAST, "404")),
    Row("nothing-but-drops", always(BULK, Fault(after=0)), (*BROKEN, BULK), IMPATIENT),
    Row("manifest-always-cut", always(MANIFESTS, Fault(after=100)), (*BROKEN, "manifests/latest"), IMPATIENT),
    Row("never-an-answer", always(MANIFESTS, Fault(silent=True)), (*REACHED, "manifests/latest"), IMPATIENT),
    Row("never-a-body", always(BULK, Fault(after=0, end=End.SILENCE)), (*REACHED, BULK), IMPATIENT),
    Row("trickle-always", always(BULK, Fault(trickle=Trickle(50, 0.2))), (*REACHED, BULK), IMPATIENT),
    Row("slow-for-ever", always(BULK, Fault(trickle=Trickle(8192, 0.1))), ("5 s", "bootc.live.retry.total"), IMPATIENT),
    Row("tls-cut-always", always(BULK, Fault(after=0, end=End.CUT)), (*BROKEN, BULK), IMPATIENT, tls=True),
    Row("no-ranges-and-always-cut", always(BULK, Fault(after=MIB)), (BULK,), IMPATIENT, ranges=Ranges.NONE),
)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published(tmp_path_factory.mktemp("image")) as made:
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_authority(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def certificate(authority: Certificate) -> Certificate:
    return make_server(authority.key.parent, authority)


@pytest.mark.parametrize("row", [*PASSING, *FAILING], ids=lambda row: row.name)
def test_faults(
    row: Row,
    program: Program,
    image: Published,
    authority: Certificate,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    names = {"bulk": image.bulk.digest, "drip": image.drip.digest, "last": image.last.digest}
    rules = [replace(rule, where=rule.where.format(**names)) for rule in row.rules]
    kargs = row.kargs if row.tls else f"{row.kargs} bootc.registry.unsecure"
    trusting = {"SSL_CERT_FILE": str(authority.certificate)}
    with fault_proxy(image.registry, *rules, ranges=row.ranges, tls=certificate if row.tls else None) as faulty:
        source = faulty.source(NAME)
        booted = boot(program, source, tmp_path, kargs, env=trusting)
        if row.told:
            booted.error(repr(source), *(text.format(url=faulty.url, **names) for text in row.told))
        else:
            booted.of(image)
        # Whatever it was, it happened: a request met it.
        assert any(faulty.asked(rule.where) for rule in rules)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(form: str, status: int, program: Program, image: Published, tmp_path: Path) -> None:
    # A date has whole seconds: what lies two ahead may be little more than one.
    headers = {"Retry-After": "1" if form == "seconds" else http_date(2)}
    with fault_proxy(image.registry, Rule(MANIFESTS, Fault(status=status, headers=headers))) as faulty:
        boot(program, faulty.source(NAME), tmp_path, "bootc.registry.unsecure").of(image)
        first, second = faulty.asked(MANIFESTS)
    assert second.at - first.at >= 0.9


WRONG = {"short": Fault(short=10), "long": Fault(extra=10), "other": Fault(flip=0), "length": Fault(length=-10)}


@pytest.mark.parametrize("fault", WRONG.values(), ids=WRONG.keys())
def test_wrong_bytes_are_not_asked_for_again(fault: Fault, program: Program, image: Published, tmp_path: Path) -> None:
    with fault_proxy(image.registry, Rule(image.last.digest, fault, times=None)) as faulty:
        source = faulty.source(NAME)
        boot(program, source, tmp_path, "bootc.registry.unsecure").error(repr(source), image.last.digest)
        assert len(faulty.asked(image.last.digest)) == 1
