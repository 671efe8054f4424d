"""Fuzz a part of the program.

A fault ends the run: the input is shown, and stays in build/fuzz/TARGET. So do inputs that reach something new;
`--merge` takes them into the corpus.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.fuzz import corpus

_REPO: Final = Path(__file__).resolve().parents[2]
_BUILD: Final = _REPO / "build" / "fuzz"
# A hang, or memory that one input takes. The target itself looks at processor time, which is more exact.
_BOUNDS: Final = ("-timeout=300", "-rss_limit_mb=2048")
# Of a corpus; each ordinary run tries all of it first.
_MOST_INPUTS: Final = 200
_MOST_BYTES: Final = 200_000


def start(*arguments: str | Path, output: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run tests.fuzz.engine with some arguments."""
    argv = [sys.executable, "-m", "tests.fuzz.engine", *map(str, arguments)]
    # What is reached in which order depends on the order of sets, too.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        argv, cwd=_REPO, check=False, env=environment, text=True, stdout=output, stderr=subprocess.STDOUT
    )


def fuzz(
    name: str, seconds: int, found: Path, *, seed: int = 0, output: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Fuzz a target for some seconds, from its corpus and what was `found`, which takes what reaches something new.

    The same `seed` gives nearly the same inputs while neither the program nor the corpus changes; 0 is one at random.
    """
    kept = _BUILD / name
    kept.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        seeds = Path(directory, "corpus")
        corpus.write(seeds, corpus.load(name))
        return start(
            "fuzz", name, str(seconds), str(seed), *_BOUNDS, f"-artifact_prefix={kept}/", found, seeds, output=output
        )


def merge(name: str) -> int:
    """Reduce the corpus and what was found to few inputs; returns an exit status.

    They reach the same lines. Inputs that reach lines more often than others are kept as far as there is room.
    """
    found = _BUILD / name / "found"
    with tempfile.TemporaryDirectory() as directory:
        seeds, lines, counts = (Path(directory, part) for part in ("corpus", "lines", "counts"))
        corpus.write(seeds, [*corpus.load(name), *(corpus.read(found) if found.exists() else [])])
        for merged, options in ((lines, ["-use_counters=0"]), (counts, [])):
            merged.mkdir()
            done = start("fuzz", name, "0", "0", *_BOUNDS, "-merge=1", *options, merged, seeds)
            if done.returncode:
                return done.returncode
        kept = corpus.read(lines)
        for data in sorted(set(corpus.read(counts)) - set(kept), key=len):
            if len(kept) < _MOST_INPUTS and sum(map(len, kept)) + len(data) <= _MOST_BYTES:
                kept.append(data)
    if not kept:
        return 1
    corpus.store(name, kept)
    return 0


def main(argv: list[str]) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("target", help="its name in tests/fuzz/targets.py")
    parser.add_argument("--seconds", type=int, default=600, help="how long to look for faults (default: 600)")
    parser.add_argument("--merge", action="store_true", help="take what was found into the corpus, and reduce that")
    parser.add_argument("files", nargs="*", help="inputs to try instead")
    asked = parser.parse_args(argv)
    if asked.merge:
        return merge(asked.target)
    if asked.files:
        return start("feed", asked.target, *(Path(file).resolve() for file in asked.files)).returncode
    return fuzz(asked.target, asked.seconds, _BUILD / asked.target / "found").returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
