"""What is advised after a failed TLS check: what helps against that failure, and with that server."""

from __future__ import annotations

import ssl

import pytest
import requests

from bootc_live.source.http.errors import unreachable

REGISTRY = "docker://r.example/os"
ARCHIVE = "https://r.example/os.oci"
URL = "https://r.example/v2/os/manifests/latest"


Failure = type[requests.exceptions.ConnectionError]


def hint(
    code: int,
    source_text: str = REGISTRY,
    failed: str = URL,
    failure: Failure = requests.exceptions.SSLError,
    *,
    unsecure: bool = False,
) -> str:
    """After a result of OpenSSL's check (x509_vfy.h) of the server of a URL, on the way to `URL`."""
    cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: for a reason")
    cause.verify_code = code
    request = requests.Request("GET", failed).prepare()
    error = unreachable(source_text, URL, failure(cause, request=request), unsecure=unsecure)
    assert failed in error.message
    return f"{error.message}; {error.hint}"


@pytest.mark.parametrize(
    ("codes", "said", "unsaid"),
    [
        ((2, 18, 19, 20, 21), "/etc/bootc-live/certs.d", "clock"),
        ((62, 64), "a server name that is in its certificate", "certs.d"),
        ((9,), "not valid yet according to this machine's clock", "certs.d"),
        ((10,), "has expired according to this machine's clock", "certs.d"),
        ((66, 67, 68), "a longer key and a newer hash", "certs.d"),
        ((24, 26, 79, 92, 10**6), "issue new certificates for the server or its authority", "clock"),
    ],
)
def test_hints_fit_the_failure(codes: tuple[int, ...], said: str, unsaid: str) -> None:
    for code in codes:
        assert said in hint(code)
        assert unsaid not in hint(code)


@pytest.mark.parametrize("code", [18, 19, 20, 21, 62, 64, 66, 92])
def test_unsecure_is_advised_where_it_helps(code: int) -> None:
    """It is for the registry itself: not for its token service or storage elsewhere, for archives, or twice."""
    assert "bootc.registry.unsecure" in hint(code)
    others = (
        hint(code, ARCHIVE),
        hint(code, failed="https://tokens.example/"),
        hint(code, failed="https://r.example:444/"),
        hint(code, failure=requests.exceptions.ProxyError),
        hint(code, unsecure=True),
    )
    for other in others:
        assert "bootc.registry.unsecure" not in other
