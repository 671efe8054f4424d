"""An image in a registry (OCI distribution specification 1.1), by its mirrors and the registry itself."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
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
from bootc_live.source.http.body import limited
from bootc_live.source.http.encoded import plain
from bootc_live.source.http.ranges import Asking, few
from bootc_live.source.http.web import Web, opened_web
from bootc_live.source.interface import TopManifest
from bootc_live.source.registry.place import Place
from bootc_live.source.registry.spread import spread
from bootc_live.source.retry import TransientError

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
# What part of the time for a source its mirrors may take together, before the registry is asked for the rest.
_SHARE_OF_MIRRORS = 0.5
# Seconds for which a place that failed is asked after all others.
_AVOIDED = 60.0


class RegistrySource:
    """One image in a registry; see ``Source``. Use ``open_registry``."""

    def __init__(self, web: Web, reference: Reference, typed: str, places: Sequence[Place]) -> None:
        """``places`` are in the order to ask them, the registry itself last."""
        self.typed = typed
        self.insecure = any(place.insecure for place in places)
        self._web = web
        self._target = reference.digest or web.access.pin or reference.tag
        self._by_digest = ":" in self._target
        self._pinned = reference.digest or web.access.pin
        self._places = places
        self._lock = threading.Lock()
        self._failed_at: dict[Place, float] = {}
        self._served: dict[str, list[Place]] = {}
        # Blobs that were put together from several answers, and those of them that were wrong then.
        self._joined: set[str] = set()
        self._unjoined: set[str] = set()
        self._liars: set[Place] = set()

    def top(self) -> TopManifest:
        """Fetch the manifest or index of the tag or digest."""
        return self._web.persistence.insist(self._ways(by_digest=self._by_digest), self._top)

    def _top(self, place: Place) -> TopManifest:
        with self._noting(place), place.get("manifests", self._target, ACCEPT) as response:
            arrived = _beginning(self._within_share(place, self._web.body(response, self.typed)))
            # What is said of bytes that are pinned does not count.
            claimed = "" if self._pinned else str(response.headers.get("Content-Type", ""))
            # What a tag stands for is the registry's word; that it arrived whole can be checked at least.
            digest = self._pinned or _header_digest(response)
        try:
            content = self._plain(arrived)
        except SourceError as error:
            if place is self._places[-1]:
                raise
            raise self._lied(place, f"no manifest: {error.message}") from error
        if place is not self._places[-1] and (given := self._given_instead(content, digest)):
            raise self._lied(place, given)
        whence = str(place) if len(self._places) > 1 else None
        media_type = claimed.partition(";")[0].strip().lower()
        return TopManifest(content=content, media_type=media_type, digest=digest, whence=whence)

    def _given_instead(self, content: bytes, digest: str | None) -> str | None:
        """Say what a mirror gave where it cannot be the manifest that was asked for."""
        if self._by_digest:
            return None if _has_digest(content, self._target) else f"another manifest than {self._target}"
        try:
            document = read_json(content)
            if not isinstance(document, dict):
                return "no manifest: it is no JSON object"
            if not any(isinstance(document.get(name), list) for name in ("manifests", "layers")):
                return "no manifest: it lists neither manifests nor layers"
        except ValueError as error:
            return f"no manifest: {error}"
        if digest is not None and not _has_digest(content, digest):
            return f"another manifest than {digest}, which its Docker-Content-Digest names"
        return None

    def _lied(self, place: Place, given: str) -> SourceError:
        """Ask a mirror no more; make the error that says why."""
        with self._lock:
            self._liars.add(place)
        return SourceError(f"{place} gave {given}", hint="check that mirror")

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
        """Fetch a document by digest, from the next place where one gives anything else; raise SourceError.

        What the last place gives is left for the reader to verify.
        """
        while True:
            with self._open(kind, descriptor, accept) as chunks:
                arrived = _beginning(chunks)
            content, unusable = b"", None
            try:
                content = self._plain(arrived)
            except SourceError as error:
                unusable = error
            if unusable is None and _has_digest(content, descriptor.digest):
                return content
            whence = self.whence(descriptor) or self._places[-1]
            if not self.distrust(descriptor):
                if unusable is not None:
                    raise unusable
                return content
            why = f": {unusable.message}" if unusable is not None else ""
            self._web.access.tell(
                f"{whence} gave something else than {descriptor.digest}{why}; going on without that place"
            )

    def _plain(self, arrived: bytes) -> bytes:
        """Return the document that arrived, out of gzip where it is in gzip; raise SourceError."""
        return plain(b"".join(limited(iter([arrived]), self.typed, "a manifest")), f"a manifest for {self.typed!r}")

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return bytes of a blob by one request to the first place; raise SourceError."""
        place = self._ways(by_digest=True)[0]
        return few(self._asking(place, "blobs", descriptor, "*/*", whole=False), offset, length)

    def whence(self, descriptor: Descriptor) -> str | None:
        """Name the places that gave bytes of a blob, where there was a choice."""
        with self._lock:
            served = self._served.get(descriptor.digest, [])
            names = dict.fromkeys(str(place) for place in served)
        return " and ".join(names) if len(self._places) > 1 and names else None

    def distrust(self, descriptor: Descriptor) -> bool:
        """Ask the mirrors that gave bytes of a blob no more, for these were wrong; tell whether to try again.

        What was put together from several answers is asked for in one then: it may be that they did not fit.
        """
        with self._lock:
            served = self._served.get(descriptor.digest, [])
            mirrors = set(served) - {self._places[-1]}
            self._liars |= mirrors
            joined = descriptor.digest in self._joined - self._unjoined
            if joined:
                self._unjoined.add(descriptor.digest)
            again = bool(mirrors) or joined
            # Where nobody else is asked, an error still has to say who gave them.
            if again:
                self._served.pop(descriptor.digest, None)
        return again

    def interrupt(self) -> None:
        """End all transfers: who waits for bytes gets SourceError."""
        self._web.interrupt()

    def _asking(self, place: Place, kind: str, descriptor: Descriptor, accept: str, *, whole: bool = True) -> Asking:
        @contextmanager
        def ask(start: int, end: int | None) -> Iterator[requests.Response]:
            with place.get(kind, descriptor.digest, accept, start, end) as response:
                if whole:
                    self._note_served(descriptor.digest, place)
                yield response

        def read(response: requests.Response, expected: int | None) -> Iterator[bytes]:
            return self._web.body(response, self.typed, expected)

        return Asking(ask, read, self.typed, parts=descriptor.digest not in self._unjoined, whole=whole)

    @contextmanager
    def _open(self, kind: str, descriptor: Descriptor, accept: str) -> Iterator[Iterator[bytes]]:
        askings: dict[Place, Asking] = {}

        @contextmanager
        def open_from(place: Place, start: int) -> Iterator[Iterator[bytes]]:
            if start:
                with self._lock:
                    self._joined.add(descriptor.digest)
            asking = askings.setdefault(place, self._asking(place, kind, descriptor, accept))
            with self._noting(place), closing(asking.pieces(start, descriptor.size)) as pieces:
                yield self._within_share(place, pieces)

        ways = self._ways(by_digest=True)
        with closing(self._web.persistence.resumed(ways, open_from, descriptor.size)) as chunks:
            yield chunks

    def _ways(self, *, by_digest: bool) -> list[Place]:
        """Return the places to ask, those that failed of late at the end."""
        unfit = "tag-only" if self._by_digest else "" if by_digest else "digest-only"
        now = time.monotonic()
        with self._lock:
            left = [place for place in self._places if place not in self._liars]
            avoided = {place for place, when in self._failed_at.items() if now - when < _AVOIDED}
        if self._mirrors_had_their_share():
            avoided.update(place for place in left if place.mirror)
        return sorted((place for place in left if place.endpoint.pull != unfit), key=avoided.__contains__)

    def _within_share(self, place: Place, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the pieces of an answer on; raise TransientError where a mirror takes the registry's time.

        A transfer that begins later is one that the registry was asked for in vain: it goes on.
        """
        began_late = self._mirrors_had_their_share()
        for chunk in chunks:
            yield chunk
            if place.mirror and not began_late and self._mirrors_had_their_share():
                raise TransientError(f"{place} is too slow for {self.typed!r}", hint="check that mirror")

    def _mirrors_had_their_share(self) -> bool:
        limit = self._web.access.policy.limits.total * _SHARE_OF_MIRRORS
        return self._web.persistence.spent() >= limit

    @contextmanager
    def _noting(self, place: Place) -> Iterator[None]:
        try:
            yield
        except TransientError:
            with self._lock:
                self._failed_at[place] = time.monotonic()
            raise

    def _note_served(self, digest: str, place: Place) -> None:
        with self._lock:
            served = self._served.setdefault(digest, [])
            if place not in served:
                served.append(place)


@contextmanager
def open_registry(spec: RegistryImage, access: Access) -> Iterator[RegistrySource]:
    """Open an image of a registry; connections close with the block. Raise SourceError and ConfigError."""
    try:
        reference = parse_reference(spec.reference)
    except ValueError as error:
        raise SourceError(
            f"{spec.typed!r} is not an image reference: {error}",
            hint="write docker://REGISTRY[:PORT]/NAME[:TAG][@sha256:DIGEST]",
        ) from error
    route = access.host_config.rules.resolve(reference.registry, reference.repository)
    if route.blocked:
        raise SourceError(
            f"{spec.typed!r} is blocked by the rule for {route.prefix!r} in registries.yaml",
            hint="name another image, or take the rule out",
        )
    named = with_mirrors(Route(blocked=False, origin=route.origin), access.mirrors, reference.repository).mirrors
    ruled = [endpoint for endpoint in route.mirrors if endpoint not in named]
    identity = access.host_config.identity if named or ruled else ""
    order: list[Endpoint] = [*spread(named, identity), *spread(ruled, identity), route.origin]
    with opened_web(access, spec.typed) as web:
        places = [Place(web, endpoint, spec.typed, mirror=endpoint is not route.origin) for endpoint in order]
        yield RegistrySource(web, reference, spec.typed, places)


def _beginning(chunks: Iterator[bytes]) -> bytes:
    """Join pieces, up to the one with which they are too many for a document."""
    pieces, total = [], 0
    for chunk in chunks:
        pieces.append(chunk)
        total += len(chunk)
        if total > MANIFEST_LIMIT:
            break
    return b"".join(pieces)


def _has_digest(content: bytes, digest: str) -> bool:
    algorithm, _, encoded = digest.partition(":")
    return hashlib.new(algorithm, content).hexdigest() == encoded


def _header_digest(response: requests.Response) -> str | None:
    try:
        return check_digest(response.headers.get("Docker-Content-Digest"))
    except ValueError:
        return None
