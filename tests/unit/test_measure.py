"""What is measured, when it is not, and what a TPM is told, by one that keeps its commands."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.base.log import Recorder
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Config
from bootc_live.config.next_kernel.handover import Handover
from bootc_live.image.recipe import Fetched
from bootc_live.image.trust import TrustVerdict
from bootc_live.landing import measure as landing_measure
from bootc_live.landing.measure import facts_of, measure, require_measure
from bootc_live.system.devices import tpm
from tests.lib.tpm import FakeTpm, fake_tpm

FACTS = ("bootc-live:image:sha256:1", "bootc-live:trust:not checked", "bootc-live:cmdline:a b")
DIGEST = f"sha256:{'a' * 64}"
BANKS = {0x04: "sha1", 0x0B: "sha256", 0x0C: "sha384", 0x0D: "sha512"}


@dataclass
class Machine:
    """A machine with a TPM, whose files are below a directory."""

    where: Path
    tpm: FakeTpm

    @property
    def log(self) -> Path:
        """The event log."""
        return self.where / "log/tpm2-measure.log"

    def records(self) -> list[dict[str, Any]]:
        """What the event log says."""
        return [json.loads(record) for record in self.log.read_text().split("\x1e")[1:]]

    def lose(self, name: str) -> None:
        """Take a file away."""
        (self.where / name).unlink()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """A machine that measures, in an initramfs."""
    monkeypatch.setattr(landing_measure, "_INITRAMFS", str(tmp_path / "initrd-release"))
    for name, file in (("_DEVICE", "tpmrm0"), ("_FIRMWARE", "TPM2"), ("_LOG", "log/tpm2-measure.log")):
        monkeypatch.setattr(tpm, name, str(tmp_path / file))
    monkeypatch.setattr(tpm, "_TIMEOUT", 0.0)
    for name in ("initrd-release", "TPM2"):
        (tmp_path / name).touch()
    with fake_tpm() as made:
        (tmp_path / "tpmrm0").symlink_to(made.path)
        yield Machine(tmp_path, made)


def extension(text: str, *banks: int) -> bytes:
    """TPM2_PCR_Extend of PCR 15 with the digests of a text, byte by byte as its specification has it."""
    digests = b"".join(bank.to_bytes(2, "big") + hashlib.new(BANKS[bank], text.encode()).digest() for bank in banks)
    handle, password = bytes.fromhex("0000000f"), bytes.fromhex("00000009 40000009 0000 00 0000")
    body = handle + password + len(banks).to_bytes(4, "big") + digests
    return bytes.fromhex("8002") + (10 + len(body)).to_bytes(4, "big") + bytes.fromhex("00000182") + body


def config(wish: str) -> Config:
    """The settings of a boot that asks for this."""
    return parse_cmdline(f"root=bootc-live:/x bootc.trust.measure={wish}")


@pytest.mark.parametrize("wish", ["auto", "required"])
@pytest.mark.parametrize("banks", [[0x0B], [0x04, 0x0B, 0x0C, 0x0D]])
def test_each_fact_extends_the_pcr_in_all_banks(wish: str, banks: list[int], machine: Machine) -> None:
    machine.tpm.banks = banks
    recorder = Recorder(quiet=True)
    assert measure(FACTS, config(wish), recorder) == {"pcr": 15, "events": list(FACTS)}
    assert machine.tpm.extended == [extension(fact, *banks) for fact in FACTS]
    assert recorder.warnings == []
    assert "measure" in recorder.phases
    for record, fact in zip(machine.records(), FACTS, strict=True):
        assert (record["pcr"], record["content_type"], record["content"]["string"]) == (15, "systemd", fact)
        hashes = [(BANKS[bank], hashlib.new(BANKS[bank], fact.encode()).hexdigest()) for bank in banks]
        assert [(each["hashAlg"], each["digest"]) for each in record["digests"]] == hashes
    assert machine.log.stat().st_mode & 0o7777 == 0o600


def test_a_bank_without_the_pcr_is_left_alone(machine: Machine) -> None:
    machine.tpm.selection = b"\xff\x7f\xff"
    with pytest.raises(LandingError, match="the TPM has no bank with PCR 15"):
        measure(FACTS, config("required"), Recorder(quiet=True))
    assert machine.tpm.extended == []


def test_a_text_that_is_not_utf_8(machine: Machine) -> None:
    """Its bytes are measured; the log must be readable for others."""
    tpm.extend(15, "a\udcff")
    (record,) = machine.records()
    assert record["content"]["string"] == "a\\xff"
    assert record["digests"][0]["digest"] == hashlib.sha256(b"a\xff").hexdigest()


def test_off(machine: Machine) -> None:
    require_measure(config("off").trust.measure)
    assert measure(FACTS, config("off"), Recorder(quiet=True)) is None
    assert machine.tpm.extended == []


@pytest.mark.parametrize(
    ("lost", "obstacle"),
    [
        (("tpmrm0", "TPM2"), "this machine has no TPM 2.0"),
        (("tpmrm0",), "the kernel has no driver for this machine's TPM 2.0"),
    ],
)
def test_where_nothing_can_be_measured(lost: Sequence[str], obstacle: str, machine: Machine) -> None:
    """That is told only if it is required, and then before anything is fetched."""
    for name in lost:
        machine.lose(name)
    recorder = Recorder(quiet=True)
    require_measure(config("auto").trust.measure)
    assert measure(FACTS, config("auto"), recorder) is None
    assert recorder.warnings == []
    with pytest.raises(LandingError) as early:
        require_measure(config("required").trust.measure)
    with pytest.raises(LandingError) as late:
        measure(FACTS, config("required"), recorder)
    assert early.value.message == late.value.message == f"'bootc.trust.measure=required' cannot be met: {obstacle}"
    assert "driver" in early.value.hint
    assert machine.tpm.extended == []


def test_outside_of_an_initramfs_only_what_is_required_is_measured(machine: Machine) -> None:
    machine.lose("initrd-release")
    assert measure(FACTS, config("auto"), Recorder(quiet=True)) is None
    assert machine.tpm.extended == []
    assert measure(FACTS, config("required"), Recorder(quiet=True)) is not None
    assert len(machine.tpm.extended) == 3


def test_a_failure(machine: Machine) -> None:
    """The rest is not measured; the boot goes on only if it may. The log is marked as systemd marks it."""
    machine.tpm.code = 0x101
    recorder = Recorder(quiet=True)
    assert measure(FACTS, config("auto"), recorder) is None
    told = "the TPM answers a command with the error 0x101"
    assert recorder.warnings == [f"the boot is not measured: {told}"]
    assert len(machine.tpm.extended) == 1
    assert machine.log.stat().st_mode & stat.S_ISVTX
    with pytest.raises(LandingError) as caught:
        measure(FACTS, config("required"), recorder)
    assert caught.value.message == (
        f"'bootc.trust.measure=required' cannot be met: {machine.log} lacks an earlier measurement of this boot"
    )
    assert len(machine.tpm.extended) == 1


@pytest.mark.parametrize(
    ("banks", "selection", "told"),
    [
        ([], b"\xff\xff\xff", "the TPM has no bank with PCR 15"),
        ([0x0B], b"", "the TPM has no bank with PCR 15"),
        # Left out, it could be extended later with whatever proves another boot.
        ([0x0B, 0x7F], b"\xff\xff\xff", "the TPM has a bank of the algorithm '0x7f', which is not known here"),
    ],
)
def test_banks_that_cannot_be_extended(banks: list[int], selection: bytes, told: str, machine: Machine) -> None:
    machine.tpm.banks, machine.tpm.selection = banks, selection
    with pytest.raises(LandingError) as caught:
        measure(FACTS, config("required"), Recorder(quiet=True))
    assert caught.value.message == f"'bootc.trust.measure=required' cannot be met: {told}"
    assert machine.tpm.extended == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the TPM answers a command with the error -0x1"),
        (bytes.fromhex("8001 0000000a 00000000"), "the TPM does not say which banks it has"),
        (bytes.fromhex("8001 00000013 00000000 00 00000005 00000002 000b03"), "the TPM does not say which banks"),
    ],
)
@pytest.mark.usefixtures("machine")
def test_answers_that_are_none(answer: bytes, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeTpm, "answer", lambda *_: answer or b"\0")
    with pytest.raises(LandingError, match=told):
        measure(FACTS, config("required"), Recorder(quiet=True))


def test_a_device_that_cannot_be_used(machine: Machine) -> None:
    machine.lose("tpmrm0")
    (machine.where / "tpmrm0").mkdir()
    recorder = Recorder(quiet=True)
    assert measure(FACTS, config("auto"), recorder) is None
    assert recorder.warnings == ["the boot is not measured: cannot extend PCR 15: Is a directory"]


def fetched(verdict: TrustVerdict) -> Fetched[Any]:
    """What is known of an image that was fetched."""
    known = SimpleNamespace(image=SimpleNamespace(resolved=SimpleNamespace(identity=DIGEST)), verdict=verdict)
    return cast("Fetched[Any]", known)


SIGNED = TrustVerdict(signed=True, keys=("/etc/bootc-live/keys/a.pub", "/b.pub"), rules=("a rule",))


@pytest.mark.parametrize(
    ("verdict", "before", "text"),
    [
        (TrustVerdict(), None, "not checked"),
        (TrustVerdict(unchecked=True), None, "switched off"),
        (SIGNED, None, "verified by /etc/bootc-live/keys/a.pub, /b.pub"),
        # After kexec, the first kernel has decided.
        (TrustVerdict(), {"trust": {"signatures": "verified", "keys": ["/c.pub"]}}, "verified by /c.pub"),
        (TrustVerdict(), {}, "not checked"),
    ],
)
def test_what_was_decided(verdict: TrustVerdict, before: dict[str, object] | None, text: str) -> None:
    handed = None if before is None else Handover(DIGEST, None, (), before)
    image, trust, _ = facts_of(fetched(verdict), handed, "")
    assert (image, trust) == (f"bootc-live:image:{DIGEST}", f"bootc-live:trust:{text}")


@pytest.mark.parametrize(
    ("cmdline", "text"),
    [
        (" root=bootc-live:/x  quiet\n", "root=bootc-live:/x quiet"),
        ("proxy=http://me:secret@h:1 quiet", "proxy=http://***@h:1 quiet"),
        ('root=bootc-live:https://me:secret@h/x?token=secret x="a  b" -- 1', None),
        ("", ""),
    ],
)
def test_the_command_line_is_measured_without_secrets(cmdline: str, text: str | None) -> None:
    *_, line = facts_of(fetched(TrustVerdict()), None, cmdline)
    assert line.startswith("bootc-live:cmdline:")
    assert "secret" not in json.dumps(line)
    assert text is None or line == f"bootc-live:cmdline:{text}"
