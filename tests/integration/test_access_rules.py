"""registries.yaml, as a file and as a credential: where names lead, what is not allowed, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lib.access import Stored, found, rehearsed, secret
from tests.lib.dead_servers import closed_port
from tests.lib.fault_proxy import fault_proxy
from tests.lib.host_files import RULES, credential, host_files, rules
from tests.lib.program import Program

pytest_plugins = ("tests.lib.access_fixtures",)

PLACES = {"file": RULES, "credential": credential("registries")}


@pytest.mark.parametrize("path", PLACES.values(), ids=PLACES.keys())
def test_location(path: Path, program: Program, image: Stored) -> None:
    text = f"""
registries:
  - prefix: registry.example/apps   # what people write
    location: {image.registry.host}/team
    insecure: true
"""
    with host_files({path: text}):
        found(program.run("inspect", "--json", "docker://registry.example/apps/os"), image)
        found(program.run("inspect", "--json", f"docker://registry.example/apps/deep/os@{image.digest}"), image)
        program.run("inspect", "docker://registry.example/apps/none").error(
            f"{image.registry.host}/v2/team/none", "404"
        )


@pytest.mark.parametrize("path", PLACES.values(), ids=PLACES.keys())
def test_blocked(path: Path, program: Program, image: Stored, tmp_path: Path) -> None:
    """Neither mirrors of the rule nor of the command line help."""
    with fault_proxy(image.registry) as server:
        mirror = {"location": server.host, "insecure": True}
        with host_files({path: rules({"prefix": "bad.example", "blocked": True, "mirrors": [mirror]})}):
            kargs = f"bootc.registry.mirror=http://{server.host}"
            rehearsed(program, "docker://bad.example/os", tmp_path, kargs).error("bad.example", "blocked")
        assert server.asked() == []


def test_blocked_source_and_a_fallback(program: Program, image: Stored, tmp_path: Path) -> None:
    with host_files({RULES: rules({"prefix": "bad.example", "blocked": True})}):
        kargs = f"bootc.live.fallback={image.archive}"
        assert "blocked" in rehearsed(program, "docker://bad.example/os", tmp_path, kargs).good().stderr


@pytest.mark.parametrize(
    ("pull", "by_tag", "by_digest"), [("all", True, True), ("tag-only", True, False), ("digest-only", False, True)]
)
def test_what_mirrors_are_for(
    pull: str, by_tag: bool, by_digest: bool, program: Program, image: Stored, tmp_path: Path
) -> None:
    for end, expected in ((":latest", by_tag), (f"@{image.digest}", by_digest)):
        with fault_proxy(image.registry) as mirror, fault_proxy(image.registry) as home:
            mirrors = [{"location": mirror.host, "insecure": True, "pull-from-mirror": pull}]
            with host_files({RULES: rules({"location": home.host, "insecure": True, "mirrors": mirrors})}):
                rehearsed(program, home.source(f"os{end}"), tmp_path).good()
            manifest = f"/manifests/{end[1:]}"
            assert len(mirror.asked(manifest)) == expected
            assert len(home.asked(manifest)) == (not expected)


def test_mirror_without_tls_is_for_digests(program: Program, image: Stored, tmp_path: Path) -> None:
    """Unless the file says otherwise, which the rows above do; the command line cannot."""
    for ruled in (True, False):
        with fault_proxy(image.registry) as mirror, fault_proxy(image.registry) as home:
            mirrors = [{"location": mirror.host, "insecure": True}] if ruled else []
            with host_files({RULES: rules({"location": home.host, "insecure": True, "mirrors": mirrors})}):
                kargs = "" if ruled else f"bootc.registry.mirror=http://{mirror.host}"
                rehearsed(program, home.source("os"), tmp_path, kargs).good()
            assert [seen.path for seen in mirror.asked("/manifests/")] == []
            assert mirror.asked("/blobs/")
            assert len(home.asked()) == 1


def test_mirror_for_digests_has_a_tag_s_layers(program: Program, image: Stored, tmp_path: Path) -> None:
    """What the tag stands for is the registry's word, and what has a digest may come from anywhere."""
    with fault_proxy(image.registry) as mirror, fault_proxy(image.registry) as home:
        mirrors = [{"location": mirror.host, "insecure": True, "pull-from-mirror": "digest-only"}]
        with host_files({RULES: rules({"location": home.host, "insecure": True, "mirrors": mirrors})}):
            rehearsed(program, home.source("os"), tmp_path).good()
        assert mirror.asked("/blobs/")
        assert home.asked("/blobs/") == []


def test_insecure_is_said_of_each_place(program: Program, image: Stored) -> None:
    """A mirror over plain HTTP needs to be allowed by itself, whatever is allowed for the registry."""
    for mirror, home in ((False, True), (True, False)):
        mirrors = [{"location": image.registry.host, "insecure": mirror, "pull-from-mirror": "all"}]
        entry = {"prefix": "registry.example", "location": image.registry.host, "insecure": home, "mirrors": mirrors}
        with host_files({RULES: rules(entry)}):
            ended = program.run("inspect", "--json", "docker://registry.example/os")
        found(ended, image)
        assert "is NOT checked" in ended.stderr
        assert ("does not speak TLS" in ended.stderr) == (not mirror)


def test_location_that_is_dead(program: Program, tmp_path: Path) -> None:
    """The error names what was typed and where it led."""
    with closed_port() as port:
        entry = {"prefix": "registry.example", "location": f"127.0.0.1:{port}/apps", "insecure": True}
        with host_files({RULES: rules(entry)}):
            source = "docker://registry.example/os"
            rehearsed(program, source, tmp_path).error(repr(source), f"http://127.0.0.1:{port}/v2/apps/os/manifests")


def test_rules_are_for_registries(program: Program, image: Stored) -> None:
    with host_files({RULES: rules({"prefix": "127.0.0.1", "blocked": True})}):
        found(program.run("inspect", "--json", image.archive), image)


PASSWORD = "hunter2-in-a-location"
DAMAGED = {
    "tab": ("registries:\n\t- prefix: a.example\n", ("is not YAML", "line 2")),
    "login": (f"registries:\n- location: me:{PASSWORD}@b.example\n", ("registry 1", "location")),
    "two-mistakes": ("registries:\n- prefix: a b\n- mirrors: 7\n", ("registry 1", "registry 2")),
}


@pytest.mark.parametrize("path", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize(("text", "told"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_file(text: str, told: tuple[str, ...], path: Path, program: Program) -> None:
    with host_files({path: text}):
        secret(program.run("inspect", "docker://r.example/os"), PASSWORD).error(path, *told)
