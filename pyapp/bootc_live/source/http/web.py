"""One session of HTTP and HTTPS requests, with all that was said about certificates, proxies and patience."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.cookiejar import DefaultCookiePolicy

import requests
import urllib3

from bootc_live.base.errors import SourceError
from bootc_live.base.redact import redact
from bootc_live.source.access import Access
from bootc_live.source.http.body import body
from bootc_live.source.http.connections import PatientAdapter, Sockets
from bootc_live.source.http.errors import refused, unreachable
from bootc_live.source.http.proxies import proxy_for, shown_proxy
from bootc_live.source.http.trust import Trust, TrustError, opened_trust
from bootc_live.source.retry import Persistence

_MOST_REDIRECTS = 10
Send = Callable[[str, dict[str, str]], requests.Response]


class Web:
    """A session, ready to ask. Use ``opened_web``."""

    def __init__(self, access: Access, typed: str, trust: Trust, sockets: Sockets, session: requests.Session) -> None:
        """Take a session whose adapters are in place."""
        self.access = access
        self.trust = trust
        self.session = session
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
        """Ask for a URL, from byte ``start`` up to before ``end``; gives the answer with its body still to be read.

        An answer to a range is either that range (206) or the whole (200); raises SourceError for all others.
        """
        # identity: a digest is over the bytes as stored, not as a proxy re-encodes them.
        asked = {"Accept-Encoding": "identity", **headers}
        if start or end is not None:
            asked["Range"] = f"bytes={start}-{end - 1 if end is not None else ''}"
        try:
            response = (send or self.send)(url, asked)
        except TrustError as error:
            raise SourceError(f"cannot fetch {typed!r}: {error.message}", hint=error.hint) from error
        except (requests.RequestException, ValueError) as error:
            raise self.failure(typed, url, error) from error
        with closing(response):
            if response.status_code != HTTPStatus.OK and not _begins_at(response, start):
                raise refused(typed, url, response)
            yield response

    def send(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Send one request; raises RequestException and SourceError."""
        return self.session.get(url, headers=headers, stream=True)

    def failure(self, typed: str, url: str, error: Exception) -> SourceError:
        """Make the error for a request that got no answer."""
        proxy = proxy_for(url, self.access.proxies)
        return unreachable(typed, url, error, shown_proxy(proxy) if proxy else None)

    def body(self, response: requests.Response, typed: str, expected: int | None = None) -> Iterator[bytes]:
        """Give the pieces of an answer's body; raises TransientError. See ``body.body``."""
        host = response.url.split("/", 3)[2].rpartition("@")[2]

        def arrived(count: int) -> None:
            self.access.traffic.add(host, count)

        return body(response, typed, self.access.policy.limits.stall, arrived, expected)


@contextmanager
def opened_web(access: Access, typed: str) -> Iterator[Web]:
    """Open a session for a source, as typed; its connections and files go with the block."""
    with ExitStack() as stack:
        trust = stack.enter_context(opened_trust(access.surroundings, unsecure=access.unsecure))
        sockets = Sockets()
        # What is not checked was told in our own words.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        session = stack.enter_context(requests.Session())
        adapter = PatientAdapter(sockets, trust, access.proxies, access.policy.limits.stall)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        # No .netrc; a CA bundle or proxy from the environment would override what was said without a word.
        session.trust_env = False
        session.max_redirects = _MOST_REDIRECTS
        # Some registries take a cookie for the sign of a browser.
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # However slowly a server may answer, in headers too: this is the end of it all.
        web = Web(access, typed, trust, sockets, session)
        end = threading.Timer(access.policy.limits.total, sockets.shut)
        end.daemon = True
        stack.callback(end.cancel)
        end.start()
        yield web


def few(web: Web, response: requests.Response, typed: str, length: int) -> bytes:
    """Give the first bytes of an answer to a range; raises SourceError where it is not one, without reading it."""
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        raise SourceError(f"the server of {typed!r} does not answer ranges", hint="this is not needed")
    came = b""
    for piece in web.body(response, typed):
        came += piece
        if len(came) >= length:
            break
    return came[:length]


def check_redirects(response: requests.Response, typed: str) -> None:
    """Raise SourceError where an answer came by way of plain HTTP though HTTPS was asked for."""
    hops = [hop.url for hop in (*response.history, response)]
    if hops[0].startswith("https:") and any(url.startswith("http:") for url in hops):
        raise SourceError(
            f"{redact(hops[0])} (for {typed!r}) redirects from HTTPS to plain HTTP",
            hint="correct the server: what decides which image boots must not travel unprotected",
        )


def _begins_at(response: requests.Response, start: int) -> bool:
    """Tell an answer to a Range request that begins where it was asked to (RFC 9110, 14.4)."""
    begins = f"bytes {start}-"
    return response.status_code == HTTPStatus.PARTIAL_CONTENT and response.headers.get("Content-Range", "").startswith(
        begins
    )
