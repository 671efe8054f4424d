"""Tokens that run out, redirects to other hosts, and logins that must not be seen by anybody they are not for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lib.dead_servers import closed_port
from tests.lib.fault_boot import IMPATIENT, PATIENT, STALLED_FOR_EVER, boot
from tests.lib.fault_image import NAME, Published
from tests.lib.fault_proxy import fault_proxy
from tests.lib.faults import BLOBS, EVERYTHING, MIB, TOKEN, Fault, Rule
from tests.lib.program import Program
from tests.lib.token_gate import TokenGate

KARGS = f"bootc.registry.unsecure {PATIENT}"
SIGNED = "X-Signature=not-for-your-eyes"


def test_token_that_runs_out(program: Program, image: Published, tmp_path: Path) -> None:
    gate = TokenGate(uses=3)
    with fault_proxy(image.registry, guard=gate) as faulty:
        boot(program, faulty.source(NAME), tmp_path, KARGS).of(image).without(*gate.tokens)
        assert gate.expired
        assert len(gate.tokens) >= 2
        assert all(faulty.sent(blob.digest) - blob.size < 1000 for blob in image.blobs)


def test_token_that_runs_out_between_two_parts_of_a_blob(program: Program, image: Published, tmp_path: Path) -> None:
    gate = TokenGate(uses=1)
    rule = Rule(image.bulk.digest, Fault(after=MIB), times=3)
    with fault_proxy(image.registry, rule, guard=gate) as faulty:
        boot(program, faulty.source(NAME), tmp_path, KARGS).of(image)
        good = [seen for seen in faulty.asked(image.bulk.digest) if seen.status in {200, 206}]
        assert [seen.start for seen in good] == [0, MIB, 2 * MIB, 3 * MIB]
        assert gate.expired >= 3


def test_token_that_is_never_good(program: Program, image: Published, tmp_path: Path) -> None:
    gate = TokenGate(uses=0)
    with fault_proxy(image.registry, guard=gate) as faulty:
        source = faulty.source(NAME)
        booted = boot(program, source, tmp_path, f"bootc.registry.unsecure {IMPATIENT}")
        booted.without(*gate.tokens).error(repr(source), f"{faulty.url}/v2/os/", "401")
        assert len(gate.tokens) <= 4


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(after=5)], ids=["status", "cut"])
def test_token_service_with_a_bad_moment(fault: Fault, program: Program, image: Published, tmp_path: Path) -> None:
    gate = TokenGate()
    with fault_proxy(image.registry, Rule(TOKEN, fault), guard=gate) as faulty:
        boot(program, faulty.source(NAME), tmp_path, KARGS).of(image)
        assert len(faulty.asked(TOKEN)) >= 2


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(silent=True)], ids=["status", "silent"])
def test_token_service_that_is_dead(fault: Fault, program: Program, image: Published, tmp_path: Path) -> None:
    with fault_proxy(image.registry, Rule(TOKEN, fault, times=None), guard=TokenGate()) as faulty:
        source = faulty.source(NAME)
        booted = boot(program, source, tmp_path, f"bootc.registry.unsecure {STALLED_FOR_EVER}")
        booted.error(repr(source), f"{faulty.url}{TOKEN}")


def test_token_without_end(program: Program, image: Published, tmp_path: Path) -> None:
    """No memory is filled with what calls itself a token."""
    much = Fault(extra=128 * MIB)
    with fault_proxy(image.registry, Rule(TOKEN, much, times=None), guard=TokenGate()) as faulty:
        source = faulty.source(NAME)
        booted = boot(program, source, tmp_path, f"bootc.registry.unsecure {IMPATIENT}")
        booted.error(repr(source), f"{faulty.url}{TOKEN}")
        assert faulty.sent(TOKEN) < 64 * MIB


def test_tokens_stay_at_home(program: Program, image: Published, tmp_path: Path) -> None:
    """Blobs lie on another host, as with registries on object storage: it gets no token, and ranges get through."""
    gate = TokenGate(uses=2)
    broken = Rule(image.bulk.digest, Fault(after=MIB), times=2)
    with fault_proxy(image.registry, broken) as storage:
        moved = Rule(BLOBS, Fault(redirect=storage.url, query=SIGNED), times=None)
        with fault_proxy(image.registry, moved, guard=gate) as faulty:
            boot(program, faulty.source(NAME), tmp_path, KARGS).of(image).without(SIGNED, *gate.tokens)
            assert {seen.status for seen in faulty.asked(BLOBS)} <= {307, 401}
            assert any(seen.authorization for seen in faulty.asked(BLOBS))
        assert [seen.authorization for seen in storage.asked()] == [""] * (len(image.blobs) + 2)
        assert [seen.start for seen in storage.asked(image.bulk.digest)] == [0, MIB, 2 * MIB]


def test_signed_address_that_is_refused(program: Program, image: Published, tmp_path: Path) -> None:
    """Its query is a secret."""
    with fault_proxy(image.registry, Rule(EVERYTHING, Fault(status=403), times=None)) as storage:
        moved = Rule(BLOBS, Fault(redirect=storage.url, query=SIGNED), times=None)
        with fault_proxy(image.registry, moved) as faulty:
            source = faulty.source(NAME)
            booted = boot(program, source, tmp_path, f"bootc.registry.unsecure {IMPATIENT}")
            booted.without(SIGNED).error(repr(source), "403", "/v2/os/blobs/")


def test_redirect_to_nowhere(program: Program, image: Published, tmp_path: Path) -> None:
    with closed_port() as port:
        moved = Rule(BLOBS, Fault(redirect=f"http://127.0.0.1:{port}", query=SIGNED), times=None)
        with fault_proxy(image.registry, moved) as faulty:
            source = faulty.source(NAME)
            booted = boot(program, source, tmp_path, f"bootc.registry.unsecure {IMPATIENT}")
            booted.without(SIGNED).error(repr(source), f"127.0.0.1:{port}")
