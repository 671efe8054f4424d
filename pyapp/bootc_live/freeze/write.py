"""Write modules into the root of an initramfs, compiled in advance because the boot should not compile them."""

from __future__ import annotations

import ast
import importlib.util
import io
import marshal
import os
import sys
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from types import CodeType

from bootc_live.base.installed import PROGRAM
from bootc_live.freeze.modules import Module

_DATE = (1980, 1, 1, 0, 0, 0)
# Compiling the methods of dataclasses took a quarter of the instructions up to the first request. At the end, freeing
# all modules one by one would only take time.
_START = """
import dataclasses, marshal, os
from importlib.util import source_hash
methods = marshal.loads(__loader__.get_data("methods"))
dataclasses.exec = lambda text, *scopes: exec(methods.get(source_hash(text.encode()), text), *scopes)
from bootc_live.__main__ import main
os._exit(main())
"""
# Header of a pyc that is not compared with its source (PEP 552: hash-based, unchecked).
_HEADER = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little") + bytes(8)


def write_modules(root: str, archive: str, modules: Iterable[Module], texts: Iterable[str]) -> list[str]:
    """Write standard library and program below ``root``; return the extension modules, which are not copied.

    ``texts`` are those that dataclass() compiles.
    """
    binaries, ours = [], []
    for module in modules:
        if module.path.startswith(archive + os.sep):
            ours.append(module)
        elif module.path.endswith(".so"):
            binaries.append(module.path)
        elif module.path.endswith(".py"):
            _write_standard(root, module.path)
    methods = _methods(texts)
    target = os.path.join(root, PROGRAM.lstrip("/"))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(compiled_zip(archive, methods, {module.name for module in ours}))
    return binaries


def write_beside(archive: str, texts: Iterable[str]) -> str:
    """Write byte code of all modules of a zipapp to where its start looks for it; return the path. Raise OSError."""
    directory = os.path.join(os.path.dirname(archive), "__pycache__")
    path = os.path.join(directory, f"{os.path.basename(archive)}.{sys.implementation.cache_tag}")
    partial = f"{path}.{os.getpid()}"
    compiled = compiled_zip(archive, _methods(texts))
    with suppress(FileExistsError):
        os.mkdir(directory, 0o755)
    try:
        with open(partial, "xb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(compiled)
        # The program runs it as long as this is its own time.
        os.utime(partial, ns=(os.stat(archive).st_mtime_ns,) * 2)
        os.rename(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(partial)
    return path


def _write_standard(root: str, path: str) -> None:
    real = os.path.realpath(path)
    target = os.path.join(root, real.lstrip("/") + "c")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(real, "rb") as source, open(target, "wb") as compiled:
        compiled.write(_bytecode(source.read(), path, ours=False))


def _methods(texts: Iterable[str]) -> dict[bytes, CodeType]:
    # The texts themselves would be as large as the code.
    return {importlib.util.source_hash(text.encode()): compile(text, "dataclass", "exec") for text in texts}


def compiled_zip(archive: str, methods: dict[bytes, CodeType], names: set[str] | None = None) -> bytes:
    """Return a zip with byte code of the modules ``names`` of a zipapp, all by default, and what belongs to them."""
    with zipfile.ZipFile(archive) as source:
        members = {"__main__.pyc": _bytecode(_START.encode(), "__main__.py"), "methods": marshal.dumps(methods)}
        for member in source.namelist():
            if member.endswith(".py"):
                name = member.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                if name != "__main__" and (names is None or name in names):
                    members[f"{member}c"] = _bytecode(source.read(member), member)
            elif not member.endswith("/") and (names is None or _belongs(member, names)):
                members[member] = source.read(member)
    return _zip(members)


def _belongs(member: str, names: set[str]) -> bool:
    """Return whether a data file (schema, licence) belongs to a packed module."""
    top, _, rest = member.partition("/")
    if top == "licenses":
        project = rest.partition("-")[0].lower()
        return {"attrs": "attr", "pyyaml": "yaml"}.get(project, project) in names
    return top in names or not rest


def _zip(members: dict[str, bytes]) -> bytes:
    # Not compressed: the initramfs is compressed as a whole, which is smaller.
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, _DATE), members[name])
    return content.getvalue()


def _bytecode(source: bytes, name: str, *, ours: bool = True) -> bytes:
    """Compile a module without docstrings and, in the zipapp, types of functions: nobody reads them in an initramfs."""
    module = ast.parse(source)
    for node in ast.walk(module):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str()) as text), *_]:
                # Not removed: dataclass() would write one at every start.
                text.value = "."
        # The standard library needs some: functools.singledispatch().
        if ours and isinstance(node, ast.arg):
            node.annotation = None
        elif ours and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
    return _HEADER + marshal.dumps(compile(module, name, "exec", dont_inherit=True))
