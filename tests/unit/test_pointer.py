"""Pointers to the newest archive: what they may say, where they lead, and what a client between two uploads sees."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import WebArchive, WebPointer, parse_source
from bootc_live.formats.pointer import LARGEST, Pointer, parse_pointer, pointer_text
from bootc_live.image.candidate import looked_up, newest
from bootc_live.source.access import Access
from bootc_live.source.pointer import followed
from tests.lib.archive_servers import Answer, ArchiveServer, Asked, Reply, Stored, archive_server
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.small_image import BASE, HERE, UPPER

HEX: Final = "0123456789abcdef" * 4
DIGEST: Final = f"sha256:{HEX}"
GOOD: Final[dict[str, Any]] = {
    "version": 1,
    "digest": DIGEST,
    "file": f"{HEX}.oci",
    "size": 4096,
    "created": "2026-11-01T10:00:00+00:00",
    "signatures": [f"{HEX}.oci.sig"],
}


def written(**changed: object) -> bytes:
    """A pointer that is right but for the fields that are given; those that are None are left out."""
    return json.dumps({name: value for name, value in {**GOOD, **changed}.items() if value is not None}).encode()


def test_written_and_read() -> None:
    pointer = Pointer(DIGEST, f"{HEX}.oci", 4096, "2026-11-01T10:00:00Z", (f"{HEX}.oci.sigstore.json",))
    assert parse_pointer(pointer_text(pointer).encode()) == pointer
    assert parse_pointer(written()) == Pointer(DIGEST, f"{HEX}.oci", 4096, GOOD["created"], (f"{HEX}.oci.sig",))


@pytest.mark.parametrize("content", [written(signatures=None), written(later="x"), written(digest=f"sha512:{HEX * 2}")])
def test_other_good_ones(content: bytes) -> None:
    assert parse_pointer(content).file == f"{HEX}.oci"


WRONG: Final = {
    "no object": (b"[]", "no JSON object"),
    "no JSON": (b"<html>", "Expecting value"),
    "two documents": (written() * 2, "Extra data"),
    "twice": (written()[:-1] + b', "digest": "sha256:0"}', "an object has a name twice"),
    "another case": (written(Digest=DIGEST), "differs from a known one only in upper and lower case"),
    "too large": (written(later="x" * LARGEST), f"more than {LARGEST} bytes"),
    "no version": (written(version=None), "the version None"),
    "a later version": (written(version=2), "the version 2"),
    "no digest": (written(digest=None), "a wrong digest: None"),
    "a short digest": (written(digest=DIGEST[:-1]), "a wrong digest"),
    "another algorithm": (written(digest=f"md5:{HEX}"), "a wrong digest"),
    "a line more": (written(digest=f"{DIGEST}\n"), "a wrong digest"),
    "no file": (written(file=None), "a wrong file: None"),
    "a file elsewhere": (written(file="../other/os.oci"), "a wrong file"),
    "a file below": (written(file="sub/os.oci"), "a wrong file"),
    "a hidden file": (written(file=".os.oci"), "a wrong file"),
    "a URL": (written(file="https://elsewhere.example/os.oci"), "a wrong file"),
    "a server": (written(file="//elsewhere.example/os.oci"), "a wrong file"),
    "a query": (written(file="os.oci?a=b"), "a wrong file"),
    "an escape": (written(file="%2e%2e"), "a wrong file"),
    "no size": (written(size=None), "a wrong size"),
    "a negative size": (written(size=-1), "a wrong size"),
    "a size in words": (written(size="4096"), "a wrong size"),
    "no time": (written(created="yesterday"), "a wrong created"),
    "one signature": (written(signatures="os.sig"), "no list"),
    "a signature elsewhere": (written(signatures=["../os.sig"]), "a wrong signature"),
}


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=list(WRONG))
def test_wrong_ones(content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_pointer(content)


@pytest.mark.parametrize(
    ("path", "is_pointer"),
    [
        ("/os/latest.json", True),
        ("/latest.json?sv=1&sig=a.b", True),
        ("/latest.json#x", True),
        ("/os.oci", False),
        ("/os.oci?name=latest.json", False),
        ("/latest.json/", False),
        ("/os.oci#latest.json", False),
    ],
)
def test_what_is_a_pointer(path: str, is_pointer: bool) -> None:
    spec = parse_source(f"https://files.example{path}")
    assert isinstance(spec, WebPointer if is_pointer else WebArchive)


def serving(pointer: bytes, *archives: bytes) -> Answer:
    """What a server with a pointer and archives answers."""
    stored = {f"/os/{hashlib.sha256(archive).hexdigest()}.oci": Stored(archive) for archive in archives}

    def answer(asked: Asked) -> Reply:
        path = asked.path.partition("?")[0]
        if path == "/os/latest.json":
            return Reply(body=pointer)
        return stored[path](asked) if path in stored else Reply(404)

    return answer


@pytest.mark.parametrize("query", ["", "?token=secret"])
def test_beside_the_pointer(query: str) -> None:
    with archive_server(serving(written())) as server:
        spec = parse_source(server.url(f"/os/latest.json{query}", login="me:mine"))
        found, pointer = followed(spec, Access(lambda _: None))
    assert isinstance(found, WebArchive)
    assert found.url == server.url(f"/os/{HEX}.oci{query}", login="me:mine")
    assert found.source_text == spec.source_text
    assert pointer is not None
    assert pointer.digest == DIGEST
    (asked,) = server.asked
    assert asked.path == f"/os/latest.json{query}"
    assert asked.header("Authorization").startswith("Basic ")
    assert asked.header("Cache-Control") == "no-cache", "what is between must ask, too"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: Reply(404), "answered 404"),
        (lambda _: Reply(body=b"x" * (LARGEST + 9)), f"has more than {LARGEST} bytes"),
        (lambda _: Reply(body=written(digest="x")), "has a wrong digest"),
        (lambda _: Reply(302, headers={"Location": "file:///etc/passwd"}), "neither http: nor https:"),
    ],
)
def test_no_pointer(answer: Answer, said: str) -> None:
    with archive_server(answer) as server, pytest.raises(BootcLiveError) as caught:
        followed(parse_source(server.url("/os/latest.json")), Access(lambda _: None))
    assert said in caught.value.message
    assert "/os/latest.json" in caught.value.message


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """Two archives of other images."""
    where = tmp_path_factory.mktemp("archives")
    images = (Image([Layer(BASE)], architecture=HERE), Image([Layer(BASE), Layer(UPPER)], architecture=HERE))
    one, two = (write_archive(where / f"{number}.oci", image) for number, image in enumerate(images))
    return one.read_bytes(), two.read_bytes()


def digest_in(archive: bytes, where: Path) -> str:
    """The digest of the manifest in an archive, as other clients find it."""
    path = where / "one.oci"
    path.write_bytes(archive)
    with looked_up(parse_source(str(path)), Access(lambda _: None), Recorder()) as (_, image, _verdict):
        return image.identity


def looked_at(server: ArchiveServer, access: Access) -> str:
    """The digest of the image that the pointer of a server leads to."""
    with looked_up(parse_source(server.url("/os/latest.json")), access, Recorder()) as (_, image, _verdict):
        return image.identity


def pointing(archive: bytes, digest: str) -> bytes:
    """A pointer to an archive."""
    return written(digest=digest, file=f"{hashlib.sha256(archive).hexdigest()}.oci", size=len(archive))


def test_between_two_uploads(archives: tuple[bytes, bytes], tmp_path: Path) -> None:
    """Whatever is uploaded between two requests of a client: it sees one image."""
    one, two = (pointing(archive, digest_in(archive, tmp_path)) for archive in archives)
    first = digest_in(archives[0], tmp_path)

    def answer(asked: Asked) -> Reply:
        return serving(one if asked.number == 0 else two, *archives)(asked)

    with archive_server(answer) as server:
        assert looked_at(server, Access(lambda _: None)) == first
        assert looked_at(server, Access(lambda _: None)) == digest_in(archives[1], tmp_path)


def test_another_image_under_the_name(archives: tuple[bytes, bytes], tmp_path: Path) -> None:
    wrong = pointing(archives[0], digest_in(archives[1], tmp_path))
    with archive_server(serving(wrong, *archives)) as server, pytest.raises(BootcLiveError) as caught:
        looked_at(server, Access(lambda _: None))
    assert "the pointer allows only" in caught.value.message


def test_pinned_by_the_user(archives: tuple[bytes, bytes], tmp_path: Path) -> None:
    """A pointer cannot replace the digest that somebody has pinned."""
    pointer = pointing(archives[0], digest_in(archives[0], tmp_path))
    access = Access(lambda _: None, pin=digest_in(archives[1], tmp_path))
    with archive_server(serving(pointer, *archives)) as server, pytest.raises(BootcLiveError) as caught:
        looked_at(server, access)
    assert f"bootc.live.digest= allows only {access.pin}" in caught.value.message


def test_newest_asks_for_the_pointer_alone() -> None:
    with archive_server(serving(written())) as server:
        spec = parse_source(server.url("/os/latest.json"))
        recorder = Recorder()
        found, digest = newest(spec, Access(lambda _: None), recorder)
    assert digest == DIGEST
    assert isinstance(found, WebArchive)
    assert [asked.path for asked in server.asked] == ["/os/latest.json"]
    assert "INSECURE" in recorder.warnings[0], "it came over plain HTTP"


def test_plain_http_is_said_once(archives: tuple[bytes, bytes], tmp_path: Path) -> None:
    """What is newest is asked for, and then fetched."""
    pointer, recorder = pointing(archives[0], digest_in(archives[0], tmp_path)), Recorder()
    with archive_server(serving(pointer, *archives)) as server:
        fixed, digest = newest(parse_source(server.url("/os/latest.json")), Access(lambda _: None), recorder)
        with looked_up(fixed, Access(lambda _: None, pin=digest), recorder) as (_, image, _verdict):
            assert image.identity == digest
    assert ["INSECURE" in said for said in recorder.warnings] == [True]
