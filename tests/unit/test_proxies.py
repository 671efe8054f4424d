"""Proxies: from dracut's proxy=, the usual variables in either case, and the environment."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.values import parse_proxy
from bootc_live.config.model import Proxies

A, B, C, D = ("http://a:1", "http://b:1", "http://c:1", "http://d:1")


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("", {}, Proxies()),
        ("proxy=a:1", {}, Proxies(A, A)),
        ("http_proxy=a:1", {}, Proxies(http=A)),
        ("HTTPS_PROXY=a:1", {}, Proxies(https=A)),
        ("all_proxy=a:1", {}, Proxies(A, A)),
        ("all_proxy=a:1 proxy=b:1 https_proxy=c:1", {}, Proxies(B, C)),
        ("http_proxy=a:1 HTTP_PROXY=b:1", {}, Proxies(http=B)),
        ("HTTP_PROXY=b:1 http_proxy=a:1", {}, Proxies(http=A)),
        ("", {"http_proxy": A, "https_proxy": B, "no_proxy": "x,.y"}, Proxies(A, B, "x,.y")),
        ("", {"HTTP_PROXY": A, "http_proxy": B, "ALL_PROXY": C}, Proxies(B, C)),
        ("", {"http_proxy": "", "HTTP_PROXY": A}, Proxies(http=A)),
        ("", {"proxy": A}, Proxies()),
        ("all_proxy=a:1", {"http_proxy": B, "https_proxy": C}, Proxies(A, A)),
        ("http_proxy=", {"http_proxy": B, "https_proxy": C}, Proxies(None, C)),
        ("http_proxy", {"http_proxy": B}, Proxies()),
        ("proxy=", {"all_proxy": D}, Proxies()),
        ("no_proxy=", {"no_proxy": "x"}, Proxies()),
        ("NO_PROXY=z", {"no_proxy": "x"}, Proxies(no_proxy="z")),
        ("proxy=a:1 proxy=b:1", {}, Proxies(B, B)),
    ],
)
def test_which_one_counts(text: str, environ: dict[str, str], expected: Proxies) -> None:
    assert parse_cmdline(text, environ).proxies == expected


def test_the_environment_counts_only_when_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", A)
    assert parse_cmdline("").proxies == Proxies()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("proxy.example", "http://proxy.example"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://proxy.example:3128/", "http://proxy.example:3128"),
        ("HTTPS://proxy.example", "https://proxy.example"),
        ("me:pw@proxy.example:3128", "http://me:pw@proxy.example:3128"),
        ("http://me:p%40w@10.0.0.1:3128", "http://me:p%40w@10.0.0.1:3128"),
        ("[fd00::1]:3128", "http://[fd00::1]:3128"),
        ("", ""),
        (None, ""),
    ],
)
def test_forms(text: str | None, url: str) -> None:
    assert parse_proxy(text) == url


@pytest.mark.parametrize(
    "text", ["http://", "me:pw@", "a:port", "a b", "http://a/path", "http://a?x", "[fd00::1", ":1"]
)
def test_damaged(text: str) -> None:
    with pytest.raises(ValueError, match="is not a proxy"):
        parse_proxy(text)


@pytest.mark.parametrize("scheme", ["socks", "socks4", "socks5", "SOCKS5H"])
def test_socks_is_a_clear_mistake(scheme: str) -> None:
    with pytest.raises(ValueError, match=r"names a SOCKS proxy .*not supported; use an http:// proxy"):
        parse_proxy(f"{scheme}://a:1")


def test_other_schemes() -> None:
    with pytest.raises(ValueError, match="uses the unknown scheme ftp://"):
        parse_proxy("ftp://a:1")


def test_a_mistake_in_the_environment_says_where() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cmdline("rw=maybe", {"ALL_PROXY": "socks5://me:S3CRET@a:1"})
    assert "'rw=maybe' is not a boolean" in caught.value.message
    assert "the environment variable 'ALL_PROXY=socks5://***@a:1' names a SOCKS proxy" in caught.value.message


def test_repr_hides_passwords() -> None:
    shown = repr(parse_cmdline("proxy=me:S3CRET@a:1"))
    assert "S3CRET" not in shown
    assert "http='http://***@a:1'" in shown
