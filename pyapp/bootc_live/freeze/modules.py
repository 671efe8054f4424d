"""Find the modules that the program needs, by loading them in a new interpreter.

A static list would become outdated, and static analysis would find half of the standard library. Modules that are
loaded on use are used once.
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
# Our packages and modules that only one feature needs.
_ONLY_FOR = {
    "bootc_live.source.http": "net",
    "bootc_live.source.registry": "registry",
    "bootc_live.config.host.registries": "registry",
}
# Features that a feature needs.
_NEEDS = {"registry": ("net",)}
# Neither this package nor modules that import it are needed in an initramfs.
_PACKER = "bootc_live.freeze"
# What only verbs for running systems need.
_NOT_PACKED = (
    *("cli.build", "cli.guest", "cli.pivot", "cli.prune", "image.layered", "source.rootfs"),
    *("cli.disk", "cli.install", "disk", "landing.disk.", "system.devices.partitions"),
    *("rootfs.layouts.composefs.layout", "rootfs.layouts.composefs.check", "rootfs.layouts.composefs.layers"),
    "rootfs.layouts.erofs.merged",
    *("config.guest", "landing.guest", "landing.pivot", "landing.surroundings", "system.network"),
    *(
        "cli.options.cache",
        "cli.options.config_file",
        "source.cache",
        "artifacts.oci_image",
        "artifacts.published",
        "artifacts.rootfs_tar",
        "formats.tar.writer",
        "system.inflate.xz",
        "system.namespaces",
    ),
)
# What boots a root on a disk.
_PACKED = ("landing.disk.deployments", "landing.disk.root")
_LIBRARIES = {"registry": ("oras.provider",)}

# Runs in an interpreter that has imported only its own start modules.
_CHILD = """
import sys
archive, network, *names = sys.argv[1:]
sys.path.insert(0, archive)
import dataclasses
texts = []
def execute(text, *scopes):
    texts.append(text)
    exec(text, *scopes)
dataclasses.exec = execute
for name in names:
    __import__(name)
# The interpreter needs it to run a zip.
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
    # Decompresses layers without the program zstd.
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
    # What is frozen into the interpreter is not read from a file; it finds the directory of the library by that of os.
    if path and name != "__main__" and spec is not None and (spec.origin != "frozen" or name == "os"):
        found.append([spec.name, path, hasattr(module, "__path__")])
import json
print(json.dumps([found, texts]))
"""


@dataclass(frozen=True)
class Module:
    """A loaded module with its file or zip member."""

    name: str
    path: str
    package: bool


def loaded_modules(archive: str, features: Iterable[str]) -> tuple[list[Module], set[str]]:
    """Return the modules that features need, sorted by name, and the texts that dataclass() compiles in them.

    ``archive`` is the zipapp, or the directory that contains the package. Raises RunError if one cannot be imported.
    """
    wanted = {needed for feature in features for needed in (feature, *_NEEDS.get(feature, ()))}
    names = sorted(set(_own_modules(wanted)) | {name for feature in wanted for name in _LIBRARIES.get(feature, ())})
    network = "yes" if "net" in wanted else "no"
    argv = [sys.executable, "-ISB", "-c", _CHILD, archive, network, *names]
    found, texts = json.loads(run(argv, hint="run bootc-live --version with this Python"))
    return [Module(str(name), str(path), bool(package)) for name, path, package in found], set(texts)


def dataclass_texts(archive: str) -> set[str]:
    """Return the texts that dataclass() compiles in all modules of the package. Raises RunError."""
    names = [info.name for info in pkgutil.walk_packages(bootc_live.__path__, "bootc_live.")]
    argv = [sys.executable, "-ISB", "-c", _CHILD, archive, "no", *names]
    return set(json.loads(run(argv, hint="run bootc-live --version with this Python"))[1])


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
    left_out = name.startswith((_PACKER, *(f"{bootc_live.__name__}.{part}" for part in _NOT_PACKED)))
    return needed <= features and (not left_out or name.removeprefix(f"{bootc_live.__name__}.") in _PACKED)


def _imports(name: str) -> Iterable[str]:
    """Yield all imports of one of our modules, also those inside functions."""
    spec = find_spec(name)
    get_source = getattr(spec.loader if spec else None, "get_source", None)
    for node in ast.walk(ast.parse(get_source(name) if get_source else "")):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
