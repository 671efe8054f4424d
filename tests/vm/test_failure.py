"""Boots that must fail: one clear error on the console, no system, no hang."""

from __future__ import annotations

import pytest

from tests.vm.conftest import Stage
from tests.vm.kinds import Kind, boots
from tests.vm.rows import FAILURES, Row
from vmkit.base import GuestError

SECONDS = 300


@pytest.mark.parametrize("asked", list(boots(FAILURES)))
def test_says_what_failed_and_powers_off(asked: tuple[Row, Kind], stage: Stage) -> None:
    row, kind = asked
    with stage.guest(row, kind) as guest:
        guest.wait_exit(SECONDS)
        console = guest.console()
        with pytest.raises(GuestError):
            guest.wait_ready(1)
    for part in row.error or ():
        assert stage.fill(part) in console
    assert "Switching root" not in console
    assert "Traceback" not in console
