"""The registries file: what a good one gives, and that a bad one is refused with file and entry."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.registries import parse_rules
from bootc_live.config.host.routes import RegistryRules, Rule
from bootc_live.config.model import Mirror

FILE = "/etc/bootc-live/registries.yaml"
GOOD = """
registries:
  - prefix: registry.example/os
    location: origin.example:5000/team/os
    insecure: true
    blocked: false
    mirrors:
      - location: mirror-a.example
        insecure: true
      - location: mirror-b.example/cache/
        pull-from-mirror: digest-only
  - prefix: "*.corp.example"
    blocked: true
  - location: docker.io
    mirrors: [{location: "10.0.0.1:5000", pull-from-mirror: tag-only}, {location: "[fd00::1]:5000/hub"}]
"""


def mistakes(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_rules(text, FILE)
    assert caught.value.message.startswith(f"'{FILE}'")
    assert caught.value.hint
    return caught.value.message


def test_a_good_file() -> None:
    assert parse_rules(GOOD, FILE).rules == (
        Rule(
            "registry.example/os",
            "origin.example:5000/team/os",
            insecure=True,
            mirrors=(
                Mirror("mirror-a.example", True, "digest-only"),
                Mirror("mirror-b.example/cache", pull="digest-only"),
            ),
            origin=FILE,
        ),
        Rule("*.corp.example", blocked=True, origin=FILE),
        Rule(
            "docker.io",
            "docker.io",
            mirrors=(Mirror("10.0.0.1:5000", pull="tag-only"), Mirror("[fd00::1]:5000/hub")),
            origin=FILE,
        ),
    )
    assert parse_rules(GOOD.encode(), FILE) == parse_rules(GOOD, FILE)


@pytest.mark.parametrize(
    ("lines", "pull"),
    [
        ("", "all"),
        ("insecure: false", "all"),
        ("insecure: true", "digest-only"),
        ("{insecure: true, pull-from-mirror: all}", "all"),
        ("{insecure: true, pull-from-mirror: tag-only}", "tag-only"),
    ],
)
def test_what_a_mirror_is_asked_for(lines: str, pull: str) -> None:
    """One without TLS tells what a tag stands for only where the file says so."""
    more = ", " + lines.strip("{}") if lines else ""
    text = f"registries: [{{location: a.example, mirrors: [{{location: m.example{more}}}]}}]"
    ((mirror,),) = (rule.mirrors for rule in parse_rules(text, FILE).rules)
    assert mirror.pull == pull


@pytest.mark.parametrize("text", ["", "# nothing\n", "registries:\n", "registries: []\n", "{}", b""])
def test_empty_files(text: str | bytes) -> None:
    assert parse_rules(text, FILE) == RegistryRules()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registries: [", "is not YAML: line 1"),
        ("a: b: c", "is not YAML: line 1"),
        ("registries:\n\t- prefix: a", "is not YAML: line 2"),
        ("!!python/object/apply:os.system [x]", "is not YAML: line 1"),
        ("a\0b", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("5", "the file is not a mapping with registries"),
        ("mirrors: []", "the file has the unknown key 'mirrors' (known: registries)"),
        ("registries: {a: b}", "the file: registries is not a list"),
        ("registries: [a]", "registry 1 is not a mapping with prefix, location"),
        ("registries: [{location: a}, 3]", "registry 2 is not a mapping with prefix, location"),
        ("registries: [{}]", "registry 1 has neither a prefix nor a location"),
        ("registries: [{insecure: true}]", "registry 1 has neither a prefix nor a location"),
        ("registries: [{prefix: a, mirror: []}]", "registry 1 has the unknown key 'mirror' (known: prefix, loc"),
        ("registries: [{prefix: 5}]", "registry 1: prefix is not a string"),
        ("registries: [{prefix: }]", "registry 1: prefix is empty"),
        ("registries: [{prefix: a, insecure: 'yes'}]", "registry 1: insecure is not true or false"),
        ("registries: [{prefix: a, blocked: 1}]", "registry 1: blocked is not true or false"),
        ("registries: [{prefix: 'https://a'}]", "registry 1: prefix 'https://a' must not start with https://"),
        ("registries: [{location: '*.a'}]", "registry 1: location '*.a' is not HOST[:PORT][/PATH]"),
        ("registries: [{prefix: 'a*.b'}]", "registry 1: prefix 'a*.b' is not HOST"),
        ("registries: [{prefix: a/B}]", "registry 1: prefix 'a/B' is not HOST"),
        ("registries: [{prefix: 'a/b:tag'}]", "registry 1: prefix 'a/b:tag' is not HOST"),
        ("registries: [{prefix: ''}]", "registry 1: prefix '' is not HOST"),
        ("registries: [{prefix: a}, {location: a}]", "registry 2 repeats the prefix 'a' of an earlier one"),
        ("registries: [{prefix: a, mirrors: b}]", "registry 1: mirrors is not a list"),
        ("registries: [{prefix: a, mirrors: [b]}]", "registry 1, mirror 1 is not a mapping with location"),
        ("registries: [{prefix: a, mirrors: [{}]}]", "registry 1, mirror 1 has no location"),
        ("registries: [{prefix: a, mirrors: [{location: }]}]", "registry 1, mirror 1: location is empty"),
        ("registries: [{prefix: a, mirrors: [{location: b, blocked: true}]}]", "mirror 1 has the unknown key 'bl"),
        (
            "registries: [{prefix: a, mirrors: [{location: b}, {location: c, pull-from-mirror: never}]}]",
            "registry 1, mirror 2: pull-from-mirror is not one of all, digest-only, tag-only",
        ),
    ],
)
def test_bad_files(text: str, said: str) -> None:
    """One mistake is reported once."""
    told = mistakes(text)
    assert said in told
    assert ";" not in told


def test_all_mistakes_at_once() -> None:
    told = mistakes("registries: [{prefix: 5, insecure: 5}, {location: b, mirrors: [{location: c d}, {lokation: e}]}]")
    assert told.split("cannot be used: ")[1].split("; ") == [
        "registry 1: prefix is not a string",
        "registry 1: insecure is not true or false",
        "registry 2, mirror 1: location 'c d' is not HOST[:PORT][/PATH]",
        (
            "registry 2, mirror 2 has the unknown key 'lokation' (known: location, insecure, "
            "pull-from-mirror, token-service)"
        ),
        "registry 2, mirror 2 has no location",
    ]


@pytest.mark.parametrize("place", ["me:S3CRET@a.example", "https://me:S3CRET@a.example/x"])
def test_no_secrets_in_errors(place: str) -> None:
    told = mistakes(f"registries: [{{location: '{place}', mirrors: [{{location: '{place}'}}]}}]")
    assert "S3CRET" not in told
    assert told.count("***@a.example") == 2
