"""What is measured, when it is not, and what systemd-pcrextend is told, by a program that keeps its arguments."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from bootc_live.system import tpm

FACTS = ("bootc-live:image:sha256:1", "bootc-live:trust:not checked", "bootc-live:cmdline:a b")
DIGEST = f"sha256:{'a' * 64}"
TOOL = """#!/bin/sh
printf '%s|%s|%s\\n' "$SYSTEMD_FORCE_MEASURE" "$1" "$2" >>'{log}'
{then}
"""


@dataclass
class Machine:
    """A machine with a TPM, whose files are below a directory."""

    where: Path

    def extended(self) -> list[str]:
        """What the program was told, a line for each call."""
        log = self.where / "log"
        return log.read_text().splitlines() if log.exists() else []

    def tool(self, then: str) -> None:
        """Install the program, which ends with a line of shell."""
        path = self.where / "systemd-pcrextend"
        path.unlink(missing_ok=True)
        path.write_text(TOOL.format(log=self.where / "log", then=then))
        path.chmod(0o755)

    def lose(self, name: str) -> None:
        """Take a file away."""
        (self.where / name).unlink()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine that measures, in an initramfs."""
    monkeypatch.setattr(landing_measure, "_INITRAMFS", str(tmp_path / "initrd-release"))
    for name, file in (("_DEVICE", "tpmrm0"), ("_FIRMWARE", "TPM2"), ("_TOOL", "systemd-pcrextend")):
        monkeypatch.setattr(tpm, name, str(tmp_path / file))
    monkeypatch.setattr(tpm, "_LIBRARIES", ("libc.so.6",))
    monkeypatch.setattr(tpm, "_PCRS", str(tmp_path / "pcr-*"))
    monkeypatch.setattr(tpm, "_TIMEOUT", 0.0)
    for name in ("initrd-release", "tpmrm0", "TPM2"):
        (tmp_path / name).touch()
    (tmp_path / "pcr-sha256").mkdir()
    (tmp_path / "pcr-sha256/15").write_text("0\n")
    made = Machine(tmp_path)
    made.tool(f"echo more >>'{tmp_path}/pcr-sha256/15'")
    return made


def config(wish: str) -> Config:
    """The settings of a boot that asks for this."""
    return parse_cmdline(f"root=bootc-live:/x bootc.trust.measure={wish}")


@pytest.mark.parametrize("wish", ["auto", "required"])
def test_each_fact_extends_the_pcr(wish: str, machine: Machine) -> None:
    recorder = Recorder(quiet=True)
    assert measure(FACTS, config(wish), recorder) == {"pcr": 15, "events": list(FACTS)}
    assert machine.extended() == [f"1|--pcr=15|{fact}" for fact in FACTS]
    assert recorder.warnings == []
    assert "measure" in recorder.phases


def test_off(machine: Machine) -> None:
    require_measure(config("off").trust.measure)
    assert measure(FACTS, config("off"), Recorder(quiet=True)) is None
    assert machine.extended() == []


@pytest.mark.parametrize(
    ("lost", "obstacle"),
    [
        (("systemd-pcrextend",), "the program 'systemd-pcrextend' is missing"),
        # dracut packs the program without them.
        ((), "a library is missing (libnothing.so.0: cannot open shared object file: No such file or directory)"),
        (("tpmrm0", "TPM2"), "this machine has no TPM 2.0"),
        (("tpmrm0",), "the kernel has no driver for this machine's TPM 2.0"),
    ],
)
def test_where_nothing_can_be_measured(
    lost: Sequence[str], obstacle: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is told only if it is required, and then before anything is fetched."""
    for name in lost:
        machine.lose(name)
    if not lost:
        monkeypatch.setattr(tpm, "_LIBRARIES", ("libc.so.6", "libnothing.so.0"))
    recorder = Recorder(quiet=True)
    require_measure(config("auto").trust.measure)
    assert measure(FACTS, config("auto"), recorder) is None
    assert recorder.warnings == []
    with pytest.raises(LandingError) as early:
        require_measure(config("required").trust.measure)
    with pytest.raises(LandingError) as late:
        measure(FACTS, config("required"), recorder)
    assert early.value.message == late.value.message == f"'bootc.trust.measure=required' cannot be met: {obstacle}"
    assert "libtss2" in early.value.hint
    assert machine.extended() == []


def test_outside_of_an_initramfs_only_what_is_required_is_measured(machine: Machine) -> None:
    machine.lose("initrd-release")
    assert measure(FACTS, config("auto"), Recorder(quiet=True)) is None
    assert machine.extended() == []
    assert measure(FACTS, config("required"), Recorder(quiet=True)) is not None
    assert len(machine.extended()) == 3


@pytest.mark.parametrize(
    ("then", "told"),
    [
        ("echo TPM is broken >&2; exit 1", "systemd-pcrextend exited with 1: TPM is broken"),
        # As older versions do where the kernel was not started as a UKI.
        ("exit 0", "systemd-pcrextend did not change PCR 15"),
    ],
)
def test_a_failure(then: str, told: str, machine: Machine) -> None:
    """The rest is not measured; the boot goes on only if it may."""
    machine.tool(then)
    recorder = Recorder(quiet=True)
    assert measure(FACTS, config("auto"), recorder) is None
    assert recorder.warnings == [f"the boot is not measured: {told}"]
    with pytest.raises(LandingError) as caught:
        measure(FACTS, config("required"), recorder)
    assert caught.value.message == f"'bootc.trust.measure=required' cannot be met: {told}"
    assert len(machine.extended()) == 2


def test_a_pcr_that_cannot_be_read(machine: Machine) -> None:
    """The kernel asks the TPM for it."""
    machine.lose("pcr-sha256/15")
    (machine.where / "pcr-sha256/15").mkdir()
    recorder = Recorder(quiet=True)
    assert measure(FACTS, config("auto"), recorder) is None
    assert recorder.warnings == ["the boot is not measured: cannot read PCR 15: Is a directory"]
    with pytest.raises(LandingError, match="cannot read PCR 15"):
        measure(FACTS, config("required"), recorder)


def test_kernels_that_show_no_pcrs(machine: Machine) -> None:
    machine.lose("pcr-sha256/15")
    (machine.where / "pcr-sha256").rmdir()
    machine.tool("exit 0")
    assert measure(FACTS, config("auto"), Recorder(quiet=True)) is not None


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
