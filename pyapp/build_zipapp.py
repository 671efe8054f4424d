#!/usr/bin/env python3
"""Builds build/bootc-live.pyz: the package bootc_live and its locked dependencies as one executable zip.

The result has the same bytes whatever Python (3.11 or newer) builds it: members are stored, sorted and
carry one fixed date and mode. Nothing compiled enters it, so it runs wherever Python runs.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import io
import os
import sys
import zipfile
from pathlib import Path, PurePosixPath

from wheelhouse import LOCK, PYAPP, ROOT, SHIMS, BuildError, Pin, locked_wheels, sha256_of

PACKAGE = PYAPP / "bootc_live"
SHEBANG = b"#!/usr/bin/env python3\n"
START = b"""\
import os
import signal
import stat
import sys
import zipimport

# Before there is anything to undo, an interrupt ends it without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.version_info < (3, 11):
    sys.exit("bootc-live needs Python 3.11 or newer; this is " + sys.version.split()[0])


def compiled():
    # What `bootc-live freeze` made of this very program: of the same time, and nobody else may write there.
    program = os.path.realpath(__loader__.archive)
    directory = os.path.join(os.path.dirname(program), "__pycache__")
    path = os.path.join(directory, f"{os.path.basename(program)}.{sys.implementation.cache_tag}")
    try:
        ours, *found = os.stat(program), os.lstat(directory), os.lstat(path)
        kinds = [stat.S_IFMT(each.st_mode) for each in found]
        if (
            kinds == [stat.S_IFDIR, stat.S_IFREG]
            and all(each.st_uid == ours.st_uid and not each.st_mode & 0o022 for each in found)
            and found[1].st_mtime_ns == ours.st_mtime_ns
        ):
            loader = zipimport.zipimporter(path)
            return loader, loader.get_code("__main__")
    except (OSError, ImportError):
        pass
    return None


# Freezing needs the sources.
found = None if sys.flags.dont_write_bytecode or sys.argv[1:2] == ["freeze"] else compiled()
if found:
    sys.path.insert(0, found[0].archive)
    exec(found[1], {"__name__": "__main__", "__loader__": found[0]})
else:
    from bootc_live.__main__ import main

    sys.exit(main())
"""

# The earliest date a zip can hold.
_DATE = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644
_UNIX = 3

_DROPPED = ("*/tests/*", "*/benchmarks/*", "*/__pycache__/*", "*.pyc", "*.pyi", "*/py.typed")
# PyYAML works without its libyaml binding, which is the one compiled file of any locked wheel.
_OPTIONAL_BINDING = ("yaml/_yaml.*.so", "yaml/cyaml.py", "_yaml/*")
# urllib3 in web browsers.
_ELSEWHERE = ("urllib3/contrib/emscripten/*",)
_COMPILED = (".so", ".pyd", ".dylib", ".dll", ".pyc", ".a", ".o")
_LICENCE = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "AUTHORS*")

Members = dict[str, bytes]


def collect(wheels: dict[Pin, Path]) -> Members:
    """The members of the zip by name: start script, package, shims, dependencies, licence texts.

    Raises BuildError when two of them claim one name or something compiled is among them.
    """
    members: Members = {"__main__.py": START, "LICENSE": (ROOT / "LICENSE").read_bytes()}
    shims = _tree(SHIMS, SHIMS)
    sources = [("bootc_live", _tree(PACKAGE, PYAPP)), ("shims", shims)]
    for pin, path in wheels.items():
        wheel = _wheel(pin, path)
        sources.append((pin.name, {name: content for name, content in wheel.items() if name not in shims}))
    for origin, files in sources:
        for name, content in files.items():
            if name in members:
                raise BuildError(f"{origin} brings {name}, which the zip has already")
            if name.endswith(_COMPILED) or content.startswith(b"\x7fELF"):
                raise BuildError(f"{origin} brings the compiled file {name}; only sources may enter the zip")
            members[name] = content
    return members


def write_zip(members: Members, output: Path) -> None:
    """Writes the members as an executable zip at `output`, which is replaced whole or left as it was."""
    packed = io.BytesIO()
    packed.write(SHEBANG)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = _UNIX
            info.external_attr = _FILE_MODE << 16
            archive.writestr(info, members[name])
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        partial.write_bytes(packed.getvalue())
        partial.chmod(0o755)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def build(output: Path) -> bool:
    """Brings `output` up to date; true if it had to be written.

    Beside it, `<output>.inputs` records the hash of everything it was made from and its own.
    Raises BuildError.
    """
    if not (PACKAGE / "__main__.py").exists():
        raise BuildError(f"{PACKAGE} has no __main__.py: is this a complete source tree?")
    record = output.with_name(output.name + ".inputs")
    inputs = _inputs_hash()
    if output.exists() and record.exists() and record.read_text() == f"{inputs} {sha256_of(output)}\n":
        return False
    write_zip(collect(locked_wheels()), output)
    record.write_text(f"{inputs} {sha256_of(output)}\n")
    return True


def main() -> int:
    """Builds as told by the command line; gives the exit status."""
    parser = argparse.ArgumentParser(description="Build the bootc-live zipapp; does nothing if it is up to date.")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bootc-live.pyz", help="file to write")
    output: Path = parser.parse_args().output
    try:
        written = build(output)
    except (BuildError, OSError) as error:
        print(f"build_zipapp.py: {error}", file=sys.stderr)
        return 1
    print(f"{output}: {'built' if written else 'up to date'}, {output.stat().st_size // 1024} KiB")
    return 0


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _tree(top: Path, base: Path) -> Members:
    files = (path for path in top.rglob("*") if path.is_file())
    named = {path.relative_to(base).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not _matches(name, _DROPPED)}


def _wheel(pin: Pin, wheel: Path) -> Members:
    members: Members = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if path.parts[0].endswith(".dist-info"):
                if _matches(path.name, _LICENCE):
                    members[f"licenses/{pin.name}-{pin.version}/{path.name}"] = archive.read(name)
            elif not name.endswith("/") and not _matches(name, (*_DROPPED, *_OPTIONAL_BINDING, *_ELSEWHERE)):
                members[name] = archive.read(name)
    if not any(name.startswith("licenses/") for name in members):
        raise BuildError(f"{wheel.name} holds no licence text under a known name")
    return members


def _inputs_hash() -> str:
    trees = _tree(PACKAGE, PYAPP) | _tree(SHIMS, PYAPP)
    files = (Path(__file__), PYAPP / "wheelhouse.py", LOCK, ROOT / "LICENSE")
    everything = trees | {path.name: path.read_bytes() for path in files}
    digest = hashlib.sha256()
    for name in sorted(everything):
        digest.update(f"{name}\0{len(everything[name])}\0".encode())
        digest.update(everything[name])
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
