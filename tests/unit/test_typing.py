"""What must not type-check does not: a root of an image that was not verified, a verified image made by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """\
from bootc_live.image.verified import ResolvedImage, VerifiedImage, VerifiedLayer
from bootc_live.image.fetch import fetch_layers
from bootc_live.image.resolve import resolve_image
from bootc_live.image.sink import DataFile
from bootc_live.image.store.layer_store import LayerStore
from bootc_live.base.log import Recorder
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.layouts.index.layout import index_root
from bootc_live.source.interface import Source

"""
GOOD = (
    HEAD
    + """\
def boot(source: Source, store: LayerStore) -> BuiltRoot:
    resolved = resolve_image(source)
    return index_root(fetch_layers(source, resolved, store, Recorder(), DataFile()))
"""
)
# Every marked line has to be an error of that kind, every other line none.
BAD = (
    HEAD
    + """\
def unverified(resolved: ResolvedImage) -> BuiltRoot:
    return index_root(resolved)  # arg-type

def a_path(path: str) -> BuiltRoot:
    return index_root(path)  # arg-type

def no_seal(resolved: ResolvedImage, layers: tuple[VerifiedLayer, ...]) -> VerifiedImage:
    return VerifiedImage(resolved, "data", layers)  # call-arg

def another_seal(resolved: ResolvedImage, layers: tuple[VerifiedLayer, ...]) -> VerifiedImage:
    return VerifiedImage(resolved, "data", layers, object())  # arg-type

def null_seal(resolved: ResolvedImage) -> VerifiedImage:
    return VerifiedImage(resolved, "data", (), None)  # arg-type

def a_layer() -> VerifiedLayer:
    return VerifiedLayer("sha256:0", 0, 0)  # call-arg

def changed(image: VerifiedImage) -> None:
    image.path = "other"  # misc

def skipped(source: Source, store: LayerStore) -> VerifiedImage:
    return fetch_layers(source, source.top(), store, Recorder(), DataFile())  # arg-type
"""
)


def complaints(repo: Path, source: Path) -> list[tuple[int, str]]:
    """(line, kind) of every error that mypy finds in the file, and in nothing else."""
    argv = [sys.executable, "-m", "mypy", "--config-file", str(repo / "pyproject.toml"), "--strict", str(source)]
    environment = dict(os.environ) | {"MYPY_FORCE_COLOR": "0"}
    done = subprocess.run(argv, cwd=repo, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE)
    assert {Path(path).name for path, _, _ in found} <= {source.name}, done.stdout
    assert bool(found) is bool(done.returncode), done.stdout
    return [(int(line), kind) for _, line, kind in found]


@pytest.mark.parametrize("sample", [GOOD, BAD], ids=["good", "bad"])
def test_sample(repo: Path, tmp_path: Path, sample: str) -> None:
    source = tmp_path / "sample.py"
    source.write_text(sample)
    lines = enumerate(sample.splitlines(), 1)
    marked = [(number, line.rpartition("# ")[2]) for number, line in lines if "  # " in line]
    assert complaints(repo, source) == marked
    assert len(marked) == (8 if sample is BAD else 0)


def test_a_seal_is_not_for_sale() -> None:
    """At run time too: nothing but the module itself holds one, and the class is not exported."""
    from bootc_live.image import verified

    public = {name for name in vars(verified) if not name.startswith("_")}
    assert not any(isinstance(vars(verified)[name], verified._Seal) for name in public)
    assert verified._Seal.__final__  # type: ignore[attr-defined]
