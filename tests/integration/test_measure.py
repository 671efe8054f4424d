"""A boot that has to be measured, where it cannot be; and a TPM that is told the same by us and by systemd."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bootc_live.system.devices import tpm
from tests.lib.program import Program
from tests.lib.tpm import emulated_tpm

# systemd shortens longer texts in its log.
TEXTS = ("bootc-live:image:sha256:1", "bootc-live:cmdline:" + "x" * 900)
PCREXTEND = "/usr/lib/systemd/systemd-pcrextend"


def test_what_is_required_and_cannot_be_done_ends_the_boot(zipapp: Path, small: Path, tmp_path: Path) -> None:
    """Before anything is looked up."""
    (tmp_path / "root").mkdir()
    kargs = f"root=bootc-live:{small} bootc.trust.measure=required"
    ended = Program(zipapp).run(
        "boot", "--cmdline", kargs, "--sysroot", tmp_path / "root", "--receipt", tmp_path / "receipt"
    )
    ended.error("'bootc.trust.measure=required' cannot be met: this machine has no TPM 2.0")
    assert "looking up" not in ended.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["root"]


def values(device: str) -> bytes:
    """What TPM2_PCR_Read says of PCR 15 in three banks, without the counter of updates."""
    banks = b"".join(bytes.fromhex(f"{bank} 03 008000") for bank in ("000b", "000c", "000d"))
    body = len(banks) // 6
    command = bytes.fromhex("8001") + (14 + len(banks)).to_bytes(4, "big") + bytes.fromhex("0000017e")
    fd = os.open(device, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(fd, command + body.to_bytes(4, "big") + banks)
        answer = os.read(fd, 4096)
    finally:
        os.close(fd)
    assert answer[6:10] == bytes(4)
    return answer[14:]


def records(log: Path) -> list[dict[str, Any]]:
    """The records of an event log, without times."""
    found = [json.loads(text) for text in log.read_text().split("\x1e")[1:]]
    for record in found:
        del record["content"]["timestamp"]
    return found


def test_a_tpm_is_told_the_same_as_by_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = {who: tmp_path / who / "tpm2-measure.log" for who in ("ours", "systemd")}
    seen = {}
    for who, log in logs.items():
        log.parent.mkdir()
        with emulated_tpm(tmp_path / f"{who}-state") as device:
            before = values(device)
            for text in TEXTS:
                if who == "ours":
                    monkeypatch.setattr(tpm, "_DEVICE", device)
                    monkeypatch.setattr(tpm, "_LOG", str(log))
                    tpm.extend(15, text)
                else:
                    subprocess.run(
                        [PCREXTEND, f"--tpm2-device=device:{device}", "--pcr=15", text],
                        env={"SYSTEMD_FORCE_MEASURE": "1", "SYSTEMD_MEASURE_LOG_USERSPACE": str(log)},
                        check=True,
                    )
            seen[who] = values(device)
            assert seen[who] != before
    assert seen["ours"] == seen["systemd"]
    assert records(logs["ours"]) == records(logs["systemd"])
    assert logs["ours"].stat().st_mode == logs["systemd"].stat().st_mode
