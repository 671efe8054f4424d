"""Make the small root of the first process: Python, as it runs here, and what it has to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import bootc_live
from bootc_live.base.errors import LandingError, RunError
from bootc_live.base.paths import directory_below
from bootc_live.landing.pivot.first.main import CHECK, IMAGE
from bootc_live.landing.pivot.first.places import PLACES
from bootc_live.landing.pivot.first.settings import FILE, INIT, FirstSettings
from bootc_live.landing.pivot.program import interpreter_of
from bootc_live.system.mounts import attach_tree, mount_tree, mounted
from bootc_live.system.run import run

_OURS = "/usr/lib/bootc-live"
_HINT = "use an image with systemd, which needs none of this machine's programs to start"
# Links of a system whose programs and libraries are all below /usr.
_LINKS = ("bin", "lib", "lib32", "lib64", "sbin")
_MODE = 0o755
# Prints, for a new interpreter, its modules by their files, and the programs and libraries that the kernel has mapped.
_LIST = """
import sys
sys.path.insert(0, sys.argv[1])
import bootc_live.landing.pivot.first.main
found = dict(sys.modules)
with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
    mapped = {line.rstrip("\\n").split(maxsplit=5)[5] for line in file if "r-xp" in line and "/" in line}
import json
modules = []
for name, module in found.items():
    path, spec = getattr(module, "__file__", None), getattr(module, "__spec__", None)
    # It finds the directory of its library by that of os. What is frozen has byte code only.
    if path and path.endswith((".py", ".pyc")) and spec is not None and (spec.origin != "frozen" or name == "os"):
        read = getattr(module.__loader__, "get_data", lambda path: open(path, "rb").read())
        modules.append([name, path, hasattr(module, "__path__"), read(path).decode("latin-1")])
print(json.dumps([modules, sorted(mapped)]))
"""
_START = """\
#!{python} -ISB
import sys
sys.path.insert(0, "{ours}")
from bootc_live.landing.pivot.first.main import main
main()
"""


@contextmanager
def small_root(image: str, place: str, settings: FirstSettings) -> Iterator[str]:
    """Mount a small root for the block, with the mounted tree ``image`` in it; ``place`` is a new directory.

    Yield its path. Raise LandingError if Python does not start there.
    """
    os.mkdir(place)
    with mounted("tmpfs", "tmpfs", place, "mode=755", hint=_HINT):
        try:
            _fill(place, settings)
            run(["chroot", place, INIT, CHECK])
        except (OSError, RunError) as error:
            problem = error.message if isinstance(error, RunError) else str(error)
            raise LandingError(f"Python cannot be the first process: {problem}", hint=_HINT) from error
        tree = mount_tree(image)
        try:
            attach_tree(tree, place + IMAGE)
        finally:
            os.close(tree)
        yield place


def _fill(root: str, settings: FirstSettings) -> None:
    for name in _LINKS:
        if os.path.islink(f"/{name}"):
            directory_below(root, os.readlink(f"/{name}").strip("/"))
            os.symlink(os.readlink(f"/{name}").lstrip("/"), os.path.join(root, name))
    for name in (*PLACES, IMAGE.strip("/"), "etc"):
        os.mkdir(os.path.join(root, name), _MODE)
    interpreter = os.path.realpath(sys.executable)
    modules, mapped = _loaded()
    for path in (*mapped, interpreter):
        _copy(path, root)
    with open(interpreter, "rb") as file:
        loader = interpreter_of(file.read(4096))
    if loader is not None:
        _copy(loader, root)
    for path, content in modules.items():
        _write(root, path, content)
    # systemd takes nothing for a root that lacks it.
    _write(root, "/etc/os-release", b'ID=bootc-live\nNAME="bootc-live"\n')
    _write(root, FILE, os.fsencode(settings.text()))
    _write(root, INIT, os.fsencode(_START.format(python=interpreter, ours=_OURS)), _MODE)


def _loaded() -> tuple[dict[str, bytes], list[str]]:
    """Return modules, by where they have to be, and the paths of programs and libraries; raise RunError."""
    # A late import: only here it is needed.
    import json

    archive = os.path.dirname(os.path.dirname(bootc_live.__file__))
    modules, mapped = json.loads(run([sys.executable, "-ISB", "-c", _LIST, archive]))
    found = {}
    for name, path, package, content in modules:
        ours = f"{_OURS}/{name.replace('.', '/')}{'/__init__' if package else ''}{os.path.splitext(path)[1]}"
        found[ours if name.partition(".")[0] == bootc_live.__name__ else path] = content.encode("latin-1")
    return found, mapped


def _copy(path: str, root: str) -> None:
    """Copy a program or library to the same place, with the links to it that are beside it; raise OSError."""
    directory, real = os.path.dirname(path), os.path.realpath(path)
    place = directory_below(root, directory.strip("/"), _MODE)
    target = os.path.join(place, os.path.basename(path))
    if not os.path.lexists(target):
        shutil.copyfile(real, target)
        os.chmod(target, _MODE)
    for name in os.listdir(directory):
        link = os.path.join(directory, name)
        if os.path.islink(link) and os.path.realpath(link) == real and not os.path.lexists(os.path.join(place, name)):
            os.symlink(os.path.basename(path), os.path.join(place, name))


def _write(root: str, path: str, content: bytes, mode: int = 0o644) -> None:
    place = directory_below(root, os.path.dirname(path).strip("/"), _MODE)
    target = os.path.join(place, os.path.basename(path))
    with open(target, "xb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
