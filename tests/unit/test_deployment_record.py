"""The record of a deployment says all that it has to, or it is damaged."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.landing.disk.deployments import Deployment, Deployments

GOOD: Final = Deployment(7, "/a.oci", f"sha256:{'0' * 64}", "1" * 64, "2026-01-01", "6.12", verity=True)
FIELDS: Final[tuple[tuple[str, object], ...]] = (
    ("source", None),
    ("image", {}),
    ("image", "../x"),
    ("image", ""),
    ("root", "../../../etc/passwd"),
    ("root", "A" * 64),
    ("created", 1),
    ("kernel", ["6.12"]),
    ("verity", 1),
    ("trust", []),
    ("arguments", "quiet"),
    ("layers", [1]),
    ("boot_layers", ["a/b"]),
    ("slot", "../a"),
    ("blocks", -1),
)


@pytest.fixture
def disk(tmp_path: Path) -> Deployments:
    made = Deployments(str(tmp_path))
    made.make()
    with made.adding(GOOD):
        pass
    return made


def record(disk: Deployments) -> Path:
    return Path(disk.top) / "deployments/7/deployment.json"


def test_record_that_was_written(disk: Deployments) -> None:
    assert (disk.read(7), disk.damaged(), disk.is_lost(7)) == (GOOD, [], False)


@pytest.mark.parametrize(("name", "value"), FIELDS)
def test_field_of_another_kind(name: str, value: object, disk: Deployments) -> None:
    record(disk).write_text(json.dumps({**asdict(GOOD), name: value}))
    with pytest.raises(LandingError, match=f"the record of deployment 7 is damaged: .*{name}|whole number"):
        disk.read(7)
    assert (disk.all(), disk.damaged(), disk.is_lost(7)) == ([], [7], True)


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 100_000, "NaN", "\xff" * 2**23])
def test_content_of_another_kind(content: str, disk: Deployments) -> None:
    record(disk).write_text(content, encoding="latin-1")
    with pytest.raises(LandingError, match="the record of deployment 7 is damaged"):
        disk.read(7)
    assert disk.is_lost(7)


def test_record_that_cannot_be_read_may_be_whole(disk: Deployments) -> None:
    path = record(disk)
    path.rename(path.with_name("other"))
    path.symlink_to("other")
    assert (disk.damaged(), disk.is_lost(7)) == ([7], False)


def test_numbers_have_one_spelling(disk: Deployments) -> None:
    names = ("007", "0", "9" * 26, "\u0663", "x")
    for name in names:
        (Path(disk.top) / "deployments" / name).mkdir()
    assert (disk.damaged(), disk.next_number()) == ([], 8)
    assert {Path(path).name for path in disk.strange()} == set(names)
