"""Make a deployment of a fetched image: its files and metadata, its /etc, and what boots it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bootc_live.base.errors import ImageError
from bootc_live.base.log import Recorder
from bootc_live.formats.pe import is_signed
from bootc_live.image.recipe import Fetched
from bootc_live.image.verified import VerifiedImage
from bootc_live.landing.disk.deployments import Deployment, Deployments, disk_errors
from bootc_live.receipt.two_kernels import decided
from bootc_live.rootfs.boot_files.extract import allowed
from bootc_live.rootfs.boot_files.files import BootFile, BootFiles, boot_files
from bootc_live.rootfs.boot_files.initramfs import has_module, unfit
from bootc_live.rootfs.boot_files.kernel_choice import choose_kernel, file_at, kargs_files
from bootc_live.rootfs.layouts.built import Finishing, cannot_hold
from bootc_live.rootfs.layouts.files.writer import write_files
from bootc_live.rootfs.tree.data import content_reader, fill_files
from bootc_live.rootfs.tree.labels import label_tree
from bootc_live.rootfs.tree.live import live_tree
from bootc_live.rootfs.tree.merge import LayersRead, Warn
from bootc_live.rootfs.tree.node import Node, new_directory, resolve, walk
from bootc_live.system.files import sync_filesystem

_UNSIGNED = "use an image whose kernel is signed, or sign with own keys: --bootloader uki --sb-key FILE --sb-cert FILE"
# File systems that the module of another one mounts.
_MODULES = {"ext2": "ext4", "ext3": "ext4"}
_BUILD = "build an initramfs with the dracut module bootc-live into the image, or name one with --initrd"


@dataclass(frozen=True)
class Stored:
    """A root on the disk: see ``Deployment`` and ``Deployed``."""

    digest: str
    obstacle: str = ""
    slot: str = ""
    blocks: int = 0


# A kernel and its initramfs, or a unified kernel image alone.
_Started = tuple[BootFile, BootFile | None]

# Puts the root of an image on the disk, for good; its tree is changed by ``Finishing`` before anything is written.
Store = Callable[[VerifiedImage, Finishing, LayersRead, Warn], Stored]


@dataclass(frozen=True)
class Starting:
    """How an image is started: ``initrd`` replaces its initramfs.

    With ``uki``, a signed unified kernel image of it is started as it is. ``signed`` refuses an unsigned kernel, and
    ``filesystem``, the type of the one that has the root, a kernel and an initramfs that cannot mount it.
    """

    initrd: BootFile | None = None
    uki: bool = False
    signed: bool = False
    filesystem: str | None = None


@dataclass(frozen=True)
class Deployed:
    """A finished deployment that nothing boots yet: the kernel and initramfs for it, and its tree of files.

    Without ``initramfs``, the kernel is a unified kernel image of the image, unchanged.
    ``obstacle`` tells why the kernel cannot check its files when they are read, empty if it can.
    """

    deployment: Deployment
    kernel: BootFile
    initramfs: BootFile | None
    obstacle: str
    tree: ImageTree


@dataclass(frozen=True)
class ImageTree:
    """The merged tree of an image whose layers are in a data file."""

    root: Node
    image: VerifiedImage
    recorder: Recorder

    def has(self, path: str) -> bool:
        """Return whether the image has something at a path."""
        *above, name = path.encode().split(b"/")
        try:
            return name in resolve(self.root, above, None).directory
        except ValueError:
            return False

    def is_empty_directory(self, path: str) -> bool:
        """Return whether the image has a directory at a path, with nothing in it; links are not followed."""
        *above, name = path.strip("/").encode().split(b"/")
        try:
            found = resolve(self.root, above, None).directory.get(name)
        except ValueError:
            return False
        return found is not None and found.children == {}

    def write(self, path: str, where: str, *, synced: bool = False) -> bool:
        """Write a directory of the image, with its files, to the new directory ``where``; return whether it has one.

        It is whole or not there; if it is ``synced``, after a power cut, too. Raise OSError and RootfsError.
        """
        *above, name = path.encode().split(b"/")
        try:
            found = resolve(self.root, above, None).directory.get(name)
        except ValueError:
            return False
        if found is None or found.children is None:
            return False
        top = new_directory()
        top.directory[name] = replace(found)
        fill_files(self.image, walk(top))
        part = f"{where}.part"
        shutil.rmtree(part, ignore_errors=True)
        os.mkdir(part, 0o700)
        data = os.open(self.image.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            # The data of all other files is still needed.
            write_files(top, part, data, self.recorder.warn, kept=walk(self.root))
            if synced:
                sync_filesystem(part)
            os.rename(os.path.join(part, os.fsdecode(name)), where)
        except ValueError as error:
            raise cannot_hold(self.image, error) from error
        finally:
            os.close(data)
            shutil.rmtree(part, ignore_errors=True)
        return True


# Makes the /etc of a deployment at a path, of the image's tree.
MakeEtc = Callable[[ImageTree, str], None]


def image_etc(tree: ImageTree, where: str) -> None:
    """Make the /etc of a first deployment: the image's."""
    if not tree.write("etc", where):
        os.mkdir(where, 0o755)


