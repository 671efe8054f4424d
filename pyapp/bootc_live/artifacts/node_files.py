"""What machines load to boot an image: its kernel, an initrd with our modules, and a command line pinned to it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
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
from bootc_live.rootfs.boot_files.extract import BootArtifacts
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.boot_files.initramfs import LZ4, holds
from bootc_live.source.access import Access

# Where the layout lies in the initramfs.
LAYOUT = "rootfs"
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


def check_options(spec: SourceSpec, options: ArtifactOptions) -> None:
    """Raise ConfigError for options that contradict each other, before anything is fetched."""
    own = check_append(options.append)
    if own is not None and options.rootfs:
        raise ConfigError(
            f"--rootfs and '--append root={redact_value(own)}' name two roots", hint="leave one of them out"
        )
    if options.initrd is not None:
        _file(options.initrd, "--initrd ")
    _more(options.more)
    if own is None and not options.rootfs:
        _check_served(spec, options)


def node_files(
    spec: SourceSpec, artifacts: BootArtifacts, options: ArtifactOptions, access: Access, recorder: Recorder
) -> NodeFiles:
    """Return what machines load to boot an image from ``spec``; raise BootcLiveError."""
    own, image = check_append(options.append), artifacts.image
    given = None if options.initrd is None else _file(options.initrd, "--initrd ")
    served = None if own or options.rootfs else node_source(spec, image.typed, image.identity, options.base)
    root = own.removeprefix(ROOT_PREFIX) if own else served or f"/{LAYOUT}"
    # Whoever names another place says the rest of it, too.
    first = [] if own else [Token("root", f"{ROOT_PREFIX}{root}"), *_about(spec, root, access)]
    pin = None if goes_on_elsewhere(options.append) else image.identity
    cmdline = node_cmdline(first, artifacts.files.arguments, options.append, pin)
    if redact_cmdline(cmdline) != cmdline:
        recorder.warn("the kernel command line holds a login or a query, which every user of the machines can read")
    initrds: dict[str, Initrd] = {_INITRD: _Ended(_initrd(artifacts, given, root, recorder))}
    for name, file in _more(options.more).items():
        if holds(file.chunks(), "") is None:
            recorder.warn(
                f"'--add-initrd {file.path}' cannot be looked into: make sure that it is a cpio archive (newc)"
            )
        initrds[name] = _Ended(file)
    if options.rootfs:
        initrds[_ROOTFS] = _layout(artifacts)
    archive = _file(spec.path, "") if served and isinstance(spec, ArchiveFile) else None
    return NodeFiles(artifacts.files.version, image.identity, artifacts.files.kernel, initrds, archive, cmdline)


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
    elif access.label is not None and root != f"/{LAYOUT}":
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


def _more(paths: Sequence[str]) -> dict[str, BootFile]:
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
    return found


def _initrd(artifacts: BootArtifacts, given: BootFile | None, root: str, recorder: Recorder) -> BootFile:
    """Give the initrd: the one named, or the image's; raises ImageError where it cannot boot from ``root``."""
    typed, version = artifacts.image.typed, artifacts.files.version
    initrd = given or artifacts.files.initramfs
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


def _layout(artifacts: BootArtifacts) -> RecordedLayout:
    if artifacts.layout is None or artifacts.layout.missing:
        raise ImageError(
            f"{artifacts.image.typed!r} cannot be included with --rootfs as it is",
            hint="make an OCI archive of it: skopeo copy SOURCE oci-archive:FILE.oci:latest",
        )
    return artifacts.layout
