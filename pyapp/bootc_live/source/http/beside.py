"""Fetch the small files that lie beside an archive on a web server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

import requests

from bootc_live.base.errors import SourceError
from bootc_live.config.source_spec import WebArchive
from bootc_live.source.access import Access
from bootc_live.source.http.client import HttpClient, http_client
from bootc_live.source.http.errors import refused
from bootc_live.source.http.proxies import basic_login, without_login

# Storage services answer 403 for what they do not have.
_ABSENT = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
# Seconds for all of them, beside the time for the archive: a slow server must not use up that of other sources.
_LONGEST = 120.0


def fetch_beside(
    spec: WebArchive, access: Access, endings: Sequence[str], limit: int
) -> Iterator[tuple[str, bytes | SourceError]]:
    """Yield ending and content of the files beside an archive, whose query they share; see ``read_beside``."""
    limits = replace(access.policy.limits, total=min(_LONGEST, access.policy.limits.total))
    access = replace(access, policy=replace(access.policy, limits=limits))
    login = basic_login(spec.url)
    headers = {"Authorization": login} if login else {}
    parts = urlsplit(without_login(spec.url))
    with http_client(access, spec.source_text) as client:
        for ending in endings:
            url = urlunsplit(parts._replace(path=parts.path + ending, fragment=""))
            content: bytes | SourceError | None
            try:
                content = client.retries.run((None,), partial(_fetch, client, url, headers, limit))
            except SourceError as error:
                content = error
            if content is not None:
                yield ending, content


def _fetch(client: HttpClient, url: str, headers: dict[str, str], limit: int, _server: None) -> bytes | None:
    try:
        response = client.send(url, headers)
    except (requests.RequestException, ValueError) as error:
        raise client.failure(url, error) from error
    with closing(response):
        if response.status_code in _ABSENT:
            return None
        if response.status_code != HTTPStatus.OK:
            raise refused(client.source_text, url, response)
        content = bytearray()
        for chunk in client.body(response):
            content += chunk
            if len(content) > limit:
                break
        return bytes(content[: limit + 1])