def deploy(
    fetched: Fetched[None],
    headers: LayersRead,
    disk: Deployments,
    directory: str,
    recorder: Recorder,
    put: Store,
    *,
    make_etc: MakeEtc = image_etc,
    starting: Starting = Starting(),
) -> Deployed:
    """Write a fetched image to a disk as its next deployment; ``directory`` is for temporary files.

    Raise ImageError for an image that cannot boot from a disk, RootfsError
    and OutOfMemoryError for a disk that cannot hold it. What is left of a failure is never used; ``prune`` removes it.
    """
    image = fetched.image
    source_text = image.resolved.source_text
    with disk_errors(repr(source_text)):
        disk.make()
        # Storing may remove the last deployment, whose number is not used again.
        number = disk.next_number()
        stored, tree, files, started = store(image, headers, disk, directory, recorder, put, starting)
        deployment = Deployment(
            number=number,
            source=source_text,
            image=image.resolved.identity,
            root=stored.digest,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            kernel=files.version,
            verity=not stored.obstacle,
            arguments=files.arguments,
            trust=decided(fetched.verdict, None),
            layers=image.resolved.config.diff_ids,
            boot_layers=_layers_of(image, *filter(None, started)),
            slot=stored.slot,
            blocks=stored.blocks,
        )
        with recorder.phase("etc", "writing /etc"):
            if not os.path.isdir(disk.var) and not tree.write("var", disk.var, synced=True):
                os.mkdir(disk.var, 0o755)
            with disk.adding(deployment) as new:
                make_etc(tree, os.path.join(new, "etc"))
    return Deployed(deployment, *started, stored.obstacle, tree)


def _layers_of(image: VerifiedImage, *files: BootFile) -> tuple[str, ...]:
    """Return the layers that have files, none if one is not in the data file as it is."""
    if any(file.path != image.path for file in files):
        return ()
    found = (
        layer.diff_id
        for layer in image.layers
        if any(layer.offset <= file.offset < layer.offset + layer.size for file in files)
    )
    return tuple(dict.fromkeys(found))


def store(
    image: VerifiedImage,
    headers: LayersRead,
    disk: Deployments,
    directory: str,
    recorder: Recorder,
    put: Store,
    starting: Starting = Starting(),
) -> tuple[Stored, ImageTree, BootFiles, _Started]:
    """Write the files of an image to a disk, of which ``deploy`` makes a deployment; return also what boots it.

    Raise as ``deploy``.
    """
    found = list[tuple[ImageTree, BootFiles, _Started]]()
    source_text = image.resolved.source_text

    def finish(root: Node, image: VerifiedImage) -> bool:
        with content_reader(image) as read:
            live_tree(root, source_text, read)
            labelled = label_tree(root, read, None, source_text, recorder)
            # What cannot boot must not cost the time of writing it.
            started = _bootable(root, image, directory, starting, recorder, read)
        found.append((ImageTree(root, image, recorder), *started))
        return labelled

    with disk_errors(repr(source_text)), recorder.phase("objects", "writing the image's files"):
        disk.make()
        return put(image, finish, headers, recorder.warn), *found[0]


def _bootable(
    root: Node,
    image: VerifiedImage,
    directory: str,
    starting: Starting,
    recorder: Recorder,
    read: Callable[[Node], bytes],
) -> tuple[BootFiles, _Started]:
    initrd = starting.initrd
    source_text = image.resolved.source_text
    chosen = choose_kernel(root, source_text)
    fill_files(image, [chosen.kernel, *filter(None, [chosen.initramfs]), *kargs_files(root, source_text).values()])
    files = boot_files(chosen, image.path, directory, os.uname().machine, source_text)
    initramfs = initrd or files.initramfs
    what = f"the initramfs of {source_text!r}" if initrd is None else f"the initrd {initrd.path!r}"
    if initramfs is None:
        raise ImageError(f"{source_text!r} has a kernel but no initramfs", hint=_BUILD)
    try:
        problem = unfit(initramfs.chunks(), what, None)
    except ValueError as error:
        raise ImageError(f"{what} cannot be read: {error}", hint=_BUILD) from error
    if problem is not None:
        raise ImageError(problem, hint=_BUILD)
    kind = starting.filesystem
    if kind is not None and not _can_mount(kind, root, read, initramfs, files.version):
        raise ImageError(
            f"{what} has no module for {kind}, which the root is on, and its kernel {files.version} is built without "
            "that",
            hint=f"build the initramfs with it: dracut --add-drivers {kind}; or use another file system",
        )
    if starting.uki and initrd is None and files.uki is not None and is_signed(files.uki.read_at):
        return allowed(files, recorder), (files.uki, None)
    if starting.signed and not is_signed(files.kernel.read_at):
        raise ImageError(f"the kernel of {source_text!r} is not signed for Secure Boot", hint=_UNSIGNED)
    return allowed(files, recorder), (files.kernel, initramfs)


def _can_mount(kind: str, root: Node, read: Callable[[Node], bytes], initramfs: BootFile, version: str) -> bool:
    """Return whether a kernel of the image has a file system, in itself or in an initramfs, as far as is known."""
    builtin = file_at(root, f"usr/lib/modules/{version}/modules.builtin")
    if builtin is None:
        return True
    name = _MODULES.get(kind, kind)
    module = f"kernel/fs/{name}/{name}.ko"
    return module.encode() in read(builtin).split() or has_module(initramfs.chunks(), version, module) is not False
