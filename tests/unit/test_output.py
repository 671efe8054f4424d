"""Text that leaves the program: one line, harmless to a terminal, bounded."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from bootc_live.base import output
from bootc_live.base.log import Recorder
from bootc_live.base.output import (
    LONGEST,
    append_message,
    one_line,
    print_details,
    print_json,
    print_message,
    print_results,
)

# What a terminal acts on, or what ends a line for some reader.
HARMFUL = [
    *map(chr, (*range(32), *range(127, 160))),
    *"\u2028\u2029\u202a\u202e\u2066\u2069\u200e\u200b\ufeff\ufffe\u00ad\udcff\ud800",
]


@pytest.mark.parametrize("character", HARMFUL, ids=lambda character: f"{ord(character):x}")
def test_escaped(character: str) -> None:
    shown = one_line(f"a{character}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.startswith("a\\")
    assert shown.endswith("b")
    assert one_line(shown) == shown


@pytest.mark.parametrize("text", ["", "plain", "18,4 °C … × ü 漢字 ε", "a\\nb", "C:\\x"])
def test_left_alone(text: str) -> None:
    assert one_line(text) == text


def test_every_character_that_stays_is_for_reading() -> None:
    stays = {chr(code) for code in range(0x30000) if one_line(chr(code)) == chr(code)}
    assert {unicodedata.category(character)[0] for character in stays} <= set("LMNPSZ")
    assert [character for character in stays if character.isspace()] == [" "]


@pytest.mark.parametrize("piece", ["a", "\x1b", "\U000e0001", "漢"])
def test_bounded(piece: str) -> None:
    shown = one_line(piece * 10**6)
    assert len(shown) == LONGEST
    assert shown.endswith("(cut)")
    assert one_line(shown) == shown


FORGED = "a\x1b[2J\nFORGED: b\r\x9b\x7f"


def _held(written: str, lines: int) -> None:
    assert "\x1b" not in written
    assert "\x7f" not in written
    assert len(written.splitlines()) == written.count("\n") == lines


def test_every_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    recorder.say(FORGED)
    recorder.warn(FORGED)
    print_message(FORGED)
    print_details([FORGED, "b"])
    _held(capsys.readouterr().err, 5)
    assert recorder.warnings == [one_line(FORGED)]
    print_results([FORGED, "b"])
    _held(capsys.readouterr().out, 2)
    print_json({FORGED: FORGED})
    shown = capsys.readouterr().out
    _held(shown, 3)
    assert json.loads(shown) == {FORGED: FORGED}


def test_files_get_the_same_line(tmp_path: Path) -> None:
    append_message(str(tmp_path / "errors"), FORGED)
    append_message(str(tmp_path / "errors"), "b")
    assert (tmp_path / "errors").read_text() == f"bootc-live: {one_line(FORGED)}\nbootc-live: b\n"


def test_a_long_line_is_several_records_of_the_kernel_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "kmsg"
    monkeypatch.setattr(output, "_KERNEL_LOG", str(log))
    append_message(str(log), "word " * 500)
    records = log.read_bytes().splitlines()
    assert [len(record) <= 903 for record in records] == [True] * 3
    assert all(record.startswith(b"<3>") for record in records)
    assert b"".join(record[3:] for record in records) == b"bootc-live: " + b"word " * 500
