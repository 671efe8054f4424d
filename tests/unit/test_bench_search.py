"""The search for the smallest machine."""

from __future__ import annotations

import pytest

from tests.lib.bench_search import smallest


@pytest.mark.parametrize("guess", [0, 192, 300, 480, 496, 512, 1024, 5000])
@pytest.mark.parametrize("truth", [208, 320, 496, 512, 1008, 1024])
def test_finds_it_and_has_tried_what_is_below(truth: int, guess: int) -> None:
    tried: list[int] = []

    def does(number: int) -> bool:
        tried.append(number)
        return number >= truth

    assert smallest(does, guess, 16, 192, 1024) == truth
    assert truth - 16 in (*tried, 192)
    assert truth in (*tried, 1024)
    assert len(tried) == len(set(tried)) <= 12
    assert all(192 < number < 1024 for number in tried)


def test_a_good_guess_takes_two_trials() -> None:
    tried: list[int] = []

    def does(number: int) -> bool:
        tried.append(number)
        return number >= 496

    assert smallest(does, 496, 16, 192, 1024) == 496
    assert tried == [496, 480]
