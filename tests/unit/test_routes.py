"""Rules for registries: which one counts, what it makes of a name, and where mirrors of the command line go."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.host.routes import Endpoint, RegistryRules, Route, Rule, with_mirrors
from bootc_live.config.model import Mirror


def resolve(name: str, *rules: Rule) -> Route:
    registry, _, repository = name.partition("/")
    return RegistryRules(rules).resolve(registry, repository)


def test_without_rules_a_name_is_its_place() -> None:
    assert resolve("docker.io/library/x") == Route(False, Endpoint("docker.io", "library/x"))


@pytest.mark.parametrize(
    ("prefix", "name", "rest"),
    [
        ("a.example", "a.example/os", "os"),
        ("a.example", "a.example/team/os", "team/os"),
        ("a.example/team", "a.example/team/os", "os"),
        ("a.example/team/os", "a.example/team/os", ""),
        ("a.example:5000", "a.example:5000/os", "os"),
        ("*.example", "a.example/os", "os"),
        ("*.example", "b.a.example/os", "os"),
        ("*.example:5000", "a.example:5000/os", "os"),
        ("*.example/team", "a.example/team/os", "os"),
        ("docker.io/library", "docker.io/library/x", "x"),
        ("a.example", "a.example:5000/os", None),
        ("a.example:5000", "a.example/os", None),
        ("a.example", "b.a.example/os", None),
        ("a.example/te", "a.example/team/os", None),
        ("a.example/team/os", "a.example/team", None),
        ("*.example", "example/os", None),
        ("*.example", ".example/os", None),
        ("*.example", "a.badexample/os", None),
        ("*.example/team", "a.example/other", None),
    ],
)
def test_prefixes_match_by_segments(prefix: str, name: str, rest: str | None) -> None:
    assert Rule(prefix).rest_of(name) == rest


RULES = (
    Rule("*.example", location="wild.test"),
    Rule("a.example", location="host.test"),
    Rule("*.b.example", location="wilder.test"),
    Rule("*.example/team", location="wild-team.test/t"),
    Rule("a.example/team", location="team.test/t"),
    Rule("a.example/team/os", location="exact.test/x/y"),
)


@pytest.mark.parametrize("rules", [RULES, RULES[::-1]], ids=["up", "down"])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("c.example/os", "wild.test/os"),
        ("a.example/os", "host.test/os"),
        ("c.b.example/os", "wilder.test/os"),
        ("c.example/team/os", "wild-team.test/t/os"),
        ("a.example/team/x", "team.test/t/x"),
        ("a.example/team/os", "exact.test/x/y"),
        ("a.example/team/os/deep", "exact.test/x/y/deep"),
        ("other.test/os", "other.test/os"),
    ],
)
def test_the_longest_prefix_wins_in_any_order(rules: tuple[Rule, ...], name: str, place: str) -> None:
    origin = resolve(name, *rules).origin
    assert f"{origin.host}/{origin.repository}" == place


def test_everything_of_a_rule_arrives() -> None:
    rule = Rule(
        "a.example/team",
        location="o.test/t",
        insecure=True,
        blocked=True,
        mirrors=(Mirror("m.test:5000/a/b", True, "digest-only"), Mirror("n.test", pull="tag-only")),
    )
    assert resolve("a.example/team/os", rule) == Route(
        blocked=True,
        origin=Endpoint("o.test", "t/os", insecure=True),
        mirrors=(Endpoint("m.test:5000", "a/b/os", True, "digest-only"), Endpoint("n.test", "os", False, "tag-only")),
        prefix="a.example/team",
    )


def test_a_rule_without_location_leaves_the_name() -> None:
    """Mirrors still get only what follows the prefix."""
    route = resolve("x.example/team/os", Rule("*.example/team", mirrors=(Mirror("m.test/copy"),)))
    assert route.origin == Endpoint("x.example", "team/os")
    assert route.mirrors == (Endpoint("m.test", "copy/os"),)


@pytest.mark.parametrize(
    "rule",
    [
        Rule("a.example/os", location="bare.test", origin="/r.yaml"),
        Rule("a.example/os", mirrors=(Mirror("bare.test"),), origin="/r.yaml"),
    ],
)
def test_no_repository_left_is_an_error(rule: Rule) -> None:
    with pytest.raises(ConfigError, match=r"'/r\.yaml' maps 'a.example/os' to 'bare.test'") as caught:
        resolve("a.example/os", rule)
    assert "'a.example/os'" in caught.value.hint
    assert resolve("a.example/os/x", rule).prefix == "a.example/os"


def test_rules_before_others() -> None:
    mine = RegistryRules((Rule("a", location="x"), Rule("b")))
    others = RegistryRules((Rule("a", location="y"), Rule("a/b", location="z/z")))
    both = mine.before(others)
    assert both.resolve("a", "os").origin.host == "x"
    assert both.resolve("a", "b/os").origin.host == "z"
    assert RegistryRules().before(others) == others


def test_mirrors_of_the_command_line_come_first() -> None:
    route = resolve("docker.io/library/x", Rule("docker.io", mirrors=(Mirror("file.test"),)))
    chosen = with_mirrors(route, [Mirror("b.test/hub", insecure=True), Mirror("a.test")], "library/x")
    assert chosen.mirrors == (
        # Without TLS: neither what a tag stands for nor a login.
        Endpoint("b.test", "hub/library/x", insecure=True, pull="digest-only", login=False),
        Endpoint("a.test", "library/x"),
        Endpoint("file.test", "library/x"),
    )
    assert (chosen.origin, chosen.prefix, chosen.blocked) == (route.origin, "docker.io", False)


def test_one_mirror_named_twice_is_asked_once() -> None:
    route = resolve("a.example/x", Rule("a.example", mirrors=(Mirror("m.test"), Mirror("n.test"))))
    chosen = with_mirrors(route, [Mirror("n.test")], "x")
    assert [mirror.host for mirror in chosen.mirrors] == ["n.test", "m.test"]
