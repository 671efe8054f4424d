"""The files that machines load to boot an image: kernel, initrds, and a command line pinned to the image."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bootc_live.artifacts.node_cmdline import boots_other_image, check_append, node_cmdline, node_source
from bootc_live.base.errors import ConfigError, ImageError
from bootc_live.base.log import Recorder
from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.tokens import Token, redact_cmdline
from bootc_live.config.source_spec import ROOT_PREFIX, ArchiveFile, RegistryImage, SourceSpec, parse_source
from bootc_live.image.detached import ENDINGS
from bootc_live.image.layout_recorder import RecordedLayout
from bootc_live.image.trust import TrustVerdict
from bootc_live.rootfs.boot_files.extract import BootArtifacts
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.rootfs.boot_files.initramfs import LZ4, holds, unfit
from bootc_live.source.access import Access

# The directory of the OCI layout in the initramfs.
LAYOUT = "rootfs"
_INITRD, _ROOTFS = "initrd.img", "rootfs.cpio"
# Names that boot loaders do not change.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BUILD = "build an initramfs with the dracut modules bootc-live and bootc-live-registry, and name it with --initrd"


@dataclass(frozen=True)
class ArtifactOptions:
    """The options of the command.

    ``initrd`` replaces the image's initramfs, ``add_initrd`` follow it, ``append`` are kernel arguments, and ``rootfs``
    includes the image. ``base`` is the URL of the directory, if known; an archive of this machine is served below it.
    """

    initrd: str | None = None
    add_initrd: tuple[str, ...] = ()
    append: str = ""
    rootfs: bool = False
    base: str | None = None


class Initrd(Protocol):
    """An initrd."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the content."""
        ...


@dataclass(frozen=True)
class _PaddedInitrd:
    """An initrd that another one can follow.

    The legacy format of lz4 has no end mark: without a word of zeros, the kernel reads the next archive as another
    block. Loaders only align initrds to four bytes. The kernel skips zeros between archives.
    """

    content: BootFile

    def chunks(self) -> Iterator[bytes]:
        """Yield the content, and then zeros if it may contain lz4."""
        before, found = b"", False
        for chunk in self.content.chunks():
            found = found or LZ4 in before + chunk[: len(LZ4)] or LZ4 in chunk
            before = chunk[-len(LZ4) :]
            yield chunk
        if found:
            yield bytes(-self.content.size % 4 + 4)


@dataclass(frozen=True)
class NodeFiles:
    """A kernel of the release ``version``, initrds by name in their order, and a command line.

    ``identity`` is the image's digest, ``verdict`` who signed it. ``archive`` is the file that machines fetch the
    image from, and signatures of it, by the ends of their names; it is empty if they use another source.
    """

    version: str
    identity: str
    verdict: TrustVerdict
    kernel: BootFile
    initrds: Mapping[str, Initrd]
    archive: Mapping[str, BootFile]
    cmdline: str

    @property
    def title(self) -> str:
        """A line for menus, without characters that a boot loader could interpret."""
        version = re.sub(r"[^A-Za-z0-9.+~_-]", "_", self.version)
        return f"Linux {version}, image {self.identity.partition(':')[2][:12]}"


def check_options(spec: SourceSpec, options: ArtifactOptions) -> None:
    """Raise ConfigError for options that contradict each other, before anything is fetched."""
    own = check_append(options.append)
    if own is not None and options.rootfs:
        raise ConfigError(
            f"--rootfs and '--append root={redact_value(own)}' name two roots", hint="leave out one of them"
        )
    if options.initrd is not None:
        boot_file(options.initrd, "--initrd ")
    _added_initrds(options.add_initrd)
    if own is None and not options.rootfs:
        _check_served(spec, options)


