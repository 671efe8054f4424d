"""Fetch an image from a registry (OCI distribution specification 1.1) and its mirrors."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

import requests

from bootc_live.base.errors import SourceError
from bootc_live.config.host.routes import Endpoint, Route, with_mirrors
from bootc_live.config.source_spec import RegistryImage
from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.descriptor import Descriptor, check_digest
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT
from bootc_live.formats.oci.reference import Reference, parse_reference
from bootc_live.source.access import Access
from bootc_live.source.http.body import decode_document, read_limited
from bootc_live.source.http.client import HttpClient, http_client
from bootc_live.source.http.errors import NotFoundError
from bootc_live.source.http.ranges import RangeReader
from bootc_live.source.interface import TopManifest, entries_of_index
from bootc_live.source.registry.server import RegistryServer
from bootc_live.source.retry import TransientError

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
_INDEX = "application/vnd.oci.image.index.v1+json"
# The share of a source's total time after which the registry comes before its mirrors.
_SHARE_OF_MIRRORS = 0.5
# A server that failed comes last for this time, in seconds.
_AVOIDED = 60.0
# Blobs of this size are shared out between mirrors.
_LARGE = 2**20


class RegistrySource:
    """One image in a registry; see ``Source``. Use ``open_registry``."""

    def __init__(
        self, http: HttpClient, reference: Reference, servers: Sequence[RegistryServer], alike: int = 0
    ) -> None:
        """Try ``servers`` in their order; the last one is the registry itself.

        The first ones, ``alike`` of them, get about the same number of bytes of large blobs to send.
        """
        self.source_text = http.source_text
        self.insecure = any(server.insecure for server in servers)
        self._http = http
        self._pinned = reference.digest or http.access.pin
        self._target = self._pinned or reference.tag
        self._servers = servers
        self._lock = threading.Lock()
        self._failed_at: dict[RegistryServer, float] = {}
        # The bytes of large blobs that each of the first servers was asked for.
        self._load = dict.fromkeys(servers[:alike], 0)
        self._served: dict[str, list[RegistryServer]] = {}
        # Blobs joined from several responses, and those of them that were wrong.
        self._joined: set[str] = set()
        self._not_joined: set[str] = set()
        self._distrusted: set[RegistryServer] = set()

    def top(self) -> TopManifest:
        """Fetch the manifest or index of the tag or digest."""
        return self._http.retries.run(self._candidates(by_digest=self._pinned is not None), self._top)

    def _top(self, server: RegistryServer) -> TopManifest:
        with self._recording_failures(server), server.get("manifests", self._target, ACCEPT) as response:
            encoded = read_limited(self._within_share(server, self._http.body(response)))
            # The digest defines pinned bytes, whatever their Content-Type.
            claimed = "" if self._pinned else str(response.headers.get("Content-Type", ""))
            # For a tag, the registry's digest at least detects transfer errors.
            digest = self._pinned or _header_digest(response)
        try:
            content = self._decode(encoded)
        except SourceError as error:
            if server is self._servers[-1]:
                raise
            raise self._distrust(server, f"no manifest: {error.message}") from error
        if server is not self._servers[-1] and (wrong := self._wrong_content(content, digest)):
            raise self._distrust(server, wrong)
        served_by = str(server) if len(self._servers) > 1 else None
        media_type = claimed.partition(";")[0].strip().lower()
        return TopManifest(content=content, media_type=media_type, digest=digest, served_by=served_by)

    def _wrong_content(self, content: bytes, digest: str | None) -> str | None:
        """Return a description of content that cannot be the requested manifest, else None."""
        if self._pinned:
            return None if _has_digest(content, self._pinned) else f"another manifest than {self._pinned}"
        try:
            document = read_json(content)
            if not isinstance(document, dict):
                return "no manifest: it is no JSON object"
            if not any(isinstance(document.get(name), list) for name in ("manifests", "layers")):
                return "no manifest: it lists neither manifests nor layers"
        except ValueError as error:
            return f"no manifest: {error}"
        if digest is not None and not _has_digest(content, digest):
            return f"another manifest than {digest} in its Docker-Content-Digest"
        return None

    def _distrust(self, server: RegistryServer, sent: str) -> SourceError:
        """Stop using a mirror, and return the error that explains it."""
        with self._lock:
            self._distrusted.add(server)
        return SourceError(f"{server} sent {sent}", hint="check that mirror")

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a manifest by digest."""
        yield iter([self._document("manifests", descriptor, ACCEPT)])

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob by digest."""
        if descriptor.media_type.endswith("+json"):
            yield iter([self._document("blobs", descriptor, "*/*")])
            return
        with self._open("blobs", descriptor, "*/*") as chunks:
            yield chunks

    def _document(self, kind: str, descriptor: Descriptor, accept: str) -> bytes:
        """Return a document by digest; after wrong content, try the next server. Raise SourceError.

        The caller verifies the content of the last server.
        """
        while True:
            with self._open(kind, descriptor, accept) as chunks:
                encoded = read_limited(chunks)
            content, failure = b"", None
            try:
                content = self._decode(encoded)
            except SourceError as error:
                failure = error
            if failure is None and _has_digest(content, descriptor.digest):
                return content
            server = self.served_by(descriptor) or self._servers[-1]
            if not self.distrust(descriptor):
                if failure is not None:
                    raise failure
                return content
            reason = f": {failure.message}" if failure is not None else ""
            self._http.access.tell(
                f"{server} sent wrong content for {descriptor.digest}{reason}; continuing without that server"
            )

    def signature_manifests(self, digest: str) -> Iterator[bytes]:
        """Yield manifests of signatures: cosign's tag, and what refers to the image (distribution-spec, referrers)."""
        tag = digest.replace(":", "-")
        signed = self._optional("manifests", f"{tag}.sig", ACCEPT)
        if signed is not None:
            yield signed
        index = self._optional("referrers", digest, _INDEX) or self._optional("manifests", tag, _INDEX)
        for entry in [] if index is None else entries_of_index(index):
            if entry.size <= MANIFEST_LIMIT:
                yield self._document("manifests", entry, ACCEPT)

    def _optional(self, kind: str, target: str, accept: str) -> bytes | None:
        """Return a document that is not verified, None if no server has it; raise SourceError."""

        def request(server: RegistryServer) -> bytes:
            with self._recording_failures(server), server.get(kind, target, accept) as response:
                return self._decode(read_limited(self._within_share(server, self._http.body(response))))

        try:
            return self._http.retries.run(self._candidates(by_digest=False), request)
        except NotFoundError:
            return None

    def _decode(self, content: bytes) -> bytes:
        return decode_document(content, f"a manifest for {self.source_text!r}")

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return bytes of a blob by one request to the first server; raise SourceError."""
        server = self._candidates(by_digest=True)[0]
        return self._range_reader(server, "blobs", descriptor, "*/*", whole=False).read(offset, length)

    def served_by(self, descriptor: Descriptor) -> str | None:
        """Return the servers that sent bytes of a blob, or None if there is only one server."""
        with self._lock:
            names = dict.fromkeys(str(server) for server in self._served.get(descriptor.digest, []))
        return " and ".join(names) if len(self._servers) > 1 and names else None

    def distrust(self, descriptor: Descriptor) -> bool:
        """Stop using the mirrors that sent bytes of a wrong blob; return whether to try again.

        A blob joined from several responses is fetched again in one, because the parts may not have matched.
        """
        with self._lock:
            mirrors = set(self._served.get(descriptor.digest, [])) - {self._servers[-1]}
            self._distrusted |= mirrors
            joined = descriptor.digest in self._joined - self._not_joined
            if joined:
                self._not_joined.add(descriptor.digest)
            again = bool(mirrors) or joined
            # Without another try, the error still has to name the servers.
            if again:
                self._served.pop(descriptor.digest, None)
        return again

    def interrupt(self) -> None:
        """End all transfers: threads that wait for bytes get SourceError."""
        self._http.interrupt()

    def _range_reader(
        self, server: RegistryServer, kind: str, descriptor: Descriptor, accept: str, *, whole: bool = True
    ) -> RangeReader:
        @contextmanager
        def request(start: int, end: int | None) -> Iterator[requests.Response]:
            with server.get(kind, descriptor.digest, accept, start, end) as response:
                if whole:
                    self._record_served(descriptor.digest, server)
                yield response

        ranges = descriptor.digest not in self._not_joined
        return RangeReader(request, self._http.body, self.source_text, ranges=ranges, whole=whole)

    @contextmanager
    def _open(self, kind: str, descriptor: Descriptor, accept: str) -> Iterator[Iterator[bytes]]:
        readers: dict[RegistryServer, RangeReader] = {}

        @contextmanager
        def open_from(server: RegistryServer, start: int) -> Iterator[Iterator[bytes]]:
            if start:
                with self._lock:
                    self._joined.add(descriptor.digest)
            reader = readers.setdefault(server, self._range_reader(server, kind, descriptor, accept))
            with self._recording_failures(server), closing(reader.chunks(start, descriptor.size)) as chunks:
                yield self._within_share(server, chunks)

        servers = self._in_turns(self._candidates(by_digest=True), descriptor.size)
        with closing(self._http.retries.stream(servers, open_from, descriptor.size)) as chunks:
            yield chunks

    def _in_turns(self, servers: Sequence[RegistryServer], size: int) -> list[RegistryServer]:
        """Return the servers for a blob: of the first ones that are alike, the one with the least load comes first."""
        alike = list(itertools.takewhile(self._load.__contains__, servers))
        with self._lock:
            if len(alike) < 2 or size < _LARGE:
                return list(servers)
            first = min(alike, key=self._load.__getitem__)
            self._load[first] += size
        return [first, *(server for server in servers if server is not first)]

    def _candidates(self, *, by_digest: bool) -> list[RegistryServer]:
        """Return the servers for a request, with those that failed recently at the end."""
        unfit = "tag-only" if self._pinned else "" if by_digest else "digest-only"
        now = time.monotonic()
        with self._lock:
            left = [server for server in self._servers if server not in self._distrusted]
            avoided = {server for server, when in self._failed_at.items() if now - when < _AVOIDED}
        if self._share_is_used():
            avoided.update(server for server in left if server.mirror)
        return sorted((server for server in left if server.endpoint.pull != unfit), key=avoided.__contains__)

    def _within_share(self, server: RegistryServer, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks; raise TransientError when a mirror uses up the mirrors' share of the time.

        A transfer that starts later continues: the registry has failed before.
        """
        began_late = self._share_is_used()
        for chunk in chunks:
            yield chunk
            if server.mirror and not began_late and self._share_is_used():
                raise TransientError(f"{server} is too slow for {self.source_text!r}", hint="check that mirror")

    def _share_is_used(self) -> bool:
        return self._http.retries.elapsed() >= self._http.access.policy.limits.total * _SHARE_OF_MIRRORS

    @contextmanager
    def _recording_failures(self, server: RegistryServer) -> Iterator[None]:
        try:
            yield
        except TransientError:
            with self._lock:
                self._failed_at[server] = time.monotonic()
            raise

    def _record_served(self, digest: str, server: RegistryServer) -> None:
        with self._lock:
            served = self._served.setdefault(digest, [])
            if server not in served:
                served.append(server)


