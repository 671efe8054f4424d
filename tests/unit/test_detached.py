"""Signatures beside archives: the whole file is what was signed, or nothing of it counts."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from bootc_live.base.errors import BootcLiveError, SourceError, TrustError
from bootc_live.base.log import Recorder
from bootc_live.config.host.policy import Policy, keys_policy, parse_policy
from bootc_live.config.host.trust import Trust
from bootc_live.config.source_spec import parse_source
from bootc_live.formats.sigstore import parse_bundle, parse_file_signature
from bootc_live.image.candidate import looked_up
from bootc_live.image.detached import Beside
from bootc_live.image.fetch_stream import resolve_stream
from bootc_live.image.recipe import Fetched
from bootc_live.source.access import Access
from bootc_live.source.archive.stream import StreamArchive
from tests.lib.acquiring import QUICK, Attempted, contents
from tests.lib.archive_members import Members, oci_members, tar_of
from tests.lib.archive_servers import PLACE, ArchiveServer, Asked, Reply, Stored, archive_server, flipped
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.fetching import quiet
from tests.lib.oci_writer import Image, Layer, sha256, write_layout
from tests.lib.signing import Key
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

TARS = [layer(file("a", b"x" * 200_000)), layer(file("b", "y"))]
PLAIN = tar_of(oci_members(Image([Layer(tar, "none") for tar in TARS], architecture=HERE)))
ARCHIVES = {
    "tar": PLAIN,
    "gzip": gzip.compress(PLAIN, 1),
    "docker": tar_of(docker_members("skopeo", Saved(TARS))),
    "more at the end": PLAIN + bytes(10_000_000),
}
BUNDLE, SIGNATURE = f"{PLACE}.sigstore.json", f"{PLACE}.sig"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Key:
    return Key(tmp_path_factory.mktemp("other"))


def serving(archive: bytes, beside: Mapping[str, bytes | Reply], *, ranges: bool = True) -> Callable[[Asked], Reply]:
    stored = Stored(archive, ranges=ranges)

    def answer(asked: Asked) -> Reply:
        path = asked.path.partition("?")[0]
        if path == PLACE:
            return stored(asked)
        found = beside.get(path, Reply(404))
        return found if isinstance(found, Reply) else Reply(200, found)

    return answer


def fetched(
    where: Path, archive: bytes, beside: Mapping[str, bytes | Reply], *policies: Policy, ranges: bool = True
) -> tuple[Fetched[None], ArchiveServer]:
    with archive_server(serving(archive, beside, ranges=ranges)) as served:
        return Attempted({"trust": Trust(policies)}).acquire(where / "data", served.url()), served


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", ARCHIVES)
def test_signed_archives_of_every_kind(name: str, ranges: bool, tmp_path: Path, key: Key) -> None:
    archive = ARCHIVES[name]
    for number, beside in enumerate(({BUNDLE: key.bundle(archive)}, {SIGNATURE: key.sign(archive).encode() + b"\n"})):
        (tmp_path / str(number)).mkdir()
        found, served = fetched(tmp_path / str(number), archive, beside, keys_policy([key.public], 1), ranges=ranges)
        assert (found.verdict.signed, found.verdict.keys, contents(found.image)) == (True, (key.public.name,), TARS)
        assert sum(asked.path == PLACE for asked in served.asked) <= 2


@pytest.mark.parametrize(("kind", "algorithm"), [("p384", "sha256"), ("p384", "sha384"), ("rsa", "sha256")])
def test_kinds_of_keys(kind: str, algorithm: str, tmp_path: Path) -> None:
    """For P-384, cosign 2 hashes by SHA-256, and cosign 3 by SHA-384."""
    key = Key(tmp_path, kind)
    for beside in ({BUNDLE: key.bundle(PLAIN, algorithm)}, {SIGNATURE: key.sign(PLAIN, algorithm).encode()}):
        assert fetched(tmp_path, PLAIN, beside, keys_policy([key.public], 1))[0].verdict.signed
        (tmp_path / "data").unlink()


def test_a_file_beside_a_file(tmp_path: Path, key: Key) -> None:
    """What is in the initramfs or at a desk may be signed, too."""
    path = tmp_path / "os.oci"
    path.write_bytes(PLAIN)
    (tmp_path / "os.oci.sigstore.json").write_bytes(key.bundle(PLAIN))
    wanted = {"trust": Trust((keys_policy([key.public], 1),))}
    assert Attempted(wanted).acquire(tmp_path / "data", str(path)).verdict.signed
    path.write_bytes(flipped(PLAIN, len(PLAIN) - 1))
    with pytest.raises(TrustError, match="that of another file"):
        Attempted(wanted).acquire(tmp_path / "data2", str(path))


def test_a_file_that_changes_after_it_was_judged(tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read twice, and only what the signed documents name by digest is taken the second time."""
    path = tmp_path / "os.oci"
    path.write_bytes(PLAIN)
    (tmp_path / "os.oci.sigstore.json").write_bytes(key.bundle(PLAIN))
    attempt = Attempted({"trust": Trust((keys_policy([key.public], 1),))})

    others = tar_of(oci_members(Image([Layer(layer(file("c", "z")))], architecture=HERE)))
    changes = [(PLAIN.replace(b"x" * 100, b"z" * 100), "it must be sha256:"), (others, "truncated")]

    def judged(*arguments: Any) -> Any:
        found = resolve_stream(*arguments)
        path.write_bytes(changes[0][0])
        return found

    monkeypatch.setattr("bootc_live.image.candidate.resolve_stream", judged)
    while changes:
        path.write_bytes(PLAIN)
        with pytest.raises(BootcLiveError, match=changes[0][1]):
            attempt.acquire(tmp_path / "data", str(path))
        changes.pop(0)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_waited_for(make: Callable[[Path], object], tmp_path: Path, key: Key) -> None:
    path = tmp_path / "os.oci"
    path.write_bytes(PLAIN)
    make(tmp_path / "os.oci.sigstore.json")
    wanted = {"trust": Trust((keys_policy([key.public], 1),))}
    with pytest.raises(TrustError, match=r"beside it cannot be used: .*os\.oci\.sigstore\.json"):
        Attempted(wanted).acquire(tmp_path / "data", str(path))
    (tmp_path / "os.oci.sig").write_text(key.sign(PLAIN))
    assert Attempted(wanted).acquire(tmp_path / "data", str(path)).verdict.signed


