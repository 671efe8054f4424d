"""All mutations; tests/lint sees to it that each still fits the product."""

from __future__ import annotations

from tests.mutants.back import BACK
from tests.mutants.front import FRONT

MUTATIONS = (*FRONT, *BACK)
