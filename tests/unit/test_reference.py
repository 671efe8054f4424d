"""Image references as podman and docker read them."""

from __future__ import annotations

import re

import pytest

from bootc_live.formats.oci.reference import Reference, parse_reference

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA512 = "sha512:" + "0123456789abcdef" * 8

TABLE: tuple[tuple[str, Reference], ...] = (
    ("os", Reference("docker.io", "library/os", "latest", None)),
    ("os:13", Reference("docker.io", "library/os", "13", None)),
    ("library/os", Reference("docker.io", "library/os", "latest", None)),
    ("me/os", Reference("docker.io", "me/os", "latest", None)),
    ("me/team/os:v1", Reference("docker.io", "me/team/os", "v1", None)),
    ("docker.io/os", Reference("docker.io", "library/os", "latest", None)),
    ("docker.io/me/os", Reference("docker.io", "me/os", "latest", None)),
    ("registry.example/os", Reference("registry.example", "os", "latest", None)),
    ("registry.example/me/os:stable", Reference("registry.example", "me/os", "stable", None)),
    ("registry.example:5000/os", Reference("registry.example:5000", "os", "latest", None)),
    ("registry.example:5000/os:5000", Reference("registry.example:5000", "os", "5000", None)),
    ("REGISTRY.example/os", Reference("REGISTRY.example", "os", "latest", None)),
    ("localhost/os", Reference("localhost", "os", "latest", None)),
    ("localhost:5000/os", Reference("localhost:5000", "os", "latest", None)),
    ("local:5000/os", Reference("local:5000", "os", "latest", None)),
    ("10.0.2.2:5000/os", Reference("10.0.2.2:5000", "os", "latest", None)),
    ("[::1]/os", Reference("[::1]", "os", "latest", None)),
    ("[2001:db8::1]:5000/me/os:v1", Reference("[2001:db8::1]:5000", "me/os", "v1", None)),
    ("[::ffff:10.0.2.2]:5000/os", Reference("[::ffff:10.0.2.2]:5000", "os", "latest", None)),
    (f"os@{SHA256}", Reference("docker.io", "library/os", "latest", SHA256)),
    (f"registry.example/os@{SHA512}", Reference("registry.example", "os", "latest", SHA512)),
    (f"registry.example:5000/os:v1@{SHA256}", Reference("registry.example:5000", "os", "v1", SHA256)),
    ("a.b/c.d/e_f/g__h/i-j/k---l", Reference("a.b", "c.d/e_f/g__h/i-j/k---l", "latest", None)),
    ("a.b/os:_v1.2-RC", Reference("a.b", "os", "_v1.2-RC", None)),
    ("a.b/os:" + "t" * 128, Reference("a.b", "os", "t" * 128, None)),
)


@pytest.mark.parametrize(("text", "reference"), TABLE, ids=[text[:60] for text, _ in TABLE])
def test_valid(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize("reference", [reference for _, reference in TABLE], ids=str)
def test_full_text_means_the_same(reference: Reference) -> None:
    again = parse_reference(str(reference))
    assert (again.registry, again.repository, again.target) == (
        reference.registry,
        reference.repository,
        reference.target,
    )


def test_target_is_the_digest_where_there_is_one() -> None:
    assert parse_reference(f"a.b/os:v1@{SHA256}").target == SHA256
    assert parse_reference("a.b/os:v1").target == "v1"


@pytest.mark.parametrize(
    ("text", "host"),
    [("os", "registry-1.docker.io"), ("docker.io/me/os", "registry-1.docker.io"), ("a.b:5000/os", "a.b:5000")],
)
def test_host(text: str, host: str) -> None:
    assert parse_reference(text).host == host


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a repository name"),
        ("/os", "not a repository name"),
        ("a.b/", "not a repository name"),
        ("a.b//os", "not a repository name"),
        ("a.b/os/", "not a repository name"),
        ("a.b/OS", "not a repository name"),
        ("a.b/-os", "not a repository name"),
        ("a.b/o..s", "not a repository name"),
        ("a.b/o___s", "not a repository name"),
        ("a.b/../etc", "not a repository name"),
        ("a.b/os:v1:v2", "not a repository name"),
        ("a.b/os?x=1", "not a repository name"),
        ("a.b/os%2e", "not a repository name"),
        ("a.b/ os", "not a repository name"),
        ("a.b/os:", "not a tag"),
        ("a.b/os:-v", "not a tag"),
        ("a.b/os:v/1", "not a tag"),
        ("a.b/os:" + "t" * 129, "not a tag"),
        ("a.b/os:v 1", "not a tag"),
        ("a.b/os:v\n", "not a tag"),
        ("user:password@a.b/os", "not a sha256 or sha512 digest"),
        ("a.b/os@", "not a sha256 or sha512 digest"),
        ("a.b/os@sha256:abc", "not a sha256 or sha512 digest"),
        (f"a.b/os@{SHA256.upper()}", "not a sha256 or sha512 digest"),
        (f"a.b/os@{SHA256}0", "not a sha256 or sha512 digest"),
        ("a.b/os@md5:" + "0" * 32, "not a sha256 or sha512 digest"),
        (f"a.b/os@{SHA256}@{SHA256}", "not a sha256 or sha512 digest"),
        ("a.b:port/os", "not a host"),
        ("a.b:/os", "not a host"),
        ("a.b:123456/os", "not a host"),
        (".b/os", "not a host"),
        ("a.b-/os", "not a host"),
        ("[::1/os", "not a host"),
        ("[::g]/os", "not a host"),
        ("https://a.b/os", "not a host"),
        ("a.b\\c/os", "not a host"),
    ],
)
def test_invalid(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"is {re.escape(why)}"):
        parse_reference(text)
