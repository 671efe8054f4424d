"""The only place that sends HTTP and HTTPS requests, with all that was said about trust, proxies and patience."""

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
from bootc_live.source.http.body import body
from bootc_live.source.http.connections import PatientAdapter, Sockets
from bootc_live.source.http.errors import unreachable
from bootc_live.source.http.proxies import proxy_for, shown_proxy, without_login
from bootc_live.source.http.ranges import check_answer
from bootc_live.source.http.trust import Trust, TrustError
from bootc_live.source.retry import Persistence

_MOST_REDIRECTS = 10
# Twice what everybody should understand (RFC 9110, 4.1): signed addresses are long.
_LONGEST_TARGET = 16000
_AGENT = "bootc-live"
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What a server that was not asked, but named by another, is told: nothing else, whatever it may be.
_FOR_ALL = ("Accept", "If-Range", "Range")
Send = Callable[[str, dict[str, str]], requests.Response]
Origin = tuple[str, str | None, int | None]


class Web:
    """Asks servers; all requests are sent from here. Use ``opened_web``."""

    def __init__(self, access: Access, typed: str, adapter: PatientAdapter, sockets: Sockets) -> None:
        """Take an adapter, and the sockets it uses."""
        self.access = access
        self._typed = typed
        self._adapter = adapter
        self._sockets = sockets
        self.persistence = Persistence(access.policy, typed, access.tell, sockets.sleep)

    def interrupt(self) -> None:
        """End all transfers: who waits for bytes gets SourceError."""
        self._sockets.shut()

    @contextmanager
    def get(
        self,
        url: str,
        typed: str,
        headers: dict[str, str],
        start: int = 0,
        end: int | None = None,
        send: Send | None = None,
    ) -> Iterator[requests.Response]:
        """Ask for a URL, from byte ``start`` up to before ``end``; returns the answer with its body still to be read.

        An answer to a range is a part that has its first byte (206) or the whole (200); raise SourceError for others.
        """
        asked = dict(headers)
        if start or end is not None:
            asked["Range"] = f"bytes={start}-{end - 1 if end is not None else ''}"
        try:
            response = (send or self.send)(url, asked)
        except TrustError as error:
            raise SourceError(f"cannot fetch {typed!r}: {error.message}", hint=error.hint) from error
        except (requests.RequestException, ValueError) as error:
            raise self.failure(typed, url, error) from error
        with closing(response):
            check_answer(typed, url, response, start if "Range" in asked else None)
            yield response

    def send(
        self, url: str, headers: dict[str, str], *, checked: bool = True, plain: bool = False
    ) -> requests.Response:
        """Ask for a URL, and follow its redirects; raise RequestException, ValueError and SourceError.

        Headers with secrets, and leaving the certificate unchecked, are for the origin of the URL alone: from the
        first redirect elsewhere on nobody gets them, not even that origin again. See ``from_asked``.
        ``plain`` lets HTTPS lead to plain HTTP: only for what a digest decides about, and never with a login.
        """
        hops: list[requests.Response] = []
        at_home = True
        first = target = _normal(url)
        protected = first.startswith("https:") and (not plain or "Authorization" in headers)
        while True:
            shown = headers if at_home else {name: headers[name] for name in _FOR_ALL if name in headers}
            response = self.send_once("GET", target, shown, checked=checked or not at_home)
            response.history = hops
            location = response.headers.get("Location")
            if response.status_code not in _REDIRECTS or location is None:
                return response
            # Unread, however long it is.
            response.close()
            if len(hops) == _MOST_REDIRECTS:
                raise requests.TooManyRedirects(request=response.request)
            hops = [*hops, response]
            # Servers write UTF-8 there, which http.client takes for Latin-1.
            target = _normal(urljoin(target, location.encode("latin-1", "replace").decode("utf-8", "replace")))
            if len(target) > _LONGEST_TARGET:
                raise ValueError(f"it redirects to a URL of {len(target)} characters")
            if protected and target.startswith("http:"):
                raise SourceError(
                    f"{redact(first)} (for {self._typed!r}) redirects from HTTPS to plain HTTP",
                    hint="correct the server: what decides which image boots must not travel unprotected, nor what "
                    "is asked for with a login",
                )
            at_home = at_home and origin_of(target) == origin_of(response.url)

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
        """Send one request, with these headers alone, and give the answer to it, a redirect too.

        ``parameters`` are added to the URL's query, ``form`` is the body. Raise RequestException, ValueError and
        SourceError.
        """
        request = requests.PreparedRequest()
        request.prepare_method(method)
        request.url = _normal(url, parameters)
        # identity: a digest is over the bytes as stored, not as a proxy re-encodes them.
        request.prepare_headers({"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": _AGENT, **headers})
        request.prepare_body(form or None, None)
        return self._adapter.send(request, verify=checked)

    def failure(self, typed: str, url: str, error: Exception) -> SourceError:
        """Return the error for a request that got no answer."""
        proxy = proxy_for(url, self.access.proxies)
        return unreachable(typed, url, error, shown_proxy(proxy) if proxy else None)

    def body(self, response: requests.Response, typed: str, expected: int | None = None) -> Iterator[bytes]:
        """Return the pieces of an answer's body; raise TransientError. See ``body.body``."""
        host = response.url.split("/", 3)[2].rpartition("@")[2]

        def arrived(count: int) -> None:
            self.access.traffic.add(host, count)

        begin = getattr(response.raw, "begin_piece", None)
        return body(response, typed, self.access.policy.limits.stall, arrived, expected, begin=begin)


@contextmanager
def opened_web(access: Access, typed: str) -> Iterator[Web]:
    """Open a session for a source, as typed; its connections and files go with the block."""
    with ExitStack() as stack:
        sockets = Sockets()
        # What is not checked was told in our own words.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        adapter = PatientAdapter(sockets, Trust(access.host_config), access.proxies, access.policy.limits.stall)
        stack.callback(adapter.close)
        # However slowly a server may answer, in headers too: this is the end of it all.
        web = Web(access, typed, adapter, sockets)
        end = threading.Timer(access.policy.limits.total, sockets.shut)
        end.daemon = True
        stack.callback(end.cancel)
        end.start()
        yield web


def _normal(url: str, parameters: dict[str, str] | None = None) -> str:
    """Return a URL as it will be asked for, so that nobody reads it in another way; raise RequestException."""
    request = requests.PreparedRequest()
    # A login in a URL is shown by who was told to, in a header.
    request.prepare_url(without_login(url), parameters)
    if request.url is None or urlsplit(request.url).scheme not in _PORTS:
        raise requests.exceptions.InvalidSchema("it is neither http: nor https:", request=request)
    return request.url


def origin_of(url: str) -> Origin:
    """Return scheme, host and port of a URL (RFC 6454, 4); raise ValueError."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def from_asked(response: requests.Response) -> bool:
    """Tell an answer of the origin that was asked, never left by a redirect: whose questions for a login may count."""
    return len({origin_of(hop.url) for hop in (*response.history, response)}) == 1
