"""Parse ``root=bootc-live:…``: the source of an image."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bootc_live.base.numbers import decimal
from bootc_live.base.redact import redact_value

ROOT_PREFIX = "bootc-live:"
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# The pattern of [USER:PASSWORD@]HOST[:PORT] in a URL.
AUTHORITY = r"(?:[^\s/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(?::[0-9]{1,5})?"
_SERVER = re.compile(rf"{AUTHORITY}(?=[/?#]|\Z)")
# The forms of mount and nfsroot=, besides the URL of RFC 2224: nfs[4]:[OPTIONS:]SERVER:/PATH
_NFS = re.compile(r"(nfs4?):(?!//)(?=.)", re.IGNORECASE)
_TAG = re.compile(r"(LABEL|UUID|PARTLABEL|PARTUUID)=")
_DEPLOYMENT = "deployment:"
_DEPLOYED = re.compile(r"((?:(?:LABEL|UUID|PARTLABEL|PARTUUID)=|/dev/).+):([1-9][0-9]{0,8})@([0-9a-f]{64})")
# Paths below /dev that are not block devices.
_DEVICE = re.compile(r"/dev/(?!(?:shm|fd)/|stdin\Z)")


@dataclass(frozen=True)
class ArchiveFile:
    """An OCI or docker archive, plain or compressed, or an OCI layout directory, at an absolute path."""

    path: str
    source_text: str


@dataclass(frozen=True)
class RegistryImage:
    """An image in a registry; ``reference`` does not include ``docker://``."""

    reference: str
    source_text: str


@dataclass(frozen=True)
class WebArchive:
    """An archive at an http or https URL, which may contain secrets."""

    url: str = field(repr=False)
    source_text: str


@dataclass(frozen=True)
class WebPointer:
    """A file at an http or https URL, which may contain secrets, that tells which archive beside it is the newest."""

    url: str = field(repr=False)
    source_text: str


@dataclass(frozen=True)
class HandlerArchive:
    """An archive that dracut's url-lib fetches with its handler for ``scheme``."""

    url: str = field(repr=False)
    scheme: str
    source_text: str


@dataclass(frozen=True)
class DeviceArchive:
    """An archive or layout directory at ``path`` of a block device's file system.

    ``device`` is written as ``LABEL=USB`` or ``/dev/sda1``.
    """

    device: str
    path: str
    source_text: str


@dataclass(frozen=True)
class HandoverImage:
    """An OCI layout directory that the previous kernel left.

    ``rest`` is the source of the missing blobs, or None if the directory is complete.
    """

    path: str
    rest: SourceSpec | None
    source_text: str


@dataclass(frozen=True)
class RootfsTar:
    """A tar of the files of a root, plain or compressed, at an absolute path."""

    path: str
    source_text: str


@dataclass(frozen=True)
class RootfsDirectory:
    """A directory with the files of a root, at an absolute path."""

    path: str
    source_text: str


@dataclass(frozen=True)
class Containerfile:
    """A file that buildah or podman build an image from, and the directory that it copies from: absolute paths."""

    path: str
    context: str
    source_text: str


@dataclass(frozen=True)
class Layered:
    """Several sources that are one image: each is put on top of those before it."""

    parts: tuple[LayerSpec, ...]
    source_text: str


@dataclass(frozen=True)
class DeploymentRoot:
    """A root that was installed: its number on the file system of a device, and the fs-verity digest of its metadata.

    ``device`` is written as ``UUID=…`` or ``/dev/sda2``.
    """

    device: str
    number: int
    digest: str
    source_text: str


# What can be opened at once.
FixedSpec = ArchiveFile | RegistryImage | WebArchive | HandlerArchive | DeviceArchive | HandoverImage
SourceSpec = FixedSpec | WebPointer
LayerSpec = SourceSpec | RootfsTar | RootfsDirectory | Containerfile
AnySpec = SourceSpec | Layered


def written(spec: SourceSpec) -> str:
    """Return the text that names a source, with its secrets."""
    match spec:
        case WebArchive() | WebPointer() | HandlerArchive():
            return spec.url
        case RegistryImage():
            return f"docker://{spec.reference}"
        case DeviceArchive():
            return f"{spec.device}:{spec.path}"
        case _:
            return spec.path


