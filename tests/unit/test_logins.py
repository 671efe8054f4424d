"""Credentials for registries: the forms podman and docker write, which one counts, and that none of them shows."""

from __future__ import annotations

import base64
import json
import traceback

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.logins import AuthFile, Login, Logins, parse_logins

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
        ({"auth": base64.encodebytes(b"me:" + b"p" * 120).decode()}, Login("me", "p" * 120)),
        ({"auth": base64.encodebytes(b"me:" + b"p" * 120).decode().replace("\n", "\r\n\t ")}, Login("me", "p" * 120)),
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
    assert files.helper_for("gcr.example") == f"'{FILE}' names the credential helper docker-credential-gcr"
    assert files.helper_for("a.example") == f"'{FILE}' names the credential helper docker-credential-pass"
    assert Logins((parse({}),)).helper_for("a.example") is None


@pytest.mark.parametrize(
    ("name", "helper"),
    [
        ("gcr.example/team/os", "team"),
        ("gcr.example/os", "gcr"),
        ("GCR.example/os", "gcr"),
        ("gcr.example", "gcr"),
        ("docker.io/library/x", "hub"),
        ("other.example/team/os", "store"),
    ],
)
def test_which_helper_is_named(name: str, helper: str) -> None:
    keys = {"gcr.example": "gcr", "gcr.example/team": "team", "https://index.docker.io/v1/": "hub"}
    logins = Logins((parse({}, credHelpers=keys, credsStore="store"),))
    registry, _, repository = name.partition("/")
    assert str(logins.helper_for(registry, repository)).endswith(f"docker-credential-{helper}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is not JSON"),
        (b"S3CRET", "is not JSON"),
        (b'{"auths": {"a": {"auth": "S3CRET"', "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'"S3CRET"', "is not a JSON object"),
        (b'{"auths": ["S3CRET"]}', "has the wrong type"),
        (b'{"credHelpers": "S3CRET"}', "has the wrong type"),
        (b'{"credsStore": ["S3CRET"]}', "has the wrong type"),
    ],
)
def test_damaged_files(text: bytes, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_logins(text, FILE)
    check_tells_nothing(caught.value, said)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("S3CRET", "entry 2 of auths in '/etc/bootc-live/auth.json' is not a JSON object"),
        (["S3CRET"], "is not a JSON object"),
        (None, "is not a JSON object"),
        ({"auth": "S3CRET!"}, "entry 2 of auths in '/etc/bootc-live/auth.json' has an auth"),
        ({"auth": "UzNDUkVU"}, "not base64 of USER:PASSWORD"),
        ({"auth": "/////w=="}, "not base64 of USER:PASSWORD"),
        ({"auth": "\u00e9S3CRET"}, "not base64 of USER:PASSWORD"),
        ({"auth": "   "}, "not base64 of USER:PASSWORD"),
        ({"password": 5}, "has a password that is not a string"),
        ({"username": ["S3CRET"]}, "has a username that is not a string"),
        ({"identitytoken": {}}, "has a identitytoken that is not a string"),
    ],
)
def test_a_damaged_entry_is_told_to_who_needs_it(entry: object, said: str) -> None:
    """Nobody else has anything to do with it."""
    keys = {"a.example": auth("me", "pw"), "b.example": entry, "c.example/team": entry, "c.example": auth("you", "pw")}
    files = Logins((parse(keys),))
    for registry, repository, user in (
        ("a.example", "os", "me"),
        ("c.example", "os", "you"),
        ("d.example", "os", None),
    ):
        login = files.find(registry, repository)
        assert (login.username if login else None) == user
    with pytest.raises(ConfigError) as caught:
        files.find("b.example", "os")
    check_tells_nothing(caught.value, said)
    with pytest.raises(ConfigError):
        files.find("c.example", "team/os")
    assert "S3CRET" not in repr(files)


def check_tells_nothing(error: ConfigError, said: str) -> None:
    """Neither the message nor what a defect report would print holds any of the content."""
    assert said in error.message
    assert FILE in error.message
    printed = "".join(traceback.format_exception_only(error)) + repr(error.__cause__) + error.hint
    assert "S3CRET" not in printed
    assert "UzNDUkVU" not in printed
    assert error.__suppress_context__ or error.__context__ is None


def test_repr_hides_everything() -> None:
    files = Logins((parse({"a": auth("S3CRET-user", "S3CRET"), "b": {"identitytoken": "S3CRET"}}),))
    assert "S3CRET" not in repr(files)
    assert "S3CRET" not in str(files.find("a", "x"))
    assert repr(files.find("a", "x")) == "Login(password, hidden)"
    assert repr(files.find("b", "x")) == "Login(identity token, hidden)"