def test_a_slow_signature_does_not_take_the_time_of_the_archive(
    tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit for all sources has room for one such time for each, not for two."""
    monkeypatch.setattr("bootc_live.source.http.beside._LONGEST", 0.5)
    slow = Reply(200, key.bundle(PLAIN), pauses=[(10, 3600.0)])
    with pytest.raises(TrustError, match="no valid signature"):
        fetched(tmp_path, PLAIN, {BUNDLE: slow}, keys_policy([key.public], 1))


def test_layers_after_the_index(tmp_path: Path, key: Key) -> None:
    """An index at the front is what most archives do not have."""
    members = oci_members(Image([Layer(tar, "none") for tar in TARS], architecture=HERE))
    archive = tar_of({name: members[name] for name in sorted(members, reverse=True)})
    found, _ = fetched(tmp_path, archive, {BUNDLE: key.bundle(archive)}, keys_policy([key.public], 1))
    assert (found.verdict.signed, contents(found.image)) == (True, TARS)


@pytest.mark.parametrize("last", [False, True])
def test_a_signature_in_the_archive_counts_beside_one_of_somebody_else(
    last: bool, tmp_path: Path, key: Key, other: Key
) -> None:
    members = oci_members(Image([Layer(tar, "none") for tar in TARS], architecture=HERE))
    signed = with_signature(members, key)
    archive = tar_of({name: signed[name] for name in sorted(signed, reverse=last)})
    beside = {SIGNATURE: other.sign(archive).encode()}
    for ranges in (True, False):
        found, _ = fetched(tmp_path, archive, beside, keys_policy([key.public], 1), ranges=ranges)
        assert found.verdict.keys == (key.public.name,)
        (tmp_path / "data").unlink()


def with_signature(members: Members, key: Key) -> Members:
    """The members of a layout with the signature of its image, as cosign saves it."""
    index = json.loads(cast(bytes, members["index.json"]))
    payload, signature = key.simple(index["manifests"][0]["digest"], "registry.example/os")
    entry = {
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "digest": sha256(payload),
        "size": len(payload),
        "annotations": {"dev.cosignproject.cosign/signature": signature},
    }
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"{}"), "size": 2}
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [entry]}).encode()
    named = {"kind": "dev.cosignproject.cosign/sigs"}
    index["manifests"].append(
        {"mediaType": kind, "digest": sha256(manifest), "size": len(manifest), "annotations": named}
    )
    blobs = {f"blobs/sha256/{sha256(each)[7:]}": each for each in (payload, b"{}", manifest)}
    return {**members, **blobs, "index.json": json.dumps(index).encode()}


def test_what_follows_the_last_member_has_a_limit(tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb there would take time without end."""
    monkeypatch.setattr("bootc_live.source.archive.stream._LONGEST_END", 1_000_000)
    archive = ARCHIVES["more at the end"]
    with pytest.raises(SourceError, match="more than 1000000 bytes follow its last member"):
        fetched(tmp_path, archive, {BUNDLE: key.bundle(archive)}, keys_policy([key.public], 1))


@pytest.mark.parametrize("skipped", [False, True])
def test_a_directory_is_no_file(skipped: bool, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signature of any file beside a layout says nothing of it, even if it is read."""
    write_layout(tmp_path / "os", Image([Layer(tar) for tar in TARS], architecture=HERE))
    (tmp_path / "os.sigstore.json").write_bytes(key.bundle(PLAIN))
    (tmp_path / "os.sig").write_text(key.sign(PLAIN))
    if not skipped:
        of_another = Beside((parse_bundle(key.bundle(PLAIN)), parse_file_signature(key.sign(PLAIN).encode())))
        monkeypatch.setattr("bootc_live.image.candidate.signatures_beside", lambda *_: of_another)
    with pytest.raises(TrustError, match="there is none beside it" if skipped else "is that of another file"):
        Attempted({"trust": Trust((keys_policy([key.public], 1),))}).acquire(tmp_path / "data", str(tmp_path / "os"))


def test_a_url_with_a_query_keeps_it(tmp_path: Path, key: Key) -> None:
    with archive_server(serving(PLAIN, {BUNDLE: key.bundle(PLAIN)})) as served:
        wanted = Attempted({"trust": Trust((keys_policy([key.public], 1),))})
        assert wanted.acquire(tmp_path / "data", f"{served.url()}?version=1").verdict.signed
    assert f"{BUNDLE}?version=1" in [asked.path for asked in served.asked]


def test_nothing_is_looked_for_if_nobody_wants_a_signature(tmp_path: Path, key: Key) -> None:
    _, served = fetched(tmp_path, PLAIN, {BUNDLE: key.bundle(PLAIN)})
    assert {asked.path for asked in served.asked} == {PLACE}


def test_looking_up_reads_the_whole_file(key: Key) -> None:
    def look(archive: bytes) -> tuple[str, ...]:
        with archive_server(serving(archive, {BUNDLE: key.bundle(PLAIN)})) as served:
            access = Access(quiet, policy=QUICK, trust=Trust((keys_policy([key.public], 1),)))
            with looked_up(parse_source(served.url()), access, Recorder(quiet=True)) as (_, _image, verdict):
                return verdict.keys

    assert look(PLAIN) == (key.public.name,)
    with pytest.raises(TrustError, match="that of another file"):
        look(PLAIN + b"\0")


def test_two_people(tmp_path: Path, key: Key, other: Key) -> None:
    """A bundle and a signature are two signatures; the same key twice is one."""
    both = keys_policy([key.public, other.public], 2)
    beside = {BUNDLE: key.bundle(PLAIN), SIGNATURE: other.sign(PLAIN).encode()}
    assert len(fetched(tmp_path, PLAIN, beside, both)[0].verdict.keys) == 2
    (tmp_path / "data").unlink()
    with pytest.raises(TrustError, match="1 of 2"):
        fetched(tmp_path, PLAIN, {**beside, SIGNATURE: key.sign(PLAIN).encode()}, both)


# Name: the archive and what lies beside it, by two keys of which only the first counts, and what is said.
Row = tuple[Callable[[Key, Key], tuple[bytes, Mapping[str, bytes | Reply]]], str]
REFUSED: dict[str, Row] = {
    "nothing": (lambda _k, _o: (PLAIN, {}), "there is none beside it"),
    "another key": (lambda _k, o: (PLAIN, {BUNDLE: o.bundle(PLAIN)}), "it is by none of the keys"),
    "another key's signature": (lambda _k, o: (PLAIN, {SIGNATURE: o.sign(PLAIN).encode()}), "by none of the keys"),
    "a changed byte": (
        lambda k, _o: (flipped(PLAIN, len(PLAIN) - 1), {BUNDLE: k.bundle(PLAIN)}),
        "that of another file, sha256:",
    ),
    "a byte more": (lambda k, _o: (PLAIN + b"\0", {BUNDLE: k.bundle(PLAIN)}), "that of another file, sha256:"),
    "a byte more, signature": (lambda k, _o: (PLAIN + b"\0", {SIGNATURE: k.sign(PLAIN).encode()}), "by none of"),
    "rubbish after gzip": (
        lambda k, _o: (ARCHIVES["gzip"] + b"x", {BUNDLE: k.bundle(ARCHIVES["gzip"])}),
        "another file|damaged",
    ),
    "another archive with its signature's digest": (
        lambda k, _o: (PLAIN, {BUNDLE: k.bundle(b"other")}),
        "that of another file, sha256:",
    ),
    "a digest that was not signed": (
        lambda k, _o: (
            PLAIN,
            {
                BUNDLE: k.bundle(
                    b"other", messageDigest=json.loads(k.bundle(PLAIN))["messageSignature"]["messageDigest"]
                )
            },
        ),
        "it is by none of the keys",
    ),
    "the old form": (lambda _k, _o: (PLAIN, {BUNDLE: b'{"base64Signature":"AAAA"}'}), "--new-bundle-format"),
    "no digest": (lambda k, _o: (PLAIN, {BUNDLE: k.bundle(PLAIN, messageDigest={})}), "it names no digest"),
    "a short digest": (
        lambda k, _o: (PLAIN, {BUNDLE: k.bundle(PLAIN, messageDigest={"algorithm": "SHA2_256", "digest": "AAAA"})}),
        "digest has 3 bytes",
    ),
    "huge": (lambda k, _o: (PLAIN, {BUNDLE: k.bundle(PLAIN) + b" " * 300_000}), "more than 262144 bytes"),
    "empty": (lambda _k, _o: (PLAIN, {SIGNATURE: b"\n"}), "it is empty"),
    "no base64": (lambda _k, _o: (PLAIN, {SIGNATURE: b"!"}), "not in base64"),
    "a page": (lambda _k, _o: (PLAIN, {BUNDLE: b"<html>", SIGNATURE: b"<html>"}), "Expecting value"),
    "a broken server": (lambda _k, _o: (PLAIN, {BUNDLE: Reply(500)}), "500"),
    "a redirect to a file": (
        lambda _k, _o: (PLAIN, {BUNDLE: Reply(302, headers={"Location": "file:///etc/os.sigstore.json"})}),
        "neither http: nor https:",
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused(row: str, tmp_path: Path, key: Key, other: Key) -> None:
    make, said = REFUSED[row]
    archive, beside = make(key, other)
    with pytest.raises(BootcLiveError, match=said):
        fetched(tmp_path, archive, beside, keys_policy([key.public], 1))


@pytest.mark.parametrize("name", ["tar", "gzip", "docker"])
def test_a_stream_without_a_signature_is_refused_before_it_is_read(
    name: str, tmp_path: Path, key: Key, other: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own signatures could be read only when all layers have been read."""

    def members(_self: StreamArchive) -> NoReturn:
        raise AssertionError("it was read")

    monkeypatch.setattr(StreamArchive, "members", members)
    for beside in ({}, {BUNDLE: other.bundle(ARCHIVES[name])}):
        with pytest.raises(TrustError, match="read once from start to end") as caught:
            fetched(tmp_path, ARCHIVES[name], beside, keys_policy([key.public], 1), ranges=False)
        assert ("by none of the keys" in caught.value.message) == bool(beside)
        assert "sign the file" in caught.value.hint


def test_a_stream_whose_kind_decides_is_read(tmp_path: Path, key: Key) -> None:
    lines = {"oci-archive": {"": [{"type": "sigstoreSigned", "keyPath": "/k"}]}}
    document = {"default": [{"type": "insecureAcceptAnything"}], "transports": lines}
    policy = parse_policy(json.dumps(document).encode(), "/policy.json", lambda _: key.public.pem)
    assert not fetched(tmp_path, ARCHIVES["docker"], {}, policy, ranges=False)[0].verdict.signed
    where = tmp_path / "gzip"
    where.mkdir()
    with pytest.raises(TrustError, match=r"\(sha256:.* read once from start to end"):
        fetched(where, ARCHIVES["gzip"], {}, policy)


def test_ed25519_signs_no_digests(tmp_path: Path) -> None:
    key = Key(tmp_path, "ed25519")
    with pytest.raises(TrustError, match="Ed25519 keys cannot check signatures of files"):
        fetched(tmp_path, PLAIN, {SIGNATURE: b"AAAA"}, keys_policy([key.public], 1))


@pytest.mark.parametrize("first", [False, True])
def test_a_key_that_cannot_sign_files_is_no_obstacle_to_others(first: bool, tmp_path: Path, key: Key) -> None:
    public = sorted((Key(tmp_path, "ed25519").public, key.public), key=lambda each: (each == key.public) == first)
    policies = (keys_policy(public, 1), keys_policy([key.public], 1))
    for number, beside in enumerate(({BUNDLE: key.bundle(PLAIN)}, {SIGNATURE: key.sign(PLAIN).encode()})):
        where = tmp_path / str(number)
        where.mkdir()
        assert fetched(where, PLAIN, beside, *policies)[0].verdict.keys == (key.public.name,)


def test_a_policy_that_wants_a_name_is_not_met(tmp_path: Path, key: Key) -> None:
    """The signature of a file names no repository."""
    wanted = {
        "type": "sigstoreSigned",
        "keyPath": "/k",
        "signedIdentity": {"type": "exactRepository", "dockerRepository": "registry.example/os"},
    }
    policy = parse_policy(json.dumps({"default": [wanted]}).encode(), "/policy.json", lambda _: key.public.pem)
    with pytest.raises(TrustError, match="a bundle of a file names no repository"):
        fetched(tmp_path, PLAIN, {BUNDLE: key.bundle(PLAIN)}, policy)


def test_the_archive_is_not_found(tmp_path: Path, key: Key) -> None:
    with archive_server(lambda _asked: Reply(404)) as served, pytest.raises(SourceError, match="404"):
        Attempted({"trust": Trust((keys_policy([key.public], 1),))}).acquire(tmp_path / "data", served.url())
