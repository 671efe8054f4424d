"""Secrets in URLs and options are hidden wherever they stand in a text, and nothing else is."""

from __future__ import annotations

import string
import time
from urllib.parse import urlsplit

import pytest

from bootc_live.base.redact import redact, redact_value

DIGEST = "sha256:" + "0" * 64
DEPLOYMENT = f"deployment:UUID=5009a754-840c-4cd1-a41a-4762758b7185:1@{'be' * 32}"

WORDS = [
    ("https://me:pw@a.example/x", "https://***@a.example/x"),
    ("https://token@a.example/x", "https://***@a.example/x"),
    ("https://:pw@a.example", "https://***@a.example"),
    ("https://me:p@w@a.example/", "https://***@a.example/"),
    ("https://me:pw@[fd00::1]:80/", "https://***@[fd00::1]:80/"),
    ("https://me:p'w@a.example/x", "https://***@a.example/x"),
    ('https://m"e:pw@a.example/x', "https://***@a.example/x"),
    ("https://me:x@sha256:0@a.example:1/x", "https://***@a.example:1/x"),
    ("https://token@sha256:1/x", "https://***@sha256:1/x"),
    ("http://me:pw@/x.oci?y", "http://***@/x.oci?***"),
    ("http://10.0.2.2:80/a@b/c:d", "http://10.0.2.2:80/***@b/c:d"),
    ("docker://me:pw@a.example/os:1", "docker://***@a.example/os:1"),
    ("docker://me:p'w@a.example:1/os:1", "docker://***@a.example:1/os:1"),
    (f"docker://me:pw@a.example/os@{DIGEST}", f"docker://***@a.example/os@{DIGEST}"),
    ("socks5h://me:pw@a:1080", "socks5h://***@a:1080"),
    ("torrent://https://me:p'w@a/x.torrent", "torrent://https://***@a/x.torrent"),
    ("ftp://me:p'w@a.example/x", "ftp://***@a.example/x"),
    # What is behind the host.
    ("https://a.example/x?X-Amz-Signature=abc&b=1", "https://a.example/x?***"),
    ("https://a.example/x?abc", "https://a.example/x?***"),
    ("https://a.example/x?a=b#c=d", "https://a.example/x?***"),
    ("https://a.example/it's?a=b&c'd", "https://a.example/it's?***"),
    ("https://a.example/x?mail=me@secret", "https://a.example/x?***"),
    ("https://a.example/x#secret", "https://a.example/x#***"),
    ("https://a.example/x;token=secret", "https://a.example/x;***"),
    ("https://a.example?secret", "https://a.example?***"),
    ("/blob?sig=abc", "/blob?***"),
    # A password with a "/" that stands where the port should be: a URL all the same.
    ("https://me:123/pw@a.example:1/x", "https://me:123/***@a.example:1/x"),
    ("https://me:p:w@a.example:8443/x@y", "https://***@a.example:8443/***@y"),
    ("https://a.example/x@y", "https://a.example/***@y"),
    # No URL at all.
    ("https://me:p/w@a.example/x", "https://***"),
    ("https://me:p?w@a.example/x", "https://***"),
    ("https://me:p#w@a.example/x", "https://***"),
    ("https://me:pw@a.exa[mple/x", "https://***"),
    ("https://me:pw%40a.example/x", "https://***"),
    ("root=bootc-live:docker://me%40a.example/os", "root=bootc-live:docker://***"),
    ("https://me:p/w@a.example/x?b=c@d", "https://***"),
    (f"root=bootc-live:{DEPLOYMENT}", f"root=bootc-live:{DEPLOYMENT}"),
    (f"bootc-live:{DEPLOYMENT}:80", f"bootc-live:***@{DEPLOYMENT.rpartition('@')[2]}:80"),
    # Without a scheme.
    ("me:pw@proxy:3128", "***@proxy:3128"),
    ("proxy=me:pw@proxy:3128", "proxy=***@proxy:3128"),
    ("proxy=token@proxy:3128", "proxy=***@proxy:3128"),
    ("HTTPS_PROXY=http://me:pw@proxy:3128", "HTTPS_PROXY=http://***@proxy:3128"),
    ("proxy=me:p/w@proxy:3128", "proxy=***"),
    ("bootc.registry.mirror=me:p'w@h", "bootc.registry.mirror=***@h"),
    ("bootc.live.fallback=htp://me:p'w@h/x", "bootc.live.fallback=htp://***@h/x"),
    ("root=bootc-live:me:pw@a.example/x", "root=bootc-live:***@a.example/x"),
    ("root=bootc-live:https://me:pw@a/x?b=c", "root=bootc-live:https://***@a/x?***"),
    ("//me:pw@a.example/x", "//***@a.example/x"),
    ("https:/me:pw@a.example/x", "https:/***@a.example/x"),
    ("root=bootc-live:http:/me:pw@a.example/x?y", "root=bootc-live:http:/***@a.example/x?***"),
    ("https:///me:pw@a.example/x", "https:///***@a.example/x"),
    # Options.
    ("systemd.set_credential_binary=bootc-live.auth:e30=", "systemd.set_credential_binary=***"),
    ("wpa-psk=pw", "wpa-psk=***"),
    ("nfs:username=me,password=pw:a.example:/x/y", "nfs:username=me,password=***"),
    ("PASSWORD=pw", "PASSWORD=***"),
    ("x,access_token=pw,y", "x,access_token=***"),
]
VALUES = [
    ("a.example/x?secret", "a.example/x?***"),
    ("root=bootc-live:a.example/x?secret", "root=bootc-live:a.example/x?***"),
    ("https://me:p w@a.example/x", "https://***@a.example/x"),
    ("https://me:pw@a/x?b=c and more", "https://***@a/x?***"),
    ("proxy=me:p w@proxy:3128", "proxy=***@proxy:3128"),
    ('proxy="http://me:p w@proxy:3128"', 'proxy="http://***'),
]
TEXTS = [
    ("https://me:pw@a/x?b=c and http://you:qw@d?e=f", "https://***@a/x?*** and http://***@d?***"),
    ("cannot reach 'https://me:pw@a/x?b=c': timed out", "cannot reach 'https://***@a/x?***': timed out"),
    ("Location: /blob?sig=abc", "Location: /blob?***"),
    ("'me:pw@proxy' is wrong", "'***@proxy' is wrong"),
    ("Max retries exceeded with url: /x?sig=a (Caused by …)", "Max retries exceeded with url: /x?*** (Caused by …)"),
    ("Authorization: Bearer abcdefghij0123456789", "Authorization: Bearer ***"),
    ("(Basic dXNlcjpwYXNzd29yZA==)", "(Basic ***"),
    ("Authorization: Basic dTpw", "Authorization: Basic ***"),
    ("'Proxy-Authorization: bearer x'", "'Proxy-Authorization: bearer ***"),
    ("bearer of-my-own-token=", "bearer ***"),
    ("bearer of-no-token=, x", "bearer *** x"),
    ("bearer my-token=, x", "bearer my-token=***, x"),
    ("a\n\thttps://me:pw@a/x\n", "a\n\thttps://***@a/x\n"),
]
ALONE = [
    "",
    "/a/b@c:d?e",
    "root=bootc-live:/images/a:b@2/os.oci",
    "LABEL=a:/b@c",
    "nfs4:a.example:/b@c",
    "https://a.example:8443/x",
    "https://[fd00::1]:8443/x",
    "http://a.example:80",
    "docker://a.example:5000/os:tag",
    f"docker://a.example:5000/os:tag@{DIGEST}",
    f"docker://os:tag@{DIGEST}",
    f"os:tag@{DIGEST}",
    f"root=bootc-live:docker://os@{DIGEST}",
    f"a.example:5000/os:tag@{DIGEST}",
    "iommu.bypass=1",
    "module.sig_enforce=1",
]
SENTENCES = [
    "did you mean 'rw'?",
    "is it there? see https://a.example:8443/x",
    f"'a.example:5000/os:tag@{DIGEST}'",
    "mail me@a.example",
    "at 10:20:30 https://a.example: refused",
    "a basic login is needed; the bearer is unknown",
]


