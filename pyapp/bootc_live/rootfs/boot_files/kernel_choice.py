"""Choose the kernel of an image to boot, by the rules of bootc.

A unified kernel image below /boot/EFI/Linux comes first, then the only directory below /usr/lib/modules with a vmlinuz;
bootc does not install an image with several. Without a vmlinuz, a unified kernel image beside the modules is used: next
to a vmlinuz, its initramfs is for other machines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bootc_live.base.errors import ImageError
from bootc_live.rootfs.tree.node import UNREAD, Node, resolve

HINT = "build the image as bootc requires: one kernel, /usr/lib/modules/VERSION/vmlinuz with initramfs.img beside it"
_NO_LINKS = "put the file itself there: links out of kargs.d are not followed"
_MODULES = "usr/lib/modules"
_KARGS = "usr/lib/bootc/kargs.d"
_UKIS = ("boot/EFI/Linux", "efi/EFI/Linux")


@dataclass(frozen=True)
class Chosen:
    """A kernel in the tree ``root``: its release, its file name for messages, and its files."""

    root: Node
    version: str
    name: str
    kernel: Node
    initramfs: Node | None


def choose_kernel(root: Node, source_text: str) -> Chosen:
    """Return the kernel to boot; raise ImageError if there is none, or more than one."""
    uki = next(_installed_ukis(root), None)
    if uki is not None:
        return uki
    versions = [name for name, node in _children(root, _MODULES) if node.children and b"vmlinuz" in node.children]
    if not versions:
        uki = next(_ukis_beside_modules(root), None)
        if uki is not None:
            return uki
        raise ImageError(f"{source_text!r} has no kernel /{_MODULES}/VERSION/vmlinuz", hint=HINT)
    if len(versions) > 1:
        listed = ", ".join(map(release, versions))
        raise ImageError(
            f"{source_text!r} has {len(versions)} kernels below /{_MODULES}: {listed}; exactly one is expected",
            hint=HINT,
        )
    directory = f"{_MODULES}/{versions[0]}"
    kernel = file_at(root, f"{directory}/vmlinuz")
    if kernel is None:
        raise ImageError(f"/{release(directory)}/vmlinuz of {source_text!r} is a link to a missing file", hint=HINT)
    name = f"/{release(directory)}/vmlinuz"
    return Chosen(root, release(versions[0]), name, kernel, file_at(root, f"{directory}/initramfs.img"))


def release(name: str) -> str:
    """Return a kernel's release as named by an image, without characters that are special in terminals or files."""
    return re.sub(r"[^A-Za-z0-9.+~_@:/-]", "_", name)


def module_versions(root: Node) -> frozenset[str]:
    """Return the releases of the kernels that the tree has modules for."""
    return frozenset(
        name
        for directory in (_MODULES, "lib/modules")
        for name, node in _children(root, directory)
        if node.children and node.children.keys() & {b"modules.dep", b"modules.builtin", b"kernel"}
    )


def kargs_files(root: Node, source_text: str) -> dict[str, Node]:
    """Return the files with kernel arguments by path, in the order of their names.

    Raise ImageError for anything but a file: leaving out arguments silently is not safe.
    """
    found: dict[str, Node] = {}
    for name, _ in _children(root, _KARGS):
        if name.endswith(".toml"):
            node = file_at(root, f"{_KARGS}/{name}")
            if node is None:
                raise ImageError(
                    f"/{_KARGS}/{release(name)} of {source_text!r} is no file with arguments", hint=_NO_LINKS
                )
            found[f"/{_KARGS}/{name}"] = node
    return found


def _installed_ukis(root: Node) -> Iterator[Chosen]:
    for directory in _UKIS:
        for name, node in _programs(root, directory):
            version = release(name[: -len(".efi")])
            yield Chosen(root, version, f"/{directory}/{release(name)}", node, None)


def _ukis_beside_modules(root: Node) -> Iterator[Chosen]:
    for version, below in _children(root, _MODULES):
        for name, node in _programs(root, f"{_MODULES}/{version}") if below.children else ():
            yield Chosen(root, release(version), f"/{_MODULES}/{release(version)}/{release(name)}", node, None)


def _programs(root: Node, directory: str) -> Iterator[tuple[str, Node]]:
    """Yield the UEFI programs in a directory."""
    for name, node in _children(root, directory):
        if name.lower().endswith(".efi") and node.kind in ("file", UNREAD):
            yield name, node


def _children(root: Node, path: str) -> list[tuple[str, Node]]:
    try:
        found = resolve(root, path.encode(errors="surrogateescape").split(b"/"), None).directory
    except ValueError:
        return []
    return [(name.decode(errors="surrogateescape"), found[name]) for name in sorted(found)]


def file_at(root: Node, path: str) -> Node | None:
    """Return the file at a path, through links; None for nothing or a directory."""
    parts = path.encode(errors="surrogateescape").split(b"/")
    for _ in range(40):
        try:
            node = resolve(root, parts[:-1], None).directory.get(parts[-1])
        except ValueError:
            return None
        if node is None or node.kind == "dir":
            return None
        if node.kind != "symlink":
            return node
        link = [part for part in node.link.split(b"/") if part and part != b"."]
        parts = link if node.link.startswith(b"/") else [*parts[:-1], *link]
        if not parts:
            return None
    return None
