"""Set SELinux labels in a root by the policy in the image, in every layout.

Layers of OCI images carry no labels; a kernel that enforces the image's policy would deny access to unlabelled files.
libselinux looks up the labels, as for setfiles(8): it reads file_contexts(5) and related files of the image.
"""

from __future__ import annotations

import ctypes
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from bootc_live.base.errors import RootfsError
from bootc_live.base.log import Recorder
from bootc_live.base.units import MIB, mib
from bootc_live.formats.erofs.structures import TYPES
from bootc_live.formats.tar.header import NO_XATTRS
from bootc_live.rootfs.tree.node import Node, linked, new_directory, resolve, split
from bootc_live.system.cleanup.directories import private_directory

# Below the root.
POLICY = b"etc/selinux"
_CONFIG = POLICY + b"/config"
_CONTEXTS = b"contexts/files"
_MAIN = b"file_contexts"
_ATTRIBUTE = b"security.selinux"
_LIBRARY = "libselinux.so.1"
# The size of one file of a policy's contexts; real ones have half a megabyte.
_MOST = 64 * MIB
_BACKEND_FILE, _OPTION_PATH = 0, 3
_HINT = "give the initramfs libselinux, or boot with bootc.live.selinux=0 and without SELinux"

ReadFile = Callable[[Node], bytes]
Lookup = Callable[[bytes, int], bytes | None]


class _Option(ctypes.Structure):
    """struct selinux_opt of selabel_open(3)."""

    _fields_ = (("type", ctypes.c_int), ("value", ctypes.c_char_p))


def label_tree(root: Node, read: ReadFile, wanted: bool | None, source_text: str, recorder: Recorder) -> bool:
    """Label every inode by the image's own policy; return whether there is one.

    If ``wanted`` is None, /etc/selinux/config in the image decides. ``read`` returns a file's content. Raise
    RootfsError if labels are wanted and cannot be set.
    """

    def limited(node: Node) -> bytes:
        if node.size > _MOST:
            raise RootfsError(
                f"the SELinux policy of {source_text!r} has a file of {mib(node.size)}, {mib(_MOST)} is the most",
                hint=_HINT,
            )
        return read(node)

    directory = None if wanted is False else _enabled(root, limited)
    policy = {} if directory is None else _policy(root, directory, limited)
    if not policy:
        if directory is not None:
            recorder.warn(
                f"{source_text!r} switches SELinux on and has no "
                f"/{directory.decode(errors='replace')}/{_MAIN.decode()}: its files get no labels"
            )
        if wanted:
            raise RootfsError(
                f"{source_text!r} has no SELinux policy that is switched on in /etc/selinux/config, but "
                "'bootc.live.selinux=1' asks for labels",
                hint="remove the argument, or add a policy to the image",
            )
        return False
    with recorder.phase("label", "labelling for SELinux"), _lookup(policy, source_text) as lookup:
        _label(root, lookup)
    return True


def _enabled(root: Node, read: ReadFile) -> bytes | None:
    """Return the directory with the contexts of the policy that the image enables, None if it enables none."""
    config = _file(root, _CONFIG)
    if config is None:
        return None
    mode, kind = b"", b"targeted"
    # Like libselinux: the mode in upper or lower case, with anything behind it.
    for line in map(bytes.strip, read(config).splitlines()):
        if line.startswith(b"SELINUX="):
            mode = mode or line.removeprefix(b"SELINUX=").strip().lower()
        elif line.startswith(b"SELINUXTYPE="):
            kind = line.removeprefix(b"SELINUXTYPE=").strip()
    if not mode.startswith((b"enforcing", b"permissive")) or not kind:
        return None
    return POLICY + b"/" + kind + b"/" + _CONTEXTS


def _policy(root: Node, directory: bytes, read: ReadFile) -> dict[bytes, bytes]:
    """Return the files of the policy's contexts by name; none if the image lacks the main one."""
    try:
        found = resolve(root, split(directory), None).directory
    except ValueError:
        return {}
    nodes = {name: node for name, node in found.items() if node.kind == "file"}
    # A compiled file is for one version of one library, and libselinux would choose between both by their times.
    compiled = _MAIN not in nodes
    files = {name: read(node) for name, node in nodes.items() if compiled or not name.endswith(b".bin")}
    return files if files.keys() & {_MAIN, _MAIN + b".bin"} else {}


def _file(root: Node, path: bytes) -> Node | None:
    *parents, name = split(path)
    try:
        node = resolve(root, parents, None).directory.get(name)
    except ValueError:
        return None
    return node if node is not None and node.kind == "file" else None


@contextmanager
def _lookup(policy: dict[bytes, bytes], source_text: str) -> Iterator[Lookup]:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise RootfsError(
            f"{source_text!r} needs SELinux labels, which need {_LIBRARY}: {error}", hint=_HINT
        ) from error
    library.selabel_open.restype = ctypes.c_void_p
    library.selabel_close.argtypes = [ctypes.c_void_p]
    library.selabel_lookup_raw.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    library.freecon.argtypes = [ctypes.c_void_p]
    with private_directory(tempfile.gettempdir(), "bootc-live.") as directory:
        for name, content in policy.items():
            with open(os.path.join(os.fsencode(directory), name), "wb") as file:
                file.write(content)
        option = _Option(_OPTION_PATH, os.fsencode(os.path.join(directory, "file_contexts")))
        handle = library.selabel_open(_BACKEND_FILE, ctypes.byref(option), 1)
        if not handle:
            reason = os.strerror(ctypes.get_errno())
            raise RootfsError(f"the SELinux policy of {source_text!r} cannot be read: {reason}", hint=_HINT)
        try:
            yield lambda path, kind: _label_of(library, handle, path, kind)
        finally:
            library.selabel_close(handle)


def _label_of(library: ctypes.CDLL, handle: int, path: bytes, kind: int) -> bytes | None:
    found = ctypes.c_void_p()
    # It fails for no entry, and for <<none>>: no label.
    if library.selabel_lookup_raw(handle, ctypes.byref(found), path, kind):
        return None
    try:
        return ctypes.string_at(found.value or 0)
    finally:
        library.freecon(found)


def _label(root: Node, lookup: Lookup) -> None:
    several = linked(root)
    twins: dict[int, dict[bytes | None, Node]] = {}
    # Thousands of files have no other attributes and the same label: one mapping for all.
    alone: dict[bytes, Mapping[bytes, bytes]] = {}
    top = new_directory()
    top.directory[b""] = root
    todo = [(b"", top.directory)]
    while todo:
        above, children = todo.pop()
        for name, found in children.items():
            path, node = above + name, found
            label = lookup(path or b"/", stat.S_IFMT(TYPES[node.kind][0]))
            if id(found) in several:
                # Names of one file with different labels become names of two files with the same data.
                known = twins.setdefault(id(found), {})
                if label not in known:
                    known[label] = replace(found) if known else found
                node = children[name] = known[label]
            # The kernel and setfiles also store the NUL.
            labelled = NO_XATTRS if label is None else alone.setdefault(label, {_ATTRIBUTE: label + b"\0"})
            others = {key: value for key, value in node.xattrs.items() if key != _ATTRIBUTE}
            node.xattrs = {**others, **labelled} if others else labelled
            if node.children is not None:
                todo.append((path + b"/", node.children))
