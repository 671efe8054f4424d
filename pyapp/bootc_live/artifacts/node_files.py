"""What machines load to boot an image: its kernel, an initrd with our modules, and a command line pinned to it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from bootc_live.artifacts.node_cmdline import check_append, goes_on_elsewhere, node_cmdline, node_source
from bootc_live.base.errors import ConfigError, ImageError
from bootc_live.base.log import Recorder
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.tokens import Token, redact_cmdline
from bootc_live.config.source_spec import ROOT_PREFIX, ArchiveFile, RegistryImage, SourceSpec, parse_source
from bootc_live.image.layout_recorder import RecordedLayout
from bootc_live.rootfs.boot_files.dracut_modules import lacking_module
from bootc_live.rootfs.boot_files.extract import BootArtifacts, HandoverSpec, extracted_boot_files
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.boot_files.initramfs import LZ4, holds
from bootc_live.source.access import Access

# Where the layout lies in the initramfs.
_LAYOUT = "rootfs"
_INITRD, _ROOTFS = "initrd.img", "rootfs.cpio"
# Boot loaders take these as they are.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BUILD = "build one with the dracut modules bootc-live and bootc-live-registry, and name it with --initrd"


@dataclass(frozen=True)
class ArtifactOptions:
    """What was asked for: a file instead of the image's initramfs, further ones, arguments to add, the image inside.

    ``base`` is the URL of what is made, where it is known; an archive of this machine can be served below it.
    """

    initrd: str | None = None
    more: tuple[str, ...] = ()
    append: str = ""
    rootfs: bool = False
    base: str | None = None


class Initrd(Protocol):
    """Something whose bytes can be had."""

    def chunks(self) -> Iterator[bytes]:
        """Give the content."""
        ...


@dataclass(frozen=True)
class _Ended:
    """An initrd that others may follow: after it, loaders put no more zeros than up to a multiple of four.

    The legacy format of lz4 has no end of its own: only a word of zeros keeps the kernel from taking the archive behind
    it for one more block. Elsewhere zeros are passed over.
    """

    content: BootFile

    def chunks(self) -> Iterator[bytes]:
        """Give the content, and zeros behind it where something in it might be lz4."""
        before, found = b"", False
        for chunk in self.content.chunks():
            found = found or LZ4 in before + chunk[: len(LZ4)] or LZ4 in chunk
            before = chunk[-len(LZ4) :]
            yield chunk
        if found:
            yield bytes(-self.content.size % 4 + 4)


@dataclass(frozen=True)
class NodeFiles:
    """What is loaded: a kernel of the release ``version``, initrds by name in their order, a command line.

    ``identity`` is the image's digest. ``archive`` is the file that machines fetch the image from, None where they
    get it from elsewhere.
    """

    version: str
    identity: str
    kernel: BootFile
    initrds: Mapping[str, Initrd]
    archive: BootFile | None
    cmdline: str

    @property
    def title(self) -> str:
        """A line for menus; whatever the image calls its kernel, nothing of it means anything to a boot loader."""
        version = re.sub(r"[^A-Za-z0-9.+~_-]", "_", self.version)
        return f"Linux {version}, image {self.identity.partition(':')[2][:12]}"


@contextmanager
def node_files(
    spec: SourceSpec, access: Access, directory: str, recorder: Recorder, options: ArtifactOptions
) -> Iterator[NodeFiles]:
    """Fetch and verify an image and give what machines load of it; the files are good while the block runs.

    ``directory`` is for what is needed on the way. Raises BootcLiveError.
    """
    own = check_append(options.append)
    if own is not None and options.rootfs:
        raise ConfigError(
            f"--rootfs and '--append root={redact_value(own)}' name two roots", hint="leave one of them out"
        )
    given = None if options.initrd is None else _file(options.initrd, "--initrd ")
    more = _more(options.more, recorder)
    if own is None and not options.rootfs:
        _check_served(spec, options)
    keep = HandoverSpec(_LAYOUT) if options.rootfs else None
    with extracted_boot_files([spec], access, directory, recorder, keep) as taken:
        image = taken.acquired.image.resolved
        served = None if own or options.rootfs else node_source(spec, image.typed, image.identity, options.base)
        root = own.removeprefix(ROOT_PREFIX) if own else served or f"/{_LAYOUT}"
        # Whoever names another place says the rest of it, too.
        first = [] if own else [Token("root", f"{ROOT_PREFIX}{root}"), *_about(spec, root, access)]
        pin = None if goes_on_elsewhere(options.append) else image.identity
        cmdline = node_cmdline(first, taken.files.arguments, options.append, pin)
        if redact_cmdline(cmdline) != cmdline:
            recorder.warn("the kernel command line holds a login or a query, which every user of the machines can read")
        initrds: dict[str, Initrd] = {_INITRD: _Ended(_initrd(taken, given, root, recorder))}
        initrds |= {name: _Ended(file) for name, file in more.items()}
        if options.rootfs:
            initrds[_ROOTFS] = _layout(taken)
        archive = _file(spec.path, "") if served and isinstance(spec, ArchiveFile) else None
        yield NodeFiles(taken.files.version, image.identity, taken.files.kernel, initrds, archive, cmdline)


def _check_served(spec: SourceSpec, options: ArtifactOptions) -> None:
    """Raise ConfigError where other machines could not find the image, before anything of it is fetched."""
    if node_source(spec, spec.typed, "", options.base) is None:
        raise ConfigError(
            f"{spec.typed!r} is a file of this machine: nothing says where other machines find it",
            hint="take it along with --rootfs, say with --url where the directory will be served (netboot), "
            "or name its place with --append root=bootc-live:…",
        )


def _about(spec: SourceSpec, root: str, access: Access) -> Iterator[Token]:
    if isinstance(spec, RegistryImage):
        if access.unsecure and root.startswith("docker://"):
            yield Token("bootc.registry.unsecure", None)
    elif access.label is not None and root != f"/{_LAYOUT}":
        yield Token("bootclabel", access.label)


def _file(path: str, what: str) -> BootFile:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"'{what}{path}' is no regular file", hint="name a file")
            file.read(1)
    except OSError as error:
        raise ConfigError(f"'{what}{path}' cannot be read: {error.strerror}", hint="name a file") from error
    return BootFile(path, 0, status.st_size)


def _more(paths: Sequence[str], recorder: Recorder) -> dict[str, BootFile]:
    """Give the initrds to add by the names they will have; raises ConfigError."""
    found: dict[str, BootFile] = {}
    for path in paths:
        name = os.path.basename(path)
        if name in (_INITRD, _ROOTFS, *found) or not _NAME.fullmatch(name) or not name.endswith((".cpio", ".img")):
            raise ConfigError(
                f"'--add-initrd {path}' cannot have the name {name!r} among the initrds",
                hint="name a file NAME.cpio or NAME.img, with letters, digits, dots, - and _ in NAME",
            )
        found[name] = _file(path, "--add-initrd ")
        if holds(found[name].chunks(), "") is None:
            recorder.warn(f"'--add-initrd {path}' cannot be looked into: make sure that it is a cpio archive (newc)")
    return found


def _initrd(taken: BootArtifacts, given: BootFile | None, root: str, recorder: Recorder) -> BootFile:
    """Give the initrd: the one named, or the image's; raises ImageError where it cannot boot from ``root``."""
    typed, version = taken.acquired.image.resolved.typed, taken.files.version
    initrd = given or taken.files.initramfs
    if initrd is None:
        raise ImageError(f"{typed!r} has a kernel but no initramfs", hint=_BUILD)
    what = f"the initrd {given.path!r}" if given else f"the initramfs of {typed!r}"
    try:
        lacking = lacking_module(initrd.chunks(), parse_source(root))
    except ValueError as error:
        recorder.warn(f"{what} cannot be looked into: make sure that it has the dracut module bootc-live ({error})")
        return initrd
    if lacking == "bootc-live":
        raise ImageError(f"{what} has none of our dracut modules: it would not find the image", hint=_BUILD)
    if lacking:
        raise ImageError(f"{what} lacks the dracut module {lacking}, which {redact_value(root)!r} needs", hint=_BUILD)
    if given and not holds(initrd.chunks(), f"usr/lib/modules/{version}"):
        recorder.warn(f"{what} has no modules for the image's kernel {version}: was it built for another one?")
    return initrd


def _layout(taken: BootArtifacts) -> RecordedLayout:
    if taken.layout is None or taken.layout.missing:
        raise ImageError(
            f"{taken.acquired.image.resolved.typed!r} cannot be taken along with --rootfs as it is",
            hint="make an OCI archive of it: skopeo copy SOURCE oci-archive:FILE.oci:latest",
        )
    return taken.layout
