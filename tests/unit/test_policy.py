"""Policies of signatures: which line decides, what is refused, and that nothing is skipped that cannot be followed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError, TrustError
from bootc_live.base.log import Recorder
from bootc_live.config.host.policy import Kind, Policy, Requirement, parse_policy
from bootc_live.config.host.trust import Trust, read_trust
from bootc_live.config.model import Require, TrustConfig
from bootc_live.config.source_spec import parse_source
from bootc_live.formats.oci.reference import parse_reference
from bootc_live.image import trust
from bootc_live.image.candidate import looked_up
from bootc_live.image.detached import Evidence, FileSignatures
from bootc_live.image.trust import check_source, check_trust
from bootc_live.source.access import Access
from bootc_live.system import signatures
from tests.lib.archive_members import tar_of
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.tar_writer import file, layer

ACCEPT, REJECT = {"type": "insecureAcceptAnything"}, {"type": "reject"}
SIGNED = {"type": "sigstoreSigned", "keyPath": "/key.pub"}
REGISTRY, ARCHIVE = "docker://registry.example/team/os:1", "/os.oci"
UPPER = {"type": "exactRepository", "dockerRepository": "r/OS"}
PINNED = f"docker://registry.example/team/os@sha256:{'a' * 64}"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    private = tmp_path_factory.mktemp("key") / "key.pem"
    make = ["openssl", "genpkey", "-algorithm", "ED25519", "-out", str(private)]
    subprocess.run(make, check=True, capture_output=True)
    shown = subprocess.run(["openssl", "pkey", "-in", private, "-pubout"], check=True, capture_output=True)
    return shown.stdout


def parsed(document: object, key: bytes = b"") -> Policy:
    return parse_policy(json.dumps(document).encode(), "/policy.json", lambda _: key)


SCOPES = {
    "registry.example/team/os:1": [REJECT],
    "registry.example/team/os": [ACCEPT],
    "registry.example/team": [REJECT, ACCEPT],
    "registry.example": [ACCEPT, ACCEPT],
    "*.example": [REJECT, REJECT],
    "": [ACCEPT, REJECT],
}


@pytest.mark.parametrize(
    ("image", "scope"),
    [
        ("registry.example/team/os:1", "registry.example/team/os:1"),
        ("registry.example/team/os:2", "registry.example/team/os"),
        (f"registry.example/team/os@sha256:{'b' * 64}", "registry.example/team/os"),
        ("registry.example/team/other:1", "registry.example/team"),
        ("registry.example/teams/os:1", "registry.example"),
        ("other.example/team/os:1", "*.example"),
        ("deep.other.example/os:1", "*.example"),
        ("registry.example:5000/team/os:1", "*.example"),
        ("registry.test/team/os:1", ""),
    ],
)
def test_the_nearest_scope_decides(image: str, scope: str) -> None:
    rule, found = parsed({"default": [REJECT], "transports": {"docker": SCOPES}}).requirements(parse_reference(image))
    assert rule == f"/policy.json: docker {scope!r}"
    assert [each.kind for each in found] == [each["type"] for each in SCOPES[scope]]


@pytest.mark.parametrize(
    ("image", "scope"),
    [
        ("REGISTRY.example/os", "registry.example"),
        ("registry.example/os", "Registry.Example"),
        ("registry.example/os", "registry.example."),
        ("registry.example/os", "registry.example.:443"),
        ("registry.example:443/os", "registry.example"),
        ("registry.example/os", "registry.example:443/os"),
        ("Registry.example:443/os:1", "registry.EXAMPLE/os:1"),
        ("registry.example:5000/os", "REGISTRY.example:5000"),
        ("a.Registry.example/os", "*.registry.EXAMPLE"),
        ("[FD00::1]:443/os", "[fd00::1]"),
        ("[fd00::443]/os", "[fd00::443]"),
        ("os", "docker.io/library/os"),
        ("os", "index.docker.io"),
        ("os", "registry-1.docker.io/library"),
        ("index.docker.io/os", "docker.io/library/os"),
        ("registry-1.docker.io:443/team/os", "docker.io/team"),
        ("registry.example/os", None),
        ("registry.example:5000/os", "other.example"),
    ],
)
def test_no_spelling_of_a_host_evades_a_scope(image: str, scope: str | None) -> None:
    """containers/image compares letter by letter, so that another spelling would be judged by the default."""
    scopes = {"other.example": [ACCEPT], **({} if scope is None else {scope: [REJECT]})}
    rule, found = parsed({"default": [ACCEPT], "transports": {"docker": scopes}}).requirements(parse_reference(image))
    hit = scope is not None and scope != "other.example"
    assert rule == (f"/policy.json: docker {scope!r}" if hit else "/policy.json: default")
    assert found[0].kind == ("reject" if hit else "insecureAcceptAnything")


@pytest.mark.parametrize(
    ("image", "scope"),
    [
        ("registry.example/os", "registry.example:80"),
        ("registry.example:4430/os", "registry.example"),
        ("registry.example/os", "registry.example/OS"),
        ("registry.example/os", "example"),
        ("docker.io.example/os", "docker.io"),
        ("index.docker.io:5000/os", "docker.io"),
        ("[fd00::443]/os", "[fd00:]"),
    ],
)
def test_other_places_are_other_scopes(image: str, scope: str) -> None:
    scopes = {scope: [REJECT]}
    rule, _ = parsed({"default": [ACCEPT], "transports": {"docker": scopes}}).requirements(parse_reference(image))
    assert rule == "/policy.json: default"


@pytest.mark.parametrize(
    ("named", "identity", "expected", "same"),
    [
        ("Registry.example:443/os", "matchRepository", "", True),
        ("registry.example/os", "exactRepository", "REGISTRY.example/os", True),
        ("registry.example:443/os:1", "exactReference", "registry.example/os:1", True),
        ("registry.example/os:1", "matchExact", "", True),
        ("registry.example/os", "matchExact", "", False),
        ("registry.example/os:2", "matchExact", "", False),
        ("registry.example:5000/os", "matchRepository", "", False),
        ("registry.example/os2", "matchRepository", "", False),
        ("registry.example/OS", "matchRepository", "", False),
    ],
)
def test_what_a_signature_names(named: str, identity: str, expected: str, same: bool) -> None:
    wanted = Requirement(Kind.SIGNED, identity=identity, expected=expected)
    assert trust._same_identity(named, wanted, parse_reference("registry.EXAMPLE/os:1")) is same


@pytest.mark.parametrize("pair", [("a.example", "A.example"), ("docker.io/x", "index.docker.io/x"), ("a.b", "a.b:443")])
def test_two_spellings_of_a_scope(pair: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"the scopes '.*' and '.*' are the same"):
        parsed({"default": [ACCEPT], "transports": {"docker": {scope: [REJECT] for scope in pair}}})


@pytest.mark.parametrize(
    ("lines", "oci", "docker"),
    [
        ({}, "default", "default"),
        ({"oci-archive": [ACCEPT]}, "oci-archive", "default"),
        ({"oci": [ACCEPT], "oci-archive": [REJECT]}, "oci-archive and oci", "default"),
        ({"docker-archive": [ACCEPT]}, "default", "docker-archive"),
        ({"docker-archive": [ACCEPT], "oci": [REJECT]}, "oci", "docker-archive"),
    ],
)
def test_archives_have_lines_of_their_own(lines: dict[str, list[dict[str, str]]], oci: str, docker: str) -> None:
    """Two names stand for what is the same here: both lines count."""
    transports = {name: {"": each} for name, each in lines.items()}
    policy = parsed({"default": [REJECT, REJECT], "transports": transports})
    for is_docker, rule in ((False, oci), (True, docker)):
        wanted = [REJECT, REJECT] if rule == "default" else [one for name in rule.split(" and ") for one in lines[name]]
        found = policy.requirements(None, docker=is_docker)
        assert (found[0], [each.kind for each in found[1]]) == (
            f"/policy.json: {rule}",
            [one["type"] for one in wanted],
        )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "must be an object"),
        ({"transports": {}}, "must have a list"),
        ({"default": []}, "not an empty one"),
        ({"default": [{}]}, "unknown type None"),
        ({"default": [{"type": "accept"}]}, "unknown type 'accept'"),
        ({"default": [{**ACCEPT, "x": 1}]}, "unknown field 'x'"),
        ({"defaults": [ACCEPT]}, "'default' and 'transports'"),
        ({"default": [ACCEPT], "Default": [REJECT]}, "upper and lower case"),
        ({"default": [ACCEPT], "transports": {"docker": []}}, "an object for each"),
        ({"default": [{"type": "sigstoreSigned"}]}, "exactly one of keyPath"),
        ({"default": [{**SIGNED, "keyData": "x"}]}, "exactly one of keyPath"),
        ({"default": [{"type": "sigstoreSigned", "keyPaths": "/a"}]}, "a list of texts"),
        ({"default": [{"type": "sigstoreSigned", "keyData": "!"}]}, "not in base64"),
        ({"default": [SIGNED]}, "no public key in PEM"),
        ({"default": [{**SIGNED, "signedIdentity": {"type": "remapIdentity"}}]}, "signedIdentity"),
        ({"default": [{**SIGNED, "signedIdentity": {"type": "exactRepository"}}]}, "dockerRepository"),
        ({"default": [{**SIGNED, "signedIdentity": {"type": "matchExact", "x": 1}}]}, "needs nothing besides"),
        ({"default": [{**SIGNED, "signedIdentity": {"type": []}}]}, "signedIdentity"),
        (
            {"default": [{**SIGNED, "signedIdentity": {"type": "exactRepository", "dockerRepository": "r/OS"}}]},
            "not a repository",
        ),
        ({"default": [{"type": []}]}, "unknown type"),
        ({"default": [ACCEPT], "transports": {"oci": {"/usb": [REJECT]}}}, "has a scope"),
        ({"default": [ACCEPT], "transports": {"oci": {"": "x"}}}, "must have a list"),
    ],
    ids=str,
)
def test_mistakes(document: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parsed(document)
    assert "'/policy.json'" in caught.value.message


@pytest.mark.parametrize(
    "foreign",
    [
        {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/etc/pki/key"},
        {"type": "sigstoreSigned", "fulcio": {}, "rekorPublicKeyPath": "/x"},
        {**SIGNED, "rekorPublicKeyPath": "/rekor.pub"},
    ],
)
def test_what_cannot_be_followed_is_refused_where_it_counts(foreign: object, key: bytes) -> None:
    policy = parsed({"default": [ACCEPT], "transports": {"docker": {"registry.example": [foreign]}}}, key)
    check_source(parse_source("docker://other.example/os"), Trust((policy,)), None)
    with pytest.raises(TrustError, match=r"rejects it \(/policy.json: docker 'registry.example'\); it wants"):
        check_source(parse_source(REGISTRY), Trust((policy,)), None)


@pytest.mark.parametrize(
    ("require", "source", "pin", "policy", "used"),
    [
        ("none", REGISTRY, None, False, True),
        ("digest", REGISTRY, None, False, False),
        ("digest", ARCHIVE, None, False, False),
        ("digest", PINNED, None, False, True),
        ("digest", REGISTRY, "sha256:x", False, True),
        ("digest", ARCHIVE, "sha256:x", False, True),
        ("digest", REGISTRY, None, True, True),
        ("signature", PINNED, "sha256:x", False, False),
        ("signature", REGISTRY, None, True, True),
    ],
)
def test_strictness_before_anything_is_fetched(
    require: str, source: str, pin: str | None, policy: bool, used: bool, key: bytes
) -> None:
    policies = (parsed({"default": [SIGNED]}, key),) if policy else ()
    trust = Trust(policies, Require(require))
    if used:
        check_source(parse_source(source), trust, pin)
        return
    with pytest.raises(TrustError, match=rf"'bootc.trust.require={require}' wants") as caught:
        check_source(parse_source(source), trust, pin)
    assert repr(source.removeprefix("x")) in caught.value.message


def packed(root: Path, files: Mapping[str, bytes]) -> str:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return str(root)


OPEN = json.dumps({"default": [ACCEPT]}).encode()
POLICY, KEY, ALLOW = (f"etc/bootc-live/{name}" for name in ("policy.json", "keys/a.pub", "allow-insecure"))


def test_what_is_packed_and_what_is_added_both_count(tmp_path: Path, key: bytes) -> None:
    root = packed(tmp_path, {POLICY: OPEN, "extra.pub": key, "etc/containers/policy.json": OPEN})
    trust = read_trust(TrustConfig(keys=("/extra.pub",)), root)
    assert [policy.origin for policy in trust.policies] == [
        "/etc/bootc-live/policy.json",
        "/etc/containers/policy.json",
        "/extra.pub",
    ]


@pytest.mark.parametrize(
    ("files", "unchecked"),
    [((), True), ((POLICY,), False), ((KEY,), False), ((KEY, ALLOW), True), ((ALLOW,), True)],
)
def test_a_locked_policy_ignores_insecure(files: tuple[str, ...], unchecked: bool, tmp_path: Path, key: bytes) -> None:
    contents = {POLICY: OPEN, KEY: key, ALLOW: b""}
    root = packed(tmp_path, {name: contents[name] for name in files})
    trust = read_trust(TrustConfig(insecure=True), root)
    assert trust.unchecked is unchecked
    assert (trust.policies == ()) is unchecked
    assert ("NOT checked" if unchecked else "is ignored") in trust.warning
    assert read_trust(TrustConfig(), root).warning == ""


@pytest.mark.parametrize("kind", ["link", "missing", "directory", "large", "no key"])
def test_files_that_cannot_be_used(kind: str, tmp_path: Path, key: bytes) -> None:
    path = tmp_path / "key.pub"
    if kind == "link":
        (tmp_path / "real.pub").write_bytes(key)
        path.symlink_to("real.pub")
    elif kind == "directory":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"x" * (2**20 + 1) if kind == "large" else b"x")
    said = {"link": "is a symbolic link", "large": "larger than 1 MiB", "no key": "no public key"}
    with pytest.raises(ConfigError, match=said.get(kind, "cannot be read")) as caught:
        read_trust(TrustConfig(keys=("/key.pub",)), str(tmp_path))
    assert "bootc.trust.key=" in caught.value.hint


def test_a_threshold_needs_different_keys(tmp_path: Path, key: bytes) -> None:
    root = packed(tmp_path, {"a.pub": key, "b.pub": b"the same once more\n" + key})
    with pytest.raises(ConfigError, match="more signatures than there are different keys"):
        read_trust(TrustConfig(keys=("/a.pub", "/b.pub"), threshold=2), root)


def test_keys_alone_are_a_policy(tmp_path: Path, key: bytes) -> None:
    before = datetime(2026, 1, 1, tzinfo=UTC)
    trust = read_trust(TrustConfig(not_before=before), packed(tmp_path, {KEY: key}))
    ((rule, (requirement,)),) = (policy.requirements(None) for policy in trust.policies)
    assert rule == "/etc/bootc-live/keys/a.pub: default"
    assert (requirement.kind, requirement.threshold, trust.not_before) == (Kind.SIGNED, 1, before)


@pytest.mark.parametrize("names", [["os.PUB"], ["a.pub", "cosign.key"], []])
def test_keys_that_would_not_count_are_an_error(names: list[str], tmp_path: Path, key: bytes) -> None:
    """An initramfs that was meant to be locked does not boot anything instead."""
    (tmp_path / "etc/bootc-live/keys").mkdir(parents=True)
    root = packed(tmp_path, {f"etc/bootc-live/keys/{name}": key for name in names})
    with pytest.raises(ConfigError, match="'/etc/bootc-live/keys' of the initramfs contains"):
        read_trust(TrustConfig(), root)


def test_a_credential_is_a_condition_of_its_own(tmp_path: Path, key: bytes) -> None:
    """It must not stand in for a key of the command line."""
    credentials = "run/credentials/@system/bootc-live"
    root = packed(tmp_path, {"a.pub": key, f"{credentials}.key": key, f"{credentials}.policy": OPEN})
    trust = read_trust(TrustConfig(keys=("/a.pub",)), root)
    assert [policy.origin for policy in trust.policies] == ["/a.pub", f"/{credentials}.policy", f"/{credentials}.key"]


def test_two_keys_in_a_file(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(ConfigError, match="several keys"):
        read_trust(TrustConfig(keys=("/a.pub",)), packed(tmp_path, {"a.pub": key + key}))


@pytest.mark.parametrize("curve", ["secp256k1", "brainpoolP256r1", "secp521r1"])
def test_other_curves(curve: str, tmp_path: Path) -> None:
    make = ["openssl", "ecparam", "-name", curve, "-genkey", "-noout"]
    private = subprocess.run(make, check=True, capture_output=True).stdout
    public = subprocess.run(["openssl", "pkey", "-pubout"], input=private, check=True, capture_output=True).stdout
    with pytest.raises(ConfigError, match="its kind is not accepted"):
        read_trust(TrustConfig(keys=("/a.pub",)), packed(tmp_path, {"a.pub": public}))


def test_a_handler_has_no_checked_connection(key: bytes) -> None:
    trust = Trust((parsed({"default": [SIGNED]}, key),), Require.SIGNATURE)
    with pytest.raises(TrustError, match="wants a checked connection"):
        check_source(parse_source("tftp://server.example/os.oci"), trust, None)


def test_without_openssl_nothing_boots(tmp_path: Path, key: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootc_live.system.signatures._LIBRARIES", ("libnothing.so.9",))
    monkeypatch.setattr("bootc_live.system.signatures._library", signatures._library.__wrapped__)
    with pytest.raises(ConfigError, match="no OpenSSL library is there to check it with"):
        read_trust(TrustConfig(keys=("/a.pub",)), packed(tmp_path, {"a.pub": key}))


def test_a_digest_is_required_whatever_line_counts_in_the_end(tmp_path: Path, key: bytes) -> None:
    """Before it is open, an archive may be of a kind that has to be signed."""
    lines = {"oci": {"": [SIGNED]}, "docker-archive": {"": [ACCEPT]}}
    trust = Trust((parsed({"default": [REJECT], "transports": lines}, key),), Require.DIGEST)
    saved = tmp_path / "image.tar"
    saved.write_bytes(tar_of(docker_members("skopeo", Saved([layer(file("a", "x"))]))))
    spec = parse_source(str(saved))
    check_source(spec, trust, None)
    with looked_up(spec, Access(print), Recorder(quiet=True)) as (_, image, _verdict):
        evidence = Evidence(image, None, FileSignatures())
        assert check_trust(spec, evidence, trust, "sha256:x").keys == ()
        with pytest.raises(TrustError, match="wants a digest or a signature, and has neither"):
            check_trust(spec, evidence, trust, None)
