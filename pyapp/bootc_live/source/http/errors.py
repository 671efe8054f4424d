"""Turn failures of HTTP requests into errors; a TransientError may succeed at the next try.

URLs are shown without user information and query, which can be secrets.
"""

from __future__ import annotations

import re
import ssl
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from bootc_live.base.advice import advise
from bootc_live.base.errors import SourceError
from bootc_live.base.numbers import decimal
from bootc_live.base.redact import redact
from bootc_live.source.retry import TransientError

# The exceptions of requests and urllib3 while reading a body.
BROKEN = (OSError, requests.RequestException, HTTPError)
# Too many requests, and temporary failures of servers (RFC 9110, 15.5 and 15.6; RFC 6585).
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOGIN = "check the user and password in the URL (https://USER:PASSWORD@HOST/…), and the permissions on the server"
_HINTS = {
    401: _LOGIN,
    403: _LOGIN,
    404: "check the repository and the tag or digest, or the path: the server does not have it",
}
# No boot waits longer, and no HTTP date is longer.
_LONGEST_WAIT, _LONGEST_DATE = 10**9, 64
# Verification results of OpenSSL, x509_vfy.h.
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})
_TOO_WEAK = frozenset({66, 67, 68})
# TLS alerts of servers that do not accept the client's certificate.
_WANTS_CERTIFICATE = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE", "UNKNOWN_CA", "BAD_CERTIFICATE", "ALERT_CERTIFICATE")


class NotFoundError(SourceError):
    """A server does not have what was requested."""


def unreachable(
    source_text: str, url: str, error: Exception, proxy: str | None = None, *, unsecure: bool = False
) -> SourceError:
    """Return the error for a request without a response, sent through a ``proxy`` (``host:port``) or directly.

    ``unsecure`` tells that bootc.registry.unsecure or --unsecure was given, and need not be advised.
    """
    requested = url
    if isinstance(error, requests.RequestException) and error.request is not None and error.request.url:
        # The target of a redirect may have failed.
        url = error.request.url
    # bootc.registry.unsecure applies to the registry alone, not to other servers that it names, nor to proxies.
    registry = source_text.startswith("docker:") and urlsplit(url).netloc == urlsplit(requested).netloc
    registry = registry and not unsecure and not isinstance(error, requests.exceptions.ProxyError)
    where = f"{redact(url)} (for {source_text!r})"
    by = f" through the proxy {proxy}" if proxy else ""
    cause = _tls_cause(error)
    if cause is not None:
        return _tls_error(f"{where}{by}", cause, registry=registry)
    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return SourceError(f"cannot request {where}: {reason_of(error)}", hint="check the URL and the server")
    if isinstance(error, requests.TooManyRedirects):
        return SourceError(
            f"{redact(requested)} (for {source_text!r}) redirects too many times",
            hint="correct the server, or use another source",
        )
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return SourceError(f"{where} is not a valid URL: {redact(str(error))}", hint="correct the URL")
    if isinstance(error, requests.exceptions.ProxyError):
        return _proxy_error(f"cannot reach {where}{by}: {reason_of(error)}")
    return TransientError(
        f"cannot reach {where}{by}: {reason_of(error)}",
        hint=f"check the name, the port and the network{advise(' (ip=)', '')}"
        + (f", and {_unsecure()} for plain HTTP" if registry else ""),
    )


def refused(source_text: str, url: str, response: requests.Response) -> SourceError:
    """Return the error for a response with an unexpected status."""
    message = f"{redact(url)} (for {source_text!r}) answered {response.status_code} {redact(str(response.reason))}"
    hint = _HINTS.get(response.status_code, "check the server, then try again")
    if response.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        hint = _proxy_login()
    if response.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError(message, hint=hint)
    if response.status_code in _TRANSIENT:
        return TransientError(message, hint=hint, wait=retry_after(response.headers.get("Retry-After"), time.time()))
    return SourceError(message, hint=hint)


