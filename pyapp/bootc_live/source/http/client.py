"""Send all HTTP and HTTPS requests, with the configured trust, proxies and limits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from bootc_live.base.errors import SourceError
from bootc_live.base.redact import redact
from bootc_live.source.access import Access
from bootc_live.source.http.body import read_body
from bootc_live.source.http.connections import RequestAdapter, SocketSet
from bootc_live.source.http.errors import unreachable
from bootc_live.source.http.proxies import host_of, proxy_for, without_login
from bootc_live.source.http.ranges import check_response
from bootc_live.source.http.trust import Trust, TrustError
from bootc_live.source.retry import Retries

_MOST_REDIRECTS = 10
# Twice the length that all software should support (RFC 9110, 4.1): signed addresses are long.
_LONGEST_TARGET = 16000
_AGENT = "bootc-live"
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# The only headers for servers that a redirect names.
_FOR_ALL = ("Accept", "If-Range", "Range")
Send = Callable[[str, dict[str, str]], requests.Response]
Origin = tuple[str, str | None, int | None]


class HttpClient:
    """Sends the requests for one source, ``source_text``. Use ``http_client``."""

    def __init__(self, access: Access, source_text: str, adapter: RequestAdapter, sockets: SocketSet) -> None:
        """Use an adapter and its sockets."""
        self.access = access
        self.source_text = source_text
        self._adapter = adapter
        self._sockets = sockets
        self.retries = Retries(access.policy, source_text, access.tell, sockets.sleep)

    def interrupt(self) -> None:
        """End all transfers: threads that wait for bytes get SourceError."""
        self._sockets.shut_down()

    @contextmanager
    def get(
        self, url: str, headers: dict[str, str], start: int = 0, end: int | None = None, send: Send | None = None
    ) -> Iterator[requests.Response]:
        """Request a URL from byte ``start`` to before ``end``, and return the response with an unread body.

        The response to a range is a part with the first byte (206) or the whole file (200); raise SourceError for
        others.
        """
        headers = dict(headers)
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{end - 1 if end is not None else ''}"
        try:
            response = (send or self.send)(url, headers)
        except TrustError as error:
            raise SourceError(f"cannot fetch {self.source_text!r}: {error.message}", hint=error.hint) from error
        except (requests.RequestException, ValueError) as error:
            raise self.failure(url, error) from error
        with closing(response):
            check_response(self.source_text, url, response, start if "Range" in headers else None)
            yield response

    def send(
        self, url: str, headers: dict[str, str], *, checked: bool = True, plain: bool = False
    ) -> requests.Response:
        """Request a URL and follow redirects; raise RequestException, ValueError and SourceError.

        Headers with secrets and unverified certificates apply only to the origin of the URL: after a redirect to
        another origin they are not used any more, not even for the first origin. See ``from_requested_origin``.
        ``plain`` allows redirects from HTTPS to HTTP: only for content with a digest, and never with a login.
        """
        hops: list[requests.Response] = []
        at_origin = True
        first = target = normal_url(url)
        protected = first.startswith("https:") and (not plain or "Authorization" in headers)
        while True:
            allowed = headers if at_origin else {name: headers[name] for name in _FOR_ALL if name in headers}
            response = self.send_once("GET", target, allowed, checked=checked or not at_origin)
            response.history = hops
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                return response
            # The body is not read, whatever its length.
            response.close()
            if len(hops) == _MOST_REDIRECTS:
                raise requests.TooManyRedirects(request=response.request)
            hops = [*hops, response]
            # Servers write UTF-8, which http.client decodes as Latin-1.
            target = normal_url(urljoin(target, location.encode("latin-1", "replace").decode("utf-8", "replace")))
            if len(target) > _LONGEST_TARGET:
                raise ValueError(f"it redirects to a URL of {len(target)} characters")
            if protected and target.startswith("http:"):
                raise SourceError(
                    f"{redact(first)} (for {self.source_text!r}) redirects from HTTPS to plain HTTP",
                    hint="correct the server: a manifest, or a request with a login, must not travel unprotected",
                )
            at_origin = at_origin and origin_of(target) == origin_of(response.url)

    def send_once(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        *,
        parameters: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
        checked: bool = True,
    ) -> requests.Response:
        """Send one request with these headers only, and return its response, which can be a redirect.

        ``parameters`` are added to the query of the URL, ``form`` is the body. Raise RequestException, ValueError and
        SourceError.
        """
        request = requests.PreparedRequest()
        request.prepare_method(method)
        request.url = normal_url(url, parameters)
        # identity: digests are those of the stored bytes, not of a proxy's encoding.
        request.prepare_headers({"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": _AGENT, **headers})
        request.prepare_body(form or None, None)
        return self._adapter.send(request, verify=checked)

    def failure(self, url: str, error: Exception) -> SourceError:
        """Return the error for a request without a response."""
        proxy = proxy_for(url, self.access.proxies)
        return unreachable(
            self.source_text, url, error, host_of(proxy) if proxy else None, unsecure=self.access.unsecure
        )

    def body(self, response: requests.Response, expected: int | None = None) -> Iterator[bytes]:
        """Yield the body of a response; raise TransientError. See ``read_body``."""
        host = host_of(response.url)

        def arrived(count: int) -> None:
            self.access.traffic.add(host, count)

        begin = getattr(response.raw, "begin_chunk", None)
        return read_body(response, self.source_text, self.access.policy.limits.stall, arrived, expected, begin=begin)


@contextmanager
def http_client(access: Access, source_text: str) -> Iterator[HttpClient]:
    """Open a client for a source; its connections close with the block."""
    with ExitStack() as stack:
        sockets = SocketSet()
        # Our own messages report unverified servers.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        adapter = RequestAdapter(sockets, Trust(access.host_config), access.proxies, access.policy.limits.stall)
        stack.callback(adapter.close)
        client = HttpClient(access, source_text, adapter, sockets)
        # Ends even transfers that never stall.
        end = threading.Timer(access.policy.limits.total, sockets.shut_down)
        end.daemon = True
        stack.callback(end.cancel)
        end.start()
        yield client


def normal_url(url: str, parameters: dict[str, str] | None = None) -> str:
    """Return the URL as it will be requested, so that all checks see the same one; raise RequestException."""
    request = requests.PreparedRequest()
    # Logins are sent in a header only.
    request.prepare_url(without_login(url), parameters)
    if request.url is None or urlsplit(request.url).scheme not in _PORTS:
        raise requests.exceptions.InvalidSchema("it is neither http: nor https:", request=request)
    return request.url


def origin_of(url: str) -> Origin:
    """Return scheme, host and port of a URL (RFC 6454, 4); raise ValueError."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def from_requested_origin(response: requests.Response) -> bool:
    """Return whether no redirect led to another origin; only then a request for a login is answered."""
    return len({origin_of(hop.url) for hop in (*response.history, response)}) == 1
