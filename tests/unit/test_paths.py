"""Links followed as if a directory were the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bootc_live.base.paths import resolve_below


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with links of every kind, and a file outside of it."""
    top = tmp_path / "root"
    (top / "images/old").mkdir(parents=True)
    (top / "images/os.oci").write_text("inside")
    (tmp_path / "os.oci").write_text("outside")
    for name, target in {
        "absolute": "/images/os.oci",
        "relative": "images/./os.oci",
        "above": "../../../images/os.oci",
        "images/old/up": "../os.oci",
        "directory": "/images",
        "chain": "directory/old/up",
        "escape": "../os.oci",
        "round": "round",
        "first": "second",
        "second": "first",
        "nowhere": "/missing",
        "top": "/",
    }.items():
        (top / name).symlink_to(target)
    return top


@pytest.mark.parametrize(
    "name",
    [
        "/images/os.oci",
        "images//os.oci",
        "/absolute",
        "/relative",
        "/above",
        "/images/old/up",
        "/directory/os.oci",
        "/chain",
        "/../../images/os.oci",
        "/top/top/images/os.oci",
    ],
)
def test_inside(name: str, root: Path) -> None:
    found = resolve_below(str(root), name)
    assert found is not None
    assert Path(found).read_text() == "inside"


@pytest.mark.parametrize("name", ["/escape", "/round", "/first", "/nowhere", "/missing", "/images/os.oci/x"])
def test_nothing(name: str, root: Path) -> None:
    assert resolve_below(str(root), name) is None


def test_the_root_itself(root: Path) -> None:
    for name in ("/", "", "/..", "/top", "/images/.."):
        found = resolve_below(str(root), name)
        assert found is not None
        assert os.path.samefile(found, root)