def broken_off(source_text: str, url: str, error: BaseException | str) -> SourceError:
    """Return the error for a body that broke off."""
    reason = error if isinstance(error, str) else reason_of(error)
    cause = None if isinstance(error, str) else _tls_cause(error)
    if cause is not None and any(alert in str(cause).upper() for alert in _WANTS_CERTIFICATE):
        # TLS 1.3 servers reject a client certificate only after the handshake.
        return _tls_error(f"{redact(url)} (for {source_text!r})", cause, registry=source_text.startswith("docker:"))
    return TransientError(
        f"the transfer from {redact(url)} for {source_text!r} broke off: {reason}",
        hint="check the network and the server, then try again",
    )


def _tls_cause(error: BaseException | None) -> ssl.SSLError | None:
    """Return the permanent TLS failure in a chain of exceptions; an early end of a connection is not one."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLError) and not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
            return error
        inner = getattr(error, "reason", None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__ or _inside(error)
    return None


def _inside(error: BaseException) -> BaseException | None:
    return next((part for part in error.args if isinstance(part, BaseException)), None)


def _proxy_error(message: str) -> SourceError:
    # The message of http.client for a refused CONNECT request.
    refused_by = re.search(r"Tunnel connection failed: ([0-9]{3})\b", message)
    status = decimal(refused_by[1], limit=999) if refused_by else 0
    settings = advise("proxy=, http_proxy= and https_proxy=", "the variables http_proxy and https_proxy")
    hint = _proxy_login() if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else f"check {settings}, and the proxy"
    transient = not status or status in _TRANSIENT
    return TransientError(message, hint=hint) if transient else SourceError(message, hint=hint)


def _tls_error(where: str, cause: ssl.SSLError, *, registry: bool) -> SourceError:
    text = reason_of(cause)
    code = getattr(cause, "verify_code", None)
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
        # OpenSSL's error for a response without TLS.
        instead = _allow_unsecure() if registry else "use an http:// URL"
        return SourceError(
            f"{where} does not speak TLS", hint=f"if the server speaks plain HTTP, {instead}, or correct the port"
        )
    if any(alert in text.upper() for alert in _WANTS_CERTIFICATE):
        return SourceError(
            f"{where} requires another client certificate: {text}",
            hint="put one that the server accepts into /etc/bootc-live/certs.d/HOST:PORT/client.cert and client.key",
        )
    if code in (_NOT_YET_VALID, _EXPIRED):
        clock = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        when = "is not valid yet" if code == _NOT_YET_VALID else "has expired"
        return SourceError(
            f"{where}: the server's certificate {when} according to this machine's clock ({clock})",
            hint="set the machine's clock, or renew the server's certificate",
        )
    return SourceError(f"{where} failed the TLS check: {text}", hint=_tls_hint(code, registry=registry))


def _tls_hint(code: int | None, *, registry: bool) -> str:
    if code in _UNKNOWN_ISSUER:
        hint = _add_authority()
    elif code in _OTHER_NAME:
        hint = "use a server name that is in its certificate, or issue a certificate for this name"
    elif code in _TOO_WEAK:
        hint = "issue a new server certificate with a longer key and a newer hash; OpenSSL rejects this one"
    else:
        hint = f"issue new certificates for the server or its authority, or {_add_authority()}"
    return f"{hint}, or, {_allow_unsecure()}" if registry else hint


def _add_authority() -> str:
    return f"put the CA certificate of the server into /etc/bootc-live/certs.d{advise(' of the initramfs', '')}"


def _proxy_login() -> str:
    return f"the proxy requires a login: write {advise('proxy=', 'http_proxy=')}http://USER:PASSWORD@HOST:PORT"


def _unsecure() -> str:
    return advise("set bootc.registry.unsecure", "use --unsecure")


def _allow_unsecure() -> str:
    return f"on a network you trust, {_unsecure()}"


def retry_after(value: str | None, now: float) -> float | None:
    """Return the seconds from ``now`` in a Retry-After header, which has seconds or a date (RFC 9110, 10.2.3)."""
    if value is None:
        return None
    with suppress(ValueError):
        return float(decimal(value.strip(), limit=_LONGEST_WAIT))
    # The standard library accepts any digits in a date.
    with suppress(ValueError, OverflowError, TypeError, IndexError):
        return min(max(0.0, parsedate_to_datetime(value[:_LONGEST_DATE]).timestamp() - now), _LONGEST_WAIT)
    return None


def reason_of(error: BaseException) -> str:
    """Return the text of the innermost cause; the outer exceptions only tell where it passed."""
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
    return redact(str(text))
