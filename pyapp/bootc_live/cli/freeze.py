"""``bootc-live freeze``: write byte code beside the program, or program and library into the root of an initramfs."""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from contextlib import suppress

from bootc_live.base.errors import ConfigError
from bootc_live.base.installed import FEATURES as FEATURES_FILE
from bootc_live.base.installed import TOP
from bootc_live.base.output import print_results
from bootc_live.freeze.modules import FEATURES, dataclass_texts, loaded_modules
from bootc_live.freeze.write import write_beside, write_modules


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; print what was written, or the binaries (interpreter, extension modules) that are to be copied."""
    root: str | None = arguments.root
    archive = os.path.realpath(sys.argv[0])
    unknown = set(arguments.feature) - set(FEATURES)
    if unknown:
        raise ConfigError(f"unknown feature {min(unknown)!r}", hint=f"use one of: {', '.join(FEATURES)}")
    if root is not None and not os.path.isdir(root):
        raise ConfigError(f"{root!r} is not a directory", hint="name the root directory of the initramfs")
    if not zipfile.is_zipfile(archive):
        raise ConfigError("freeze works only from the zipapp", hint="run build/bootc-live.pyz freeze DIR")
    if root is None:
        print_results([_write_beside(archive)])
        return 0
    # Decompressors run as nobody and must be able to read the library.
    os.umask(0o022)
    modules, texts = loaded_modules(archive, _all_features(root, set(arguments.feature)))
    binaries = write_modules(root, archive, modules, texts)
    interpreter = os.path.realpath(sys.executable)
    _link(interpreter, os.path.join(root, TOP.lstrip("/"), "python"))
    print_results(sorted({interpreter, *binaries}))
    return 0


def _write_beside(archive: str) -> str:
    try:
        return write_beside(archive, dataclass_texts(archive))
    except OSError as error:
        raise ConfigError(
            f"{os.path.dirname(archive)!r} cannot get the byte code: {error.strerror}",
            hint="run it as the owner of that directory; the program works without it, too",
        ) from error


def _link(target: str, path: str) -> None:
    """Create a link to the interpreter, whose own name differs between systems."""
    with suppress(FileExistsError):
        os.symlink(target, path)


def _all_features(root: str, features: set[str]) -> set[str]:
    """Return the features with those of earlier calls, and record them: each dracut module passes only its own."""
    path = os.path.join(root, FEATURES_FILE.lstrip("/"))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        with open(path, encoding="ascii") as file:
            features |= set(file.read().split())
    with open(path, "w", encoding="ascii") as file:
        file.writelines(f"{feature}\n" for feature in sorted(features))
    return features
