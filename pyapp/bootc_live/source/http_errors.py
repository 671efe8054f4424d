"""What went wrong between an HTTP server and us, as errors for people; which of them may pass is in their type."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import requests
from urllib3.exceptions import HTTPError

from bootc_live.base.errors import SourceError
from bootc_live.source.retry import TransientError

# What requests and urllib3 raise while a body is read.
BROKEN = (OSError, requests.RequestException, HTTPError)
# Too many requests, and servers that have a bad moment (RFC 9110, 15.5 and 15.6; RFC 6585).
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LOGIN = "use a repository that may be pulled without a login: this version cannot log in"
_HINTS = {
    401: _LOGIN,
    403: _LOGIN,
    404: "check the repository and the tag or digest; the registry does not have it",
}


def unreachable(typed: str, url: str, error: Exception) -> SourceError:
    """Make the error for a request that got no answer."""
    if isinstance(error, requests.RequestException) and error.request is not None and error.request.url:
        # It may have been the token service that did not answer.
        url = error.request.url
    if isinstance(error, requests.exceptions.SSLError) and "WRONG_VERSION_NUMBER" in reason_of(error):
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
        return SourceError(f"{url} (for {typed!r}) failed the TLS check: {reason_of(error)}", hint=hint)
    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return SourceError(f"{url} (for {typed!r}) asks for a login", hint="use a registry that allows anonymous pulls")
    return TransientError(
        f"cannot reach {url} (for {typed!r}): {reason_of(error)}",
        hint="check the name, the port, the network (ip=) and bootc.registry.unsecure for plain HTTP",
    )


def refused(typed: str, url: str, response: requests.Response) -> SourceError:
    """Make the error for an answer that is not the one asked for."""
    message = f"{url} (for {typed!r}) answered {response.status_code} {response.reason}"
    hint = _HINTS.get(response.status_code, "check the registry, then boot again")
    if response.status_code in _PASSING:
        return TransientError(message, hint=hint, wait=retry_after(response.headers.get("Retry-After"), time.time()))
    return SourceError(message, hint=hint)


def broken_off(typed: str, url: str, error: BaseException) -> TransientError:
    """Make the error for a body that ended early."""
    return TransientError(
        f"the transfer from {url} for {typed!r} broke off: {reason_of(error)}",
        hint="check the network and the registry, then boot again",
    )


def retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header, seconds or a date (RFC 9110, 10.2.3), as seconds from ``now``; None without one."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


def reason_of(error: BaseException) -> str:
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