def is_remote(spec: SourceSpec) -> bool:
    """Return whether a source is reached over the network."""
    return isinstance(spec, RegistryImage | WebArchive | WebPointer | HandlerArchive)


def parse_root(text: str) -> SourceSpec | DeploymentRoot:
    """Return what ``text``, the value after ``root=bootc-live:``, names: a source, or a root that was installed.

    Raise ValueError with a reason that continues the quoted argument.
    """
    if not text.startswith(_DEPLOYMENT):
        return parse_source(text)
    found = _DEPLOYED.fullmatch(text.removeprefix(_DEPLOYMENT))
    if found is None:
        raise ValueError("is not deployment:DEVICE:NUMBER@DIGEST, such as deployment:UUID=…:1@ and 64 digits")
    return DeploymentRoot(found[1], decimal(found[2], limit=10**9), found[3], text)


def parse_source(text: str) -> SourceSpec:
    """Return the source that ``text``, the value after ``root=bootc-live:``, names.

    Raise ValueError with a reason that continues the quoted argument.
    """
    if _TAG.match(text) or _DEVICE.match(text):
        return _device(text)
    if text.startswith("/"):
        return ArchiveFile(path=text, source_text=redact_value(text))
    nfs = _NFS.match(text)
    if nfs is not None:
        return _nfs(text, nfs[1])
    scheme = SCHEME.match(text)
    if scheme is None:
        raise ValueError("is neither an absolute path nor a URL; write for example docker://registry.example/os:stable")
    return _url(text, scheme[1].lower(), text[scheme.end() :])


def _device(text: str) -> DeviceArchive:
    # Labels and names below /dev/disk/by-path may contain ":", labels even "/". Directory names that end in ":" are
    # rare, so split at the last ":/".
    device, separator, path = text.rpartition(":/")
    if not separator:
        raise ValueError(
            f"needs an absolute path on the block device; write {text.partition(':')[0]}:/path/of/root.oci"
        )
    if device.endswith("=") or device == "/dev/":
        raise ValueError("needs a block device before the path; write LABEL=USB:/path/of/root.oci")
    if not path:
        raise ValueError(f"needs a file on the block device; write {redact_value(device)}:/path/of/root.oci")
    return DeviceArchive(device=device, path=f"/{path}", source_text=redact_value(text))


def _nfs(text: str, scheme: str) -> HandlerArchive:
    server, separator, path = text[len(scheme) + 1 :].partition(":/")
    if not separator or not server or path.endswith("/") or not path.partition(":")[0]:
        raise ValueError(f"needs a server and a file; write {scheme.lower()}:SERVER:/path/of/root.oci")
    return HandlerArchive(
        url=scheme.lower() + text[len(scheme) :], scheme=scheme.lower(), source_text=redact_value(text)
    )


def _url(text: str, scheme: str, rest: str) -> SourceSpec:
    if scheme == "docker":
        return RegistryImage(reference=rest, source_text=redact_value(text))
    if scheme == "nfs4":
        raise ValueError("is not the form for NFS version 4; write nfs4:SERVER:/path/of/root.oci")
    if scheme not in {"http", "https", "ftp", "tftp", "nfs", "torrent"}:
        raise ValueError(
            f"uses the unknown scheme {scheme}://; use docker://, http://, https://, ftp://, tftp://, nfs://, "
            "torrent:// or an absolute path"
        )
    # A torrent may contain another URL: torrent://https://HOST/FILE.torrent
    server = re.sub(r"\A[A-Za-z]+://", "", rest) if scheme == "torrent" else rest
    # NFS URLs often contain the ":" that mount expects before the path.
    server = server.replace(":/", "/", 1) if scheme == "nfs" else server
    host = _SERVER.match(server)
    if host is None:
        raise ValueError(f"needs a server with a valid port; write {scheme}://HOST[:PORT]/path/of/root.oci")
    # url-lib compares schemes case-sensitively.
    url = f"{scheme}://{rest}"
    if scheme in {"http", "https"}:
        kind = WebPointer if re.split(r"[?#]", rest, maxsplit=1)[0].endswith(".json") else WebArchive
        return kind(url=url, source_text=redact_value(text))
    if len(server) - host.end() < 2:
        raise ValueError(f"needs a file on the server; write {scheme}://HOST[:PORT]/path/of/root.oci")
    return HandlerArchive(url=url, scheme=scheme, source_text=redact_value(text))