def node_files(
    spec: SourceSpec, artifacts: BootArtifacts, options: ArtifactOptions, access: Access, recorder: Recorder
) -> NodeFiles:
    """Return the files that machines load to boot an image from ``spec``; raise BootcLiveError."""
    own, image = check_append(options.append), artifacts.image
    given = None if options.initrd is None else boot_file(options.initrd, "--initrd ")
    served = None if own or options.rootfs else node_source(spec, image.source_text, image.identity, options.base)
    root = own.removeprefix(ROOT_PREFIX) if own else served or f"/{LAYOUT}"
    # A root= of the user comes with its own arguments.
    first = [] if own else [Token("root", f"{ROOT_PREFIX}{root}"), *_source_arguments(spec, root, access)]
    pin = None if boots_other_image(options.append) else image.identity
    cmdline = node_cmdline(first, artifacts.files.arguments, options.append, pin)
    if redact_cmdline(cmdline) != cmdline:
        recorder.warn("the kernel command line contains a login or a query, which every user of the machines can read")
    initrds: dict[str, Initrd] = {_INITRD: _PaddedInitrd(_initrd(artifacts, given, root, recorder))}
    for name, file in _added_initrds(options.add_initrd).items():
        if holds(file.chunks(), "") is None:
            recorder.warn(
                f"'--add-initrd {file.path}' cannot be read as an initramfs: make sure that it is a cpio archive (newc)"
            )
        initrds[name] = _PaddedInitrd(file)
    if options.rootfs:
        initrds[_ROOTFS] = _layout(artifacts)
    archive = _with_signatures(spec.path) if served and isinstance(spec, ArchiveFile) else {}
    files = artifacts.files
    return NodeFiles(files.version, image.identity, artifacts.verdict, files.kernel, initrds, archive, cmdline)


def _check_served(spec: SourceSpec, options: ArtifactOptions) -> None:
    """Raise ConfigError if other machines could not find the image, before it is fetched."""
    if node_source(spec, spec.source_text, "", options.base) is None:
        raise ConfigError(
            f"{spec.source_text!r} is a file of this machine, which other machines cannot find",
            hint="include it with --rootfs, name the directory's URL with --url (netboot), or name another source with "
            "--append root=bootc-live:…",
        )


def _source_arguments(spec: SourceSpec, root: str, access: Access) -> Iterator[Token]:
    if isinstance(spec, RegistryImage):
        if access.unsecure and root.startswith("docker://"):
            yield Token("bootc.registry.unsecure", None)
    elif access.label is not None and root != f"/{LAYOUT}":
        yield Token("bootclabel", access.label)


def _with_signatures(path: str) -> dict[str, BootFile]:
    """Return an archive and the signatures beside it, by the ends of their names."""
    return {end: boot_file(path + end, "") for end in ("", *ENDINGS) if not end or os.path.isfile(path + end)}


def boot_file(path: str, what: str) -> BootFile:
    """Return a file of this machine; ``what`` is the option that names it. Raise ConfigError."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"'{what}{path}' is not a regular file", hint="name a file")
            file.read(1)
    except OSError as error:
        raise ConfigError(f"'{what}{path}' cannot be read: {error.strerror}", hint="name a file") from error
    return BootFile(path, 0, status.st_size)


def _added_initrds(paths: Sequence[str]) -> dict[str, BootFile]:
    """Return the additional initrds by their future names; raise ConfigError."""
    found: dict[str, BootFile] = {}
    for path in paths:
        name = os.path.basename(path)
        if name in (_INITRD, _ROOTFS, *found) or not _NAME.fullmatch(name) or not name.endswith((".cpio", ".img")):
            raise ConfigError(
                f"'--add-initrd {path}' cannot be used under the name {name!r}",
                hint="name a file NAME.cpio or NAME.img, with letters, digits, dots, - and _ in NAME",
            )
        found[name] = boot_file(path, "--add-initrd ")
    return found


def _initrd(artifacts: BootArtifacts, given: BootFile | None, root: str, recorder: Recorder) -> BootFile:
    """Return the given initrd, or the image's; raise ImageError if it cannot boot from ``root``."""
    source_text, version = artifacts.image.source_text, artifacts.files.version
    initrd = given or artifacts.files.initramfs
    if initrd is None:
        raise ImageError(f"{source_text!r} has a kernel but no initramfs", hint=_BUILD)
    what = f"the initrd {given.path!r}" if given else f"the initramfs of {source_text!r}"
    try:
        problem = unfit(initrd.chunks(), what, parse_source(root))
    except ValueError as error:
        recorder.warn(f"{what} cannot be read: make sure that it has the dracut module bootc-live ({error})")
        return initrd
    if problem is not None:
        raise ImageError(problem, hint=_BUILD)
    if given and not holds(initrd.chunks(), f"usr/lib/modules/{version}"):
        recorder.warn(f"{what} has no modules for the image's kernel {version}: check the initrd")
    return initrd


def _layout(artifacts: BootArtifacts) -> RecordedLayout:
    if artifacts.layout is None or artifacts.layout.missing:
        raise ImageError(
            f"{artifacts.image.source_text!r} cannot be included with --rootfs: it is read only once",
            hint="convert it to an OCI archive (skopeo copy SOURCE oci-archive:FILE.oci:latest), and sign the image in "
            "it, not the file",
        )
    return artifacts.layout