@pytest.mark.parametrize(("text", "shown"), [*WORDS, *TEXTS])
def test_hidden_in_a_text(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(("text", "shown"), [*WORDS, *VALUES])
def test_hidden_in_a_value(text: str, shown: str) -> None:
    assert redact_value(text) == shown
    assert redact_value(shown) == shown


@pytest.mark.parametrize("text", [*ALONE, *SENTENCES])
def test_left_alone(text: str) -> None:
    assert redact(text) == text
    if text in ALONE:
        assert redact_value(text) == text


# All that RFC 3986 allows in these parts: whatever Python's own parser takes for a part of the URL, is one.
USERINFO = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:%"
QUERY = USERINFO + "@/?"


@pytest.mark.parametrize("scheme", ["https", "http", "ftp", "docker"])
def test_every_legal_url_hides_its_secrets_and_shows_its_host(scheme: str) -> None:
    for character in QUERY:
        secrets = [f"SECRET{character}", f"{character}SECRET", f"SE{character}SECRET{character}"]
        for secret in secrets:
            users = [f"{secret}@", f"me:{secret}@"] if character in USERINFO else []
            for user, path, query in [
                *((user, "/x", "") for user in users),
                ("", "/it's", f"?{secret}"),
                ("", "", f"#{secret}"),
            ]:
                url = f"{scheme}://{user}a.example:1{path}{query}"
                assert urlsplit(url).hostname == "a.example"
                for shown in (redact(f"cannot reach '{url}': no"), redact_value(f"root=bootc-live:{url}"), redact(url)):
                    assert "SECRET" not in shown
                    assert "://" in shown
                    assert "a.example:1" + path in shown


@pytest.mark.parametrize("character", string.printable)
def test_what_is_no_url_hides_its_login(character: str) -> None:
    for url in (
        f"https://me:x{character}SECRET@a.example/x",
        f"https://me:1{character}SECRET{character}@a.example:1/x",
    ):
        assert "SECRET" not in redact_value(url)
        assert "SECRET" not in redact_value(f"proxy={url.partition('//')[2]}")


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "(",
            "(,",
            "://",
            "://a:b",
            "?",
            "?a",
            "@",
            ":@",
            "a:",
            "a://",
            "a=",
            "'",
            "sha256:",
            "@sha256:",
            "https://a@",
        ),
        *(" ", "a ", "https:/", "//", "a@//", "token", "bearer ", "[", "=?", ";", "#", "x/@", "\x1b", ":x@h "),
    ],
)
def test_time_grows_with_the_text(piece: str) -> None:
    began = time.process_time()
    for function in (redact, redact_value):
        for text in (piece * (200_000 // len(piece)), piece * (200_000 // len(piece)) + "@h:1/x?y"):
            function(text)
    # Quadratic steps would take minutes.
    assert time.process_time() - began < 60
