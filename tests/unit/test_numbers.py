"""Numbers from outside: ASCII digits, bounded length and value."""

from __future__ import annotations

import pytest

from bootc_live.base.numbers import LARGEST_SIZE, bounded_integer, decimal


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("7", 7), ("0007", 7), (b"120", 120), (str(LARGEST_SIZE), LARGEST_SIZE), ("0" * 60 + "42", 42)],
)
def test_digits_are_a_number(text: str | bytes, value: int) -> None:
    assert decimal(text, limit=LARGEST_SIZE) == value


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            " 7",
            "7 ",
            "+7",
            "-7",
            "-0",
            "7\n",
            "1_0",
            "0o7",
            "0x7",
            "7.0",
            "7e1",
            "²",
            "٣",
            "７",
            "1\x00",
            "\udcff",
        ],
        *[str(LARGEST_SIZE + 1), "1" + "0" * 400, "9" * 5000, "0" * 65 + "1", b"", b"\xb2", b"7 ", b"-1", b"9" * 5000],
    ],
)
def test_all_else_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        decimal(text, limit=LARGEST_SIZE)


def test_a_limit_is_the_last_number() -> None:
    assert decimal("600", limit=600) == 600
    with pytest.raises(ValueError, match="600"):
        decimal("601", limit=600)


@pytest.mark.parametrize("value", [True, None, 1.0, "1", -1, 10**400, float("inf"), float("nan"), [], {}])
def test_a_number_in_json_is_whole_and_bounded(value: object) -> None:
    with pytest.raises(ValueError, match="whole"):
        bounded_integer(value, limit=LARGEST_SIZE)


def test_a_fit_number_in_json_is_returned() -> None:
    assert [bounded_integer(value, limit=5) for value in (0, 5)] == [0, 5]
