"""Fetch the small file that tells which archive beside it is the newest."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from bootc_live.config.source_spec import WebPointer
from bootc_live.source.access import Access
from bootc_live.source.http.client import http_client
from bootc_live.source.http.proxies import basic_login, without_login

# Whatever is between, it must not answer with what it has kept.
_HEADERS = {"Cache-Control": "no-cache"}


def fetch_pointer(spec: WebPointer, access: Access, limit: int) -> bytes:
    """Return the content, cut one byte after ``limit`` bytes; raise SourceError."""
    login = basic_login(spec.url)
    headers = {**_HEADERS, "Authorization": login} if login else _HEADERS
    with http_client(access, spec.source_text) as client:

        def attempt(_: None) -> bytes:
            content = bytearray()
            with client.get(without_login(spec.url), headers) as response:
                for chunk in client.body(response):
                    content += chunk
                    if len(content) > limit:
                        break
            return bytes(content[: limit + 1])

        return client.retries.run((None,), attempt)


def beside(url: str, name: str) -> str:
    """Return the URL of a file in the same directory; login and query are the same."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}", fragment=""))
