"""An image in a registry (OCI distribution specification 1.1).

oras-py does authentication and requests; its download functions check no
digests, so bodies are streamed from here and verified by the image stage.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import closing, contextmanager

import requests
from oras.provider import Registry

from bootc_live.base.errors import SourceError
from bootc_live.source.connections import PatientAdapter, Sockets, check_authorities
from bootc_live.source.descriptor import Descriptor, check_digest
from bootc_live.source.interface import CHUNK, MANIFEST_LIMIT, TopManifest
from bootc_live.source.reference import Reference, parse_reference
from bootc_live.source.trust_store import EXTRA_DIRECTORY, ca_bundle, extra_authorities

ACCEPT = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"
)
_CONNECTIONS = 16


class RegistrySource:
    """One image in a registry; see ``Source``. Use ``open_registry``."""

    def __init__(self, client: Registry, sockets: Sockets, reference: Reference, typed: str, *, insecure: bool) -> None:
        """Take a client that is ready to ask, and the sockets it uses."""
        self.typed = typed
        self.insecure = insecure
        self._client = client
        self._sockets = sockets
        self._reference = reference

    def top(self) -> TopManifest:
        """Fetch the manifest or index of the tag or digest."""
        with self._get("manifests", self._reference.target, ACCEPT) as response:
            content = b"".join(_limited(self._body(response), self.typed))
            media_type = str(response.headers.get("Content-Type", "")).partition(";")[0].strip()
            # What a tag stands for is the registry's word; that it arrived whole can be checked at least.
            digest = self._reference.digest or _header_digest(response)
        return TopManifest(content=content, media_type=media_type, digest=digest)

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a manifest by digest."""
        with self._get("manifests", descriptor.digest, ACCEPT) as response:
            yield self._body(response)

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        """Open a blob by digest."""
        with self._get("blobs", descriptor.digest, "*/*") as response:
            yield self._body(response)

    def interrupt(self) -> None:
        """End all transfers: who waits for bytes gets SourceError."""
        self._sockets.shut()

    @contextmanager
    def _get(self, kind: str, target: str, accept: str) -> Iterator[requests.Response]:
        url = f"{self._client.prefix}://{self._reference.host}/v2/{self._reference.repository}/{kind}/{target}"
        # identity: a digest is over the bytes as stored, not as a proxy re-encodes them.
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        try:
            response = _request(self._client, url, headers)
        except (requests.RequestException, ValueError) as error:
            raise _unreachable(self.typed, url, error) from error
        with closing(response):
            if response.status_code != 200:
                raise _refused(self.typed, url, response)
            yield response

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        try:
            yield from response.raw.stream(CHUNK, decode_content=False)
        except (OSError, requests.RequestException, _urllib3_error()) as error:
            raise SourceError(
                f"the transfer from {response.url} for {self.typed!r} broke off: {_reason(error)}",
                hint="check the network and the registry, then boot again",
            ) from error


@contextmanager
def open_registry(
    reference: str, typed: str, *, unsecure: bool, certificates: str = EXTRA_DIRECTORY
) -> Iterator[RegistrySource]:
    """Make a source of a reference without ``docker://``; connections close with the block.

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
            yield RegistrySource(client, sockets, parsed, typed, insecure=unsecure)


def _request(client: Registry, url: str, headers: dict[str, str]) -> requests.Response:
    # oras-py wraps its requests in a retry that sleeps two minutes, even over a refused login.
    plain = inspect.unwrap(Registry.do_request)
    response: requests.Response = plain(client, url, headers=headers, stream=True)
    return response


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


def _urllib3_error() -> type[Exception]:
    from urllib3.exceptions import HTTPError

    return HTTPError


def _unreachable(typed: str, url: str, error: Exception) -> SourceError:
    if isinstance(error, requests.RequestException) and error.request is not None and error.request.url:
        # It may have been the token service that did not answer.
        url = error.request.url
    if isinstance(error, requests.exceptions.SSLError) and "WRONG_VERSION_NUMBER" in _reason(error):
        # What OpenSSL makes of an answer that is no TLS at all.
        return SourceError(
            f"{url} (for {typed!r}) does not speak TLS",
            hint="if the registry speaks plain HTTP, on a network you trust, set bootc.registry.unsecure",
        )
    if isinstance(error, requests.exceptions.SSLError):
        hint = (
            "put the registry's CA certificate into /etc/bootc-live/certs.d of the initramfs, check the clock, or, "
            "on a network you trust, set bootc.registry.unsecure"
        )
        return SourceError(f"{url} (for {typed!r}) failed the TLS check: {_reason(error)}", hint=hint)
    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return SourceError(f"{url} (for {typed!r}) asks for a login", hint="use a registry that allows anonymous pulls")
    return SourceError(
        f"cannot reach {url} (for {typed!r}): {_reason(error)}",
        hint="check the name, the port, the network (ip=) and bootc.registry.unsecure for plain HTTP",
    )


def _refused(typed: str, url: str, response: requests.Response) -> SourceError:
    hints = {
        401: "use a repository that may be pulled without a login: this version cannot log in",
        403: "use a repository that may be pulled without a login: this version cannot log in",
        404: "check the repository and the tag or digest; the registry does not have it",
    }
    hint = hints.get(response.status_code, "check the registry, then boot again")
    return SourceError(f"{url} (for {typed!r}) answered {response.status_code} {response.reason}", hint=hint)


def _reason(error: BaseException) -> str:
    """Give the innermost cause: the outer layers only say where it passed through."""
    while True:
        inner = error.__cause__ or error.__context__
        reason = getattr(error, "reason", None)
        if isinstance(reason, BaseException):
            error = reason
        elif inner is not None:
            error = inner
        else:
            break
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text)
