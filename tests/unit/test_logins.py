"""Credentials for registries: the forms podman and docker write, which one counts, and that none of them shows."""

from __future__ import annotations

import base64
import json
import traceback

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.logins import AuthFile, Login, Logins, parse_logins

FILE = "/etc/bootc-live/auth.json"


def auth(user: str, password: str) -> dict[str, object]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def parse(auths: object, **others: object) -> AuthFile:
    return parse_logins(json.dumps({"auths": auths, **others}).encode(), FILE)


def find(name: str, *files: AuthFile) -> str | None:
    registry, _, repository = name.partition("/")
    login = Logins(files).find(registry, repository)
    return login.username if login else None


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        (auth("me", "pw"), Login("me", "pw")),
        (auth("me", "p:w:"), Login("me", "p:w:")),
        (auth("mé", "pẃ"), Login("mé", "pẃ")),
        (auth("me", ""), Login("me", "")),
        (auth("me", "pw\0\0"), Login("me", "pw")),
        ({"username": "me", "password": "pw"}, Login("me", "pw")),
        ({**auth("me", "pw"), "username": "you", "password": "qw"}, Login("me", "pw")),
        ({"auth": "", "username": "me", "password": "pw"}, Login("me", "pw")),
        ({**auth("me", ""), "identitytoken": "t"}, Login("me", None, "t")),
        ({"identitytoken": "t"}, Login(None, None, "t")),
        ({**auth("me", "pw"), "email": "me@a.example"}, Login("me", "pw")),
    ],
)
def test_forms(entry: object, login: Login) -> None:
    assert parse({"a.example": entry}).logins == {"a.example": login}


@pytest.mark.parametrize("entry", [{}, {"auth": ""}, {"auth": None}, {"email": "x"}, {"password": "pw"}])
def test_an_empty_entry_is_no_login(entry: object) -> None:
    assert parse({"a.example": entry}).logins == {}


@pytest.mark.parametrize("text", [b"{}", b'{"auths": {}}', b'{"auths": null, "credHelpers": null, "credsStore": ""}'])
def test_files_without_logins(text: bytes) -> None:
    logins = Logins((parse_logins(text, FILE),))
    assert logins.find("a.example", "os") is None
    assert logins.helper_for("a.example") is None


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("a.example/team/os", "repository"),
        ("a.example/team/os/deep", "repository"),
        ("a.example/team/x", "team"),
        ("a.example/teamwork/x", "host"),
        ("a.example/x", "host"),
        ("A.Example/x", "host"),
        ("a.example:5000/x", "port"),
        ("b.a.example/x", None),
        ("example/x", None),
    ],
)
def test_the_most_specific_key_counts(name: str, user: str | None) -> None:
    keys = {"a.example": "host", "a.example:5000": "port", "a.example/team": "team", "a.example/team/os": "repository"}
    for order in (keys, dict(reversed(keys.items()))):
        assert find(name, parse({key: auth(value, "pw") for key, value in order.items()})) == user


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("https://index.docker.io/v1/", "docker.io/library/x"),
        ("index.docker.io/v1/", "docker.io/library/x"),
        ("index.docker.io", "docker.io/library/x"),
        ("registry-1.docker.io", "docker.io/library/x"),
        ("docker.io", "docker.io/library/x"),
        ("docker.io", "registry-1.docker.io/library/x"),
        ("docker.io/library", "docker.io/library/x"),
        ("https://a.example", "a.example/x"),
        ("http://a.example:5000/", "a.example:5000/x"),
        ("https://a.example/v2/", "a.example/x"),
        ("https://a.example/v1", "a.example/x"),
        ("a.example/v2", "a.example/v2/x"),
    ],
)
def test_old_spellings_of_keys(key: str, name: str) -> None:
    assert find(name, parse({key: auth("me", "pw")})) == "me"


def test_keys_mean_no_more_than_they_say() -> None:
    assert find("a.example/x", parse({"https://a.example/team": auth("me", "pw")})) is None
    assert find("a.example/x", parse({"a.example/v2": auth("me", "pw")})) is None


def test_the_plain_spelling_comes_before_the_old_one() -> None:
    file = parse({"https://index.docker.io/v1/": auth("old", "pw"), "docker.io": auth("new", "pw")})
    assert find("docker.io/library/x", file) == "new"


def test_the_first_file_with_a_login_counts() -> None:
    first = parse({"a.example": auth("first", "pw")})
    second = parse({"a.example/team": auth("second", "pw"), "b.example": auth("second", "pw")})
    assert find("a.example/team/os", first, second) == "first"
    assert find("a.example/team/os", second, first) == "second"
    assert find("b.example/os", first, second) == "second"


def test_helpers_are_named_and_not_asked() -> None:
    files = Logins((parse({"a.example": {}}, credHelpers={"https://gcr.example": "gcr"}), parse({}, credsStore="pass")))
    assert files.find("a.example", "os") is None
    assert files.helper_for("gcr.example") == f"'{FILE}' leaves it to the program docker-credential-gcr"
    assert files.helper_for("a.example") == f"'{FILE}' leaves it to the program docker-credential-pass"
    assert Logins((parse({}),)).helper_for("a.example") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is not JSON"),
        (b"S3CRET", "is not JSON"),
        (b'{"auths": {"a": {"auth": "S3CRET"', "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'"S3CRET"', "is not a JSON object"),
        (b'{"auths": ["S3CRET"]}', "of a wrong type"),
        (b'{"credHelpers": "S3CRET"}', "of a wrong type"),
        (b'{"credsStore": ["S3CRET"]}', "of a wrong type"),
        (b'{"auths": {"a": {}, "b": "S3CRET"}}', "entry 2 of auths in '/etc/bootc-live/auth.json' is not a JSON obj"),
        (b'{"auths": {"a": {"auth": "S3CRET!"}}}', "entry 1 of auths in '/etc/bootc-live/auth.json' has an auth"),
        (b'{"auths": {"a": {"auth": "UzNDUkVU"}}}', "not base64 of USER:PASSWORD"),
        (b'{"auths": {"a": {"auth": "/////w=="}}}', "not base64 of USER:PASSWORD"),
        (b'{"auths": {"a": {"password": 5}}}', "has a password that is not a text"),
    ],
)
def test_damaged_files(text: bytes, said: str) -> None:
    """Neither the message nor what a defect report would print holds any of the content."""
    with pytest.raises(ConfigError) as caught:
        parse_logins(text, FILE)
    assert said in caught.value.message
    assert FILE in caught.value.message
    printed = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value.__cause__) + caught.value.hint
    assert "S3CRET" not in printed
    assert "UzNDUkVU" not in printed
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_repr_hides_everything() -> None:
    files = Logins((parse({"a": auth("S3CRET-user", "S3CRET"), "b": {"identitytoken": "S3CRET"}}),))
    assert "S3CRET" not in repr(files)
    assert "S3CRET" not in str(files.find("a", "x"))
    assert repr(files.find("a", "x")) == "Login(password, hidden)"
    assert repr(files.find("b", "x")) == "Login(identity token, hidden)"
