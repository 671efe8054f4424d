"""Challenges of WWW-Authenticate headers, in every form that servers give them."""

from __future__ import annotations

import pytest

from bootc_live.source.registry.challenges import Challenge, parse_challenge, repository_in
from tests.lib.linear import check_linear

REALM = "https://auth.example/token?a=b,c"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('BASIC REALM="r"', [("basic", {"realm": "r"})]),
        (f'bEaReR realm="{REALM}",service="s"', [("bearer", {"realm": REALM, "service": "s"})]),
        ("Negotiate", [("negotiate", {})]),
        ('Negotiate, Basic realm="r"', [("negotiate", {}), ("basic", {"realm": "r"})]),
        ('Basic realm="r", Negotiate', [("basic", {"realm": "r"}), ("negotiate", {})]),
        ("NTLM,Negotiate,Basic", [("ntlm", {}), ("negotiate", {}), ("basic", {})]),
        ("Negotiate YIIabc/+==, Basic", [("negotiate", {}), ("basic", {})]),
        (
            'Digest realm="d, e", qop="auth,auth-int", nonce="x", Bearer realm="b"',
            [("digest", {"realm": "d, e", "qop": "auth,auth-int", "nonce": "x"}), ("bearer", {"realm": "b"})],
        ),
        ('Bearer realm = "a" ,\tservice\t=\ts', [("bearer", {"realm": "a", "service": "s"})]),
        ('Bearer realm="a" service="s"', [("bearer", {"realm": "a", "service": "s"})]),
        ("Bearer realm=https://a.example/t,service=s", [("bearer", {"realm": "https://a.example/t", "service": "s"})]),
        ('Basic realm="say \\"hello\\", \\\\"', [("basic", {"realm": 'say "hello", \\'})]),
        (', ,Bearer realm="a",, ,service="s",', [("bearer", {"realm": "a", "service": "s"})]),
        ('Bearer realm="a", realm="b"', [("bearer", {"realm": "a"})]),
        ('Bearer realm="a', [("bearer", {"realm": "a"})]),
        ('Bearer realm="a\\', [("bearer", {"realm": "a"})]),
        ('Bearer realm="", service=', [("bearer", {"realm": "", "service": ""})]),
        ('realm="nobody\'s", Bearer realm="a"', [("bearer", {"realm": "a"})]),
        ('"text", Bearer realm="a"', [("bearer", {"realm": "a"})]),
        ('\x00\xff, =, Basic realm="r"', [("basic", {"realm": "r"})]),
    ],
)
def test_forms(header: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenge(header) == [Challenge(scheme, parameters) for scheme, parameters in found]


@pytest.mark.parametrize("piece", ['"', "a=", ", ", "a ", '\\"', 'a="\\" ', "\x00", "a   ", 'a"', "=", 'a="b" ', "/"])
def test_time_is_bounded(piece: str) -> None:
    check_linear(lambda size: parse_challenge(piece * (size // len(piece))), 2000)
    check_linear(lambda size: parse_challenge(f'Bearer realm="{piece * (size // len(piece))}'), 2000)
    # However much there is.
    assert parse_challenge(", " * 10_000 + "Basic") == []


@pytest.mark.parametrize(
    ("url", "repository"),
    [
        ("https://a.example/v2/os/manifests/latest", "os"),
        ("http://a.example:5000/v2/team/sub/os/blobs/sha256:0", "team/sub/os"),
        ("https://a.example/v2/blobs/manifests/manifests/latest", "blobs/manifests"),
        ("https://a.example/v2/", None),
        ("https://a.example/storage/v2/os/manifests/1", None),
        ("https://a.example/other?x=/v2/os/manifests/1", None),
    ],
)
def test_repositories(url: str, repository: str | None) -> None:
    assert repository_in(url) == repository
