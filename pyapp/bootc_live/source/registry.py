"""An image in a registry (OCI distribution specification 1.1).

oras-py does authentication and requests; its download functions check no
digests, so bodies are streamed from here and verified by the image stage.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http import HTTPStatus

import requests
from oras.provider import Registry

from bootc_live.base.errors import SourceError
from bootc_live.source.connections import PatientAdapter, Sockets, check_authorities
from bootc_live.source.descriptor import Descriptor, check_digest
from bootc_live.source.http_errors import BROKEN, broken_off, refused, unreachable
from bootc_live.source.interface import CHUNK, MANIFEST_LIMIT, TopManifest
from bootc_live.source.reference import Reference, parse_reference
from bootc_live.source.retry import DEFAULT_POLICY, Persistence, RetryPolicy, skipped
from bootc_live.source.trust_store import EXTRA_DIRECTORY, ca_bundle, extra_authorities

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
_CONNECTIONS = 16


def _keep_quiet(_message: str) -> None:
    return


class RegistrySource:
    """One image in a registry; see ``Source``. Use ``open_registry``."""

    def __init__(
        self,
        client: Registry,
        sockets: Sockets,
        reference: Reference,
        typed: str,
        persistence: Persistence,
        *,
        insecure: bool,
    ) -> None:
        """Take a client that is ready to ask, the sockets it uses, and how often to try."""
        self.typed = typed
        self.insecure = insecure
        self._client = client
        self._sockets = sockets
        self._reference = reference
        self._persistence = persistence

    def top(self) -> TopManifest:
        """Fetch the manifest or index of the tag or digest."""
        return self._persistence.insist(self._top)

    def _top(self) -> TopManifest:
        with self._get("manifests", self._reference.target, ACCEPT) as response:
            content = b"".join(_limited(self._body(response), self.typed))
            media_type = str(response.headers.get("Content-Type", "")).partition(";")[0].strip()
            # What a tag stands for is the registry's word; that it arrived whole can be checked at least.
            digest = self._reference.digest or _header_digest(response)
        return TopManifest(content=content, media_type=media_type, digest=digest)

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a manifest by digest."""
        with self._open("manifests", descriptor, ACCEPT) as chunks:
            yield chunks

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob by digest."""
        with self._open("blobs", descriptor, "*/*") as chunks:
            yield chunks

    @contextmanager
    def _open(self, kind: str, descriptor: Descriptor, accept: str) -> Iterator[Iterator[bytes]]:
        def open_from(start: int) -> AbstractContextManager[Iterator[bytes]]:
            return self._open_from(kind, descriptor.digest, accept, start)

        with closing(self._persistence.resumed(open_from, descriptor.size)) as chunks:
            yield chunks

    @contextmanager
    def _open_from(self, kind: str, digest: str, accept: str, start: int) -> Iterator[Iterator[bytes]]:
        with self._get(kind, digest, accept, start) as response:
            body = self._body(response)
            # A server without ranges begins again; so do we, and pass over what has come before.
            yield skipped(body, start) if start and response.status_code != HTTPStatus.PARTIAL_CONTENT else body

    def interrupt(self) -> None:
        """End all transfers: who waits for bytes gets SourceError."""
        self._sockets.shut()

    @contextmanager
    def _get(self, kind: str, target: str, accept: str, start: int = 0) -> Iterator[requests.Response]:
        url = f"{self._client.prefix}://{self._reference.host}/v2/{self._reference.repository}/{kind}/{target}"
        # identity: a digest is over the bytes as stored, not as a proxy re-encodes them.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            response = _request(self._client, url, headers)
        except (requests.RequestException, ValueError) as error:
            raise unreachable(self.typed, url, error) from error
        with closing(response):
            if response.status_code != HTTPStatus.OK and not _continues(response, start):
                raise refused(self.typed, url, response)
            yield response

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(CHUNK, decode_content=False)
        except BROKEN as error:
            raise broken_off(self.typed, response.url, error) from error


@contextmanager
def open_registry(
    reference: str,
    typed: str,
    *,
    unsecure: bool,
    certificates: str = EXTRA_DIRECTORY,
    policy: RetryPolicy = DEFAULT_POLICY,
    tell: Callable[[str], None] = _keep_quiet,
) -> Iterator[RegistrySource]:
    """Make a source of a reference without ``docker://``; connections close with the block.

    Transfers are tried again as ``policy`` says, and ``tell`` hears of it.

    ``unsecure`` means plain HTTP, or HTTPS without checking certificates where
    the registry does not speak HTTP. Raises SourceError.
    """
    parsed = parse_reference(reference, typed)
    sockets = Sockets()
    if not unsecure:
        check_authorities(extra_authorities(certificates))
    with ca_bundle(certificates) as bundle:
        if bundle is None and not unsecure:
            raise SourceError(
                f"cannot fetch {typed!r}: there are no certificate authorities here to check its registry by",
                hint="install ca-certificates where the initramfs is built, put the registry's CA certificate into "
                f"{certificates}, or, on a network you trust, set bootc.registry.unsecure",
            )
        client = _client(parsed.host, sockets, insecure=False, verify=not unsecure and (bundle or True))
        if unsecure and not _speaks_https(client, parsed.host):
            client.session.close()
            client = _client(parsed.host, sockets, insecure=True, verify=False)
        with closing(client.session):
            persistence = Persistence(policy, tell, sockets.sleep)
            yield RegistrySource(client, sockets, parsed, typed, persistence, insecure=unsecure)


def _request(client: Registry, url: str, headers: dict[str, str]) -> requests.Response:
    # oras-py wraps its requests in a retry that sleeps two minutes, even over a refused login.
    plain = inspect.unwrap(Registry.do_request)
    had_token = getattr(client.auth, "token", None) is not None
    response: requests.Response = plain(client, url, headers=dict(headers), stream=True)
    if response.status_code == HTTPStatus.UNAUTHORIZED and had_token:
        # Tokens run out in the middle of long pulls; oras-py would show the old one for ever.
        response.close()
        client.auth.token = None
        response = plain(client, url, headers=dict(headers), stream=True)
    return response


def _continues(response: requests.Response, start: int) -> bool:
    """Tell an answer to a Range request that begins where it was asked to (RFC 9110, 14.4)."""
    begins = f"bytes {start}-"
    return (
        start > 0
        and response.status_code == HTTPStatus.PARTIAL_CONTENT
        and response.headers.get("Content-Range", "").startswith(begins)
    )


def _client(host: str, sockets: Sockets, *, insecure: bool, verify: bool | str) -> Registry:
    client = Registry(host, insecure=insecure, tls_verify=verify)
    adapter = PatientAdapter(sockets, _CONNECTIONS)
    client.session.mount("https://", adapter)
    client.session.mount("http://", adapter)
    # No .netrc; a CA bundle from the environment would override ours without a word.
    client.session.trust_env = False
    return client


def _speaks_https(client: Registry, host: str) -> bool:
    try:
        client.session.get(f"https://{host}/v2/", verify=False).close()
    except requests.exceptions.SSLError:
        return False
    except requests.RequestException:
        # Nothing there at all: the plain attempt gives the better message.
        return False
    return True


def _header_digest(response: requests.Response) -> str | None:
    try:
        return check_digest(response.headers.get("Docker-Content-Digest"))
    except ValueError:
        return None


def _limited(chunks: Iterator[bytes], typed: str) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > MANIFEST_LIMIT:
            raise SourceError(
                f"the registry answers {typed!r} with a manifest of more than {MANIFEST_LIMIT} bytes",
                hint="check that the reference names a container image",
            )
        yield chunk
