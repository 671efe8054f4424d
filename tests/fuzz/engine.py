"""The process that feeds one target; atheris ends it. Use tests.fuzz.run, which starts it.

python -m tests.fuzz.engine fuzz TARGET SECONDS SEED ARGUMENT-OF-LIBFUZZER...     a SEED of 0 is one at random
python -m tests.fuzz.engine feed TARGET FILE...
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz import corpus

if TYPE_CHECKING:
    from tests.fuzz.target import Target

_REPO = Path(__file__).resolve().parents[2]


def published() -> bool:
    """Tell whether there is an atheris for this Python: what tests/requirements.in says of it."""
    return (
        sys.implementation.name == "cpython"
        and sys.platform == "linux"
        and platform.machine() == "x86_64"
        and sys.version_info < (3, 15)
    )


def _target(name: str) -> Target:
    from tests.fuzz.targets import AWAKE, TARGETS

    return AWAKE if name == AWAKE.name else TARGETS[name]


def _guided(name: str, seconds: int, seed: int, arguments: list[str]) -> None:
    """Fuzz by coverage of the program's own modules; does not come back."""
    # By name, for there are Pythons without it.
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["bootc_live"]):
        target = _target(name)
    options = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={target.largest}", *_words(target)]
    # libFuzzer starts itself anew to merge: by the first of these, with the others behind it.
    itself = f"{shlex.quote(sys.executable)} -m tests.fuzz.engine fuzz {name} {seconds} {seed}"
    atheris.Setup([itself, *options, *arguments], target.feed)
    atheris.Fuzz()


def _words(target: Target) -> list[str]:
    """Return the option that names the file of a target's words."""
    if not target.words:
        return []
    path = _REPO / "build" / "fuzz" / f"{target.name}.words"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another process may be reading it.
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words))
    new.replace(path)
    return [f"-dict={path}"]


def _unguided(name: str, seconds: int, seed: int) -> None:
    from tests.fuzz.plain import fuzz

    seed = seed or int.from_bytes(os.urandom(4), "big")
    print(f"{name}: atheris is not there: inputs change without coverage, with the seed {seed}", flush=True)
    print(f"{name}: {fuzz(_target(name), corpus.load(name), seconds, seed)} inputs")


def main(argv: list[str]) -> None:
    """Do what the arguments say."""
    sys.path[:0] = [str(_REPO / "pyapp"), str(_REPO)]
    # The libraries that the program bundles.
    sys.path.append(str(_REPO / "build" / "bootc-live.pyz"))
    what, name, *rest = argv
    if what == "feed":
        for path in rest:
            _target(name).feed(Path(path).read_bytes())
    elif importlib.util.find_spec("atheris") is None:
        _unguided(name, int(rest[0]), int(rest[1]))
    else:
        _guided(name, int(rest[0]), int(rest[1]), rest[2:])


if __name__ == "__main__":
    main(sys.argv[1:])
