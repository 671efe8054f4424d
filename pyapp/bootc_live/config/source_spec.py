"""The grammar of ``root=bootc-live:…``: where an image comes from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bootc_live.base.redact import redact_value

ROOT_PREFIX = "bootc-live:"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"(?:[^\s/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(?::[0-9]{1,5})?(?=[/?#]|\Z)")
# The forms that mount and nfsroot= know besides the URL of RFC 2224: nfs[4]:[OPTIONS:]SERVER:/PATH
_NFS = re.compile(r"(nfs4?):(?!//)(?=.)", re.IGNORECASE)
_TAG = re.compile(r"(LABEL|UUID|PARTLABEL|PARTUUID)=")
# Files in memory and open files have names below /dev too.
_DEVICE = re.compile(r"/dev/(?!(?:shm|fd)/|stdin\Z)")


@dataclass(frozen=True)
class ArchiveFile:
    """An archive (OCI or docker, plain or compressed) or an OCI layout directory at an absolute path."""

    path: str
    typed: str


@dataclass(frozen=True)
class RegistryImage:
    """An image in a registry; ``reference`` has no ``docker://`` in front."""

    reference: str
    typed: str


@dataclass(frozen=True)
class WebArchive:
    """An archive behind an http or https URL, which may hold secrets."""

    url: str = field(repr=False)
    typed: str


@dataclass(frozen=True)
class HandlerArchive:
    """An archive that a handler of dracut's url-lib fetches; ``scheme`` is what handlers are known by."""

    url: str = field(repr=False)
    scheme: str
    typed: str


@dataclass(frozen=True)
class DeviceArchive:
    """An archive or layout directory at ``path`` of the file system on a block device.

    ``device`` is as written: ``LABEL=USB`` or ``/dev/sda1``.
    """

    device: str
    path: str
    typed: str


@dataclass(frozen=True)
class HandedImage:
    """An OCI layout directory that the kernel before this one left; what it lacks is taken from ``rest``.

    ``rest`` is None where it lacks nothing.
    """

    path: str
    rest: SourceSpec | None
    typed: str


SourceSpec = ArchiveFile | RegistryImage | WebArchive | HandlerArchive | DeviceArchive | HandedImage


def is_remote(spec: SourceSpec) -> bool:
    """Tell whether a source is reached over the network."""
    return isinstance(spec, RegistryImage | WebArchive | HandlerArchive)


def parse_source(text: str) -> SourceSpec:
    """Read a source as it stands after ``root=bootc-live:``.

    Raises ValueError with the reason, meant to follow the quoted argument.
    """
    if _TAG.match(text) or _DEVICE.match(text):
        return _device(text)
    if text.startswith("/"):
        return ArchiveFile(path=text, typed=redact_value(text))
    nfs = _NFS.match(text)
    if nfs is not None:
        return _nfs(text, nfs[1])
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise ValueError("is neither an absolute path nor a URL such as docker://registry.example/os:stable")
    return _url(text, scheme[1].lower(), text[scheme.end() :])


def _device(text: str) -> DeviceArchive:
    # A label and a name below /dev/disk/by-path may hold ":", a label even "/"; a directory
    # whose name ends in ":" is what hardly anybody has. So the last ":/" is the border.
    device, border, path = text.rpartition(":/")
    if not border:
        raise ValueError(
            f"names a block device but no absolute path on it; write {text.partition(':')[0]}:/path/of/root.oci"
        )
    if device.endswith("=") or device == "/dev/":
        raise ValueError("names no block device before the path; write LABEL=USB:/path/of/root.oci")
    if not path:
        raise ValueError(f"names no file on the block device; write {redact_value(device)}:/path/of/root.oci")
    return DeviceArchive(device=device, path=f"/{path}", typed=redact_value(text))


def _nfs(text: str, scheme: str) -> HandlerArchive:
    server, border, path = text[len(scheme) + 1 :].partition(":/")
    if not border or not server or path.endswith("/") or not path.partition(":")[0]:
        raise ValueError(f"does not name a server and a file; write {scheme.lower()}:SERVER:/path/of/root.oci")
    return HandlerArchive(url=scheme.lower() + text[len(scheme) :], scheme=scheme.lower(), typed=redact_value(text))


def _url(text: str, scheme: str, rest: str) -> SourceSpec:
    if scheme == "docker":
        return RegistryImage(reference=rest, typed=redact_value(text))
    if scheme == "nfs4":
        raise ValueError("is not how NFS version 4 is written; write nfs4:SERVER:/path/of/root.oci")
    if scheme not in {"http", "https", "ftp", "tftp", "nfs", "torrent"}:
        raise ValueError(
            f"uses the unknown scheme {scheme}://; use docker://, http://, https://, ftp://, tftp://, nfs://, "
            "torrent:// or an absolute path"
        )
    # A torrent may be named by a URL of its own: torrent://https://HOST/FILE.torrent
    server = re.sub(r"\A[A-Za-z]+://", "", rest) if scheme == "torrent" else rest
    # NFS is often written with the ":" of mount before the path.
    server = server.replace(":/", "/", 1) if scheme == "nfs" else server
    host = _HOST.match(server)
    if host is None:
        raise ValueError(f"names no server, or one with a damaged port; write {scheme}://HOST[:PORT]/path/of/root.oci")
    # Handlers of url-lib are found by comparing letters.
    url = f"{scheme}://{rest}"
    if scheme in {"http", "https"}:
        return WebArchive(url=url, typed=redact_value(text))
    if len(server) - host.end() < 2:
        raise ValueError(f"names no file on the server; write {scheme}://HOST[:PORT]/path/of/root.oci")
    return HandlerArchive(url=url, scheme=scheme, typed=redact_value(text))
