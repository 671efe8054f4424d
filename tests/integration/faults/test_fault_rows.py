"""What one server can do wrong: the boot is right all the same, or ends soon with one error that says what happened."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.lib.fault_boot import BRIEF, IMPATIENT, PATIENT, STALLED, STALLED_FOR_EVER, boot
from tests.lib.fault_image import NAME, Published
from tests.lib.fault_proxy import fault_proxy
from tests.lib.faults import BLOBS, EVERYTHING, MANIFESTS, MIB, End, Fault, Framing, Ranges, Rule, Trickle, http_date
from tests.lib.program import Program
from tests.lib.side_by_side import batches, side_by_side
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


PORTAL = Fault(body=b"<html>Please log in to this network.</html>", headers={"Content-Type": "text/html"})
HALF_OPEN = Fault(end=End.SILENCE)
UNSIZED = (
    Rule(BULK, Fault(after=MIB, framing=Framing.CLOSE)),
    Rule(DRIP, Fault(after=9000, framing=Framing.CHUNKED)),
)
TLS_BREAKS = (
    Rule(BULK, Fault(after=MIB, end=End.CUT)),
    Rule(DRIP, Fault(after=9000, end=End.RESET)),
    Rule(LAST, Fault(after=10, end=End.CLOSE)),
)
NO_ANSWER = (
    Rule(MANIFESTS, Fault(silent=True, end=End.CLOSE)),
    Rule(BULK, Fault(silent=True, end=End.CUT)),
    Rule(BLOBS, Fault(silent=True, end=End.RESET)),
)
BROKEN = ("{url}/v2/os/", "the transfer from")
ASKED = ("{url}/v2/os/",)

PASSING = (
    Row("drop-before-any-byte", once(EVERYTHING, Fault(after=0))),
    Row("dropped-every-time", always(BULK, Fault(after=MIB + 1)), kargs=IMPATIENT),
    Row("reset-after-the-last-byte", once(EVERYTHING, Fault(end=End.RESET))),
    Row("no-answer", NO_ANSWER),
    Row("tls-broken-in-the-body", TLS_BREAKS, tls=True),
    Row("tls-cut-after-the-last-byte", once(EVERYTHING, Fault(end=End.CUT)), tls=True),
    Row("silence-instead-of-an-answer", once(MANIFESTS, Fault(silent=True)), kargs=STALLED),
    Row("half-open-connection", (*once(MANIFESTS, HALF_OPEN), *once(BULK, HALF_OPEN)), kargs=STALLED),
    Row("slow-and-steady", always(DRIP, Fault(trickle=Trickle(2048, 0.25)))),
    Row("length-too-large-and-closed", once(BLOBS, Fault(length=1000, end=End.CLOSE))),
    Row("no-length", (*UNSIZED, *always(EVERYTHING, Fault(framing=Framing.CLOSE)))),
    Row("chunked", (*UNSIZED, *always(EVERYTHING, Fault(framing=Framing.CHUNKED)))),
    Row("wrong-range-bytes", once(BULK, Fault(after=MIB)), ranges=Ranges.WRONG_BYTES),
    Row("wrong-range-header", once(BULK, Fault(after=MIB)), ranges=Ranges.WRONG_HEADER),
    *(
        Row(
            f"ranges-{status}-{refused}",
            (*once(BULK, Fault(after=MIB)), *once(BULK, Fault(status=status), times=refused)),
        )
        for status in (400, 416, 500, 501)
        for refused in (1, 2)
    ),
    Row("everything-at-once", (*once(EVERYTHING, Fault(status=502)), *once(BLOBS, Fault(after=MIB), times=2))),
)
# Wrong content is final: it is not asked for again.
WRONG = (
    Row("short-body", always(LAST, Fault(short=10)), (LAST, "its manifest gives")),
    Row("long-body", always(LAST, Fault(extra=10)), (LAST, "is longer than")),
    Row("length-too-small", always(LAST, Fault(length=-10)), (LAST, "its manifest gives")),
    Row("404", always(LAST, Fault(status=404)), (*ASKED, LAST, "404")),
)
FAILING = (
    Row("a-byte-wrong", always(BULK, Fault(flip=2 * MIB)), (BULK, "it must be")),
    Row("last-byte-wrong-after-a-drop", (*once(BULK, Fault(after=MIB)), *always(BULK, Fault(flip=5 * MIB))), (BULK,)),
    Row("login-page-of-a-network", always(EVERYTHING, PORTAL), ("manifest",)),
    Row("500-always", always(BLOBS, Fault(status=500)), (*ASKED, "500"), IMPATIENT),
    Row("503-for-an-hour", always(EVERYTHING, Fault(status=503, headers={"Retry-After": "3600"})), ("503",), BRIEF),
    Row("manifest-always-cut", always(MANIFESTS, Fault(after=100)), (*BROKEN, "manifests/latest"), IMPATIENT),
    Row("never-an-answer", always(MANIFESTS, Fault(silent=True)), (*ASKED, "manifests/latest"), STALLED_FOR_EVER),
    Row("trickle-always", always(BULK, Fault(trickle=Trickle(50, 0.2))), (*ASKED, BULK), STALLED_FOR_EVER),
    Row("slow-for-ever", always(BULK, Fault(trickle=Trickle(8192, 0.1))), ("within 8 s",), BRIEF),
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_authority(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def certificate(authority: Certificate) -> Certificate:
    return make_server(authority.key.parent, authority)


@pytest.mark.parametrize("rows", batches([*PASSING, *WRONG, *FAILING]))
def test_faults(
    rows: tuple[Row, ...],
    program: Program,
    image: Published,
    authority: Certificate,
    certificate: Certificate,
    tmp_path: Path,
) -> None:
    names = {"bulk": image.bulk.digest, "drip": image.drip.digest, "last": image.last.digest}
    trusting = {"SSL_CERT_FILE": str(authority.certificate)}

    def check(row: Row, where: Path) -> None:
        rules = [replace(rule, where=rule.where.format(**names)) for rule in row.rules]
        kargs = row.kargs if row.tls else f"{row.kargs} bootc.registry.unsecure"
        with fault_proxy(image.registry, *rules, ranges=row.ranges, tls=certificate if row.tls else None) as faulty:
            source = faulty.source(NAME)
            booted = boot(program, source, where, kargs, env=trusting)
            if row.told:
                booted.error(repr(source), *(text.format(url=faulty.url, **names) for text in row.told))
            else:
                booted.of(image)
            # Whatever it was, it happened: a request met it.
            assert all(faulty.asked(rule.where) for rule in rules)
            assert row not in WRONG or len(faulty.asked(image.last.digest)) == 1

    side_by_side(rows, check, tmp_path)


@pytest.mark.parametrize(("status", "form"), [(429, "date"), (503, "seconds")])
def test_retry_after_is_honoured(form: str, status: int, program: Program, image: Published, tmp_path: Path) -> None:
    # A date has whole seconds: what lies two ahead may be little more than one.
    headers = {"Retry-After": "1" if form == "seconds" else http_date(2)}
    with fault_proxy(image.registry, Rule(MANIFESTS, Fault(status=status, headers=headers))) as faulty:
        boot(program, faulty.source(NAME), tmp_path, "bootc.registry.unsecure").of(image)
        first, second = faulty.asked(MANIFESTS)
    assert second.at - first.at >= 0.9
