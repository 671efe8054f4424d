"""Secrets in URLs are hidden wherever they stand in a text, and nothing else is."""

from __future__ import annotations

import pytest

from bootc_live.base.redact import redact

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@a.example/x", "https://***@a.example/x"),
        ("https://token@a.example/x", "https://***@a.example/x"),
        ("https://:pw@a.example", "https://***@a.example"),
        ("https://me:p:w@a.example:8443/x@y", "https://***@a.example:8443/x@y"),
        ("https://me:p@w@a.example/", "https://***@a.example/"),
        ("https://me:pw@[fd00::1]:80/", "https://***@[fd00::1]:80/"),
        ("https://me:p/w@a.example/x", "https://***@a.example/x"),
        ("https://me:p?w@a.example/x", "https://***@a.example/x"),
        ("https://me:p w@a.example/x", "https://***@a.example/x"),
        ("docker://me:pw@a.example/os:1", "docker://***@a.example/os:1"),
        (f"docker://me:pw@a.example/os@{DIGEST}", f"docker://***@a.example/os@{DIGEST}"),
        ("socks5h://me:pw@a:1080", "socks5h://***@a:1080"),
        ("https://a.example/x?X-Amz-Signature=abc&b=1", "https://a.example/x?***"),
        ("https://a.example/x?abc", "https://a.example/x?***"),
        ("https://a.example/x?a=b#c=d", "https://a.example/x?***"),
        ("https://me:pw@a/x?b=c and http://you:qw@d?e=f", "https://***@a/x?*** and http://***@d?***"),
        ("cannot reach 'https://me:pw@a/x?b=c': timed out", "cannot reach 'https://***@a/x?***': timed out"),
        ("Location: /blob?sig=abc", "Location: /blob?***"),
        ("me:pw@proxy:3128", "***@proxy:3128"),
        ("proxy=me:pw@proxy:3128", "proxy=***@proxy:3128"),
        ("proxy=me:p/w@proxy:3128", "proxy=***@proxy:3128"),
        ("'me:pw@proxy' is wrong", "'***@proxy' is wrong"),
        ("root=bootc-live:me:pw@a.example/x", "root=bootc-live:***@a.example/x"),
        ("root=bootc-live:https://me:pw@a/x?b=c", "root=bootc-live:https://***@a/x?***"),
    ],
)
def test_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/a/b@c:d?e",
        "root=bootc-live:/images/a:b@2/os.oci",
        "LABEL=a:/b@c",
        "did you mean 'rw'?",
        "is it there? see https://a.example:8443/x",
        "https://a.example/x@y",
        "https://[fd00::1]:8443/x@y",
        "https://a.example:8443/x@y",
        "http://a.example:80",
        "docker://a.example:5000/os:tag",
        f"docker://a.example:5000/os:tag@{DIGEST}",
        f"docker://os:tag@{DIGEST}",
        f"os:tag@{DIGEST}",
        f"root=bootc-live:docker://os@{DIGEST}",
        f"'a.example:5000/os:tag@{DIGEST}'",
        "mail me@a.example",
        "at 10:20:30 https://a.example: refused",
    ],
)
def test_left_alone(text: str) -> None:
    assert redact(text) == text
