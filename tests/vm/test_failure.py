"""Boots that must fail: one clear error on the console, no system, no hang."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Stage
from tests.vm.rows import FAILURES, Row
from vmkit.guest import GuestError

SECONDS = 300


@pytest.mark.parametrize("row", FAILURES, ids=str)
def test_says_what_failed_and_powers_off(row: Row, stage: Stage) -> None:
    with stage.guest(row) as guest:
        guest.wait_exit(SECONDS)
        console = guest.console()
        with pytest.raises(GuestError):
            guest.wait_ready(1)
    for part in row.error or ():
        assert stage.fill(part) in console
    assert "Switching root" not in console
    assert "Traceback" not in console
