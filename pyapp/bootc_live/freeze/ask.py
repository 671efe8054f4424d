"""Ask the program which modules it loads, by loading them in an interpreter of its own.

A hand-kept list would go stale; static analysis would take in half the standard
library. What is loaded only on use is used once.
"""

from __future__ import annotations

import ast
import json
import pkgutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

import bootc_live
from bootc_live.system.run import run

FEATURES = ("net", "registry")
# Packages and modules of ours that only a feature needs; without it their libraries stay out.
_ONLY_FOR = {
    "bootc_live.source.http": "net",
    "bootc_live.source.registry": "registry",
    "bootc_live.config.host.registries": "registry",
}
# What a feature cannot do without.
_NEEDS = {"registry": ("net",)}
# What makes an initramfs is not needed inside one, nor is what imports it.
_PACKER = "bootc_live.freeze"
_LIBRARIES = {"registry": ("oras.provider",)}

# Runs with nothing imported but what the interpreter starts with.
_CHILD = """
import sys
archive, network, *names = sys.argv[1:]
sys.path.insert(0, archive)
for name in names:
    __import__(name)
# What the interpreter itself needs to run a zip.
import runpy
import hashlib
for algorithm in ("sha256", "sha512"):
    hashlib.new(algorithm, b"x").hexdigest()
from bootc_live.system.run import run
run(["true"])
import codecs
for encoding in ("ascii", "latin-1", "unicode_escape", "utf-8"):
    codecs.lookup(encoding)
try:
    # Decompresses layers where the program zstd is not there.
    import compression.zstd
except ImportError:
    pass
if network == "yes":
    import http.client, socket, ssl
    socket.getaddrinfo("127.0.0.1", 443)
    ssl.create_default_context()
    "registry.example".encode("idna")
found = []
for name, module in sorted(sys.modules.items()):
    spec = getattr(module, "__spec__", None)
    path = getattr(module, "__file__", None)
    if path and name != "__main__" and spec is not None:
        found.append([spec.name, path, hasattr(module, "__path__")])
import json
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Module:
    """A loaded module: its name, the file or zip member it came from, and whether it is a package."""

    name: str
    path: str
    package: bool


def loaded_modules(archive: str, features: Iterable[str]) -> list[Module]:
    """Give the modules that are loaded once everything for the features is; sorted by name.

    ``archive`` is the zipapp, or the directory the package lies in. Raises
    RunError where one of them cannot be imported.
    """
    wanted = {needed for feature in features for needed in (feature, *_NEEDS.get(feature, ()))}
    names = sorted(set(_own_modules(wanted)) | {name for feature in wanted for name in _LIBRARIES.get(feature, ())})
    network = "yes" if "net" in wanted else "no"
    argv = [sys.executable, "-ISB", "-c", _CHILD, archive, network, *names]
    answer = json.loads(run(argv, hint="run bootc-live --version with this Python"))
    return [Module(str(name), str(path), bool(package)) for name, path, package in answer]


def _own_modules(features: set[str]) -> list[str]:
    names = []
    for info in pkgutil.walk_packages(bootc_live.__path__, "bootc_live."):
        imported = list(_imports(info.name))
        if _wanted(info.name, features) and not any(name.startswith(_PACKER) for name in imported):
            names.append(info.name)
            names += [name for name in imported if _wanted(name, features)]
    return names


def _wanted(name: str, features: set[str]) -> bool:
    needed = {feature for top, feature in _ONLY_FOR.items() if f"{name}.".startswith(f"{top}.")}
    return not name.startswith(_PACKER) and needed <= features


def _imports(name: str) -> Iterable[str]:
    """Give what a module of ours imports anywhere, inside functions too."""
    spec = find_spec(name)
    get_source = getattr(spec.loader if spec else None, "get_source", None)
    for node in ast.walk(ast.parse(get_source(name) if get_source else "")):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