@contextmanager
def open_registry(spec: RegistryImage, access: Access) -> Iterator[RegistrySource]:
    """Open an image in a registry; connections close with the block. Raise SourceError and ConfigError."""
    try:
        reference = parse_reference(spec.reference)
    except ValueError as error:
        raise SourceError(
            f"{spec.source_text!r} is not an image reference: {error}",
            hint="write docker://REGISTRY[:PORT]/NAME[:TAG][@sha256:DIGEST]",
        ) from error
    route = access.host_config.rules.resolve(reference.registry, reference.repository)
    if route.blocked:
        raise SourceError(
            f"{spec.source_text!r} is blocked by the rule for {route.prefix!r} in registries.yaml",
            hint="use another image, or remove the rule",
        )
    named = with_mirrors(Route(blocked=False, origin=route.origin), access.mirrors, reference.repository).mirrors
    ruled = [endpoint for endpoint in route.mirrors if endpoint not in named]
    identity = access.host_config.identity if named or ruled else ""
    order = [*order_for_host(named, identity), *order_for_host(ruled, identity), route.origin]
    with http_client(access, spec.source_text) as http:
        servers = [RegistryServer(http, endpoint, mirror=endpoint is not route.origin) for endpoint in order]
        yield RegistrySource(http, reference, servers, len(named) or len(ruled))


def order_for_host(endpoints: Iterable[Endpoint], identity: str) -> list[Endpoint]:
    """Return the endpoints in the order for the host with this identity, which never changes.

    Rendezvous hashing distributes the hosts of a failed mirror evenly over the others, and moves only the necessary
    hosts when mirrors are added or removed.
    """

    def weight(endpoint: Endpoint) -> bytes:
        return hashlib.sha256(f"{identity}\0{endpoint.host}\0{endpoint.repository}".encode()).digest()

    return sorted(endpoints, key=weight)


def _has_digest(content: bytes, digest: str) -> bool:
    algorithm, _, encoded = digest.partition(":")
    return hashlib.new(algorithm, content).hexdigest() == encoded


def _header_digest(response: requests.Response) -> str | None:
    try:
        return check_digest(response.headers.get("Docker-Content-Digest"))
    except ValueError:
        return None
