"""The table of mutations fits the product and the tests."""

from __future__ import annotations

import pytest

from tests.mutants.mutation import REPO, Mutation
from tests.mutants.run import STAGES
from tests.mutants.table import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_row_applies(mutation: Mutation) -> None:
    text = mutation.applied()
    if mutation.file.endswith(".py"):
        # What cannot even be imported is no mistake that a test has to find.
        compile(text, mutation.file, "exec")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_row_names_a_test_of_its_stage(mutation: Mutation) -> None:
    assert mutation.stage in STAGES
    if mutation.caught_by is not None:
        path, _, test = mutation.caught_by.partition("::")
        assert path.startswith(f"tests/{mutation.stage}/")
        assert f"def {test.partition('[')[0]}" in (REPO / path).read_text(encoding="utf-8")


def test_rows_are_sixty_with_names_of_their_own() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 60
