"""A mirror that sends anything but the document it was asked for costs one try, and is told by its name."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT
from tests.lib.acquiring import Attempted, contents
from tests.lib.archive_servers import Answer, ArchiveServer, Asked, Reply, archive_server
from tests.lib.oci_writer import MEDIA_TYPES, Image, Index, Layer, layout_files, sha256
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

TAR = layer(file("a", b"content"))
PASSWORD = "known to nobody"
LOGIN = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
DIGEST = "Docker-Content-Digest"


def _stored() -> dict[str, bytes]:
    """The blobs of an index with one image, by digest."""
    files = layout_files(Index([Image([Layer(TAR)], architecture=HERE)]))
    return {sha256(data): data for name, data in files.items() if "blobs/" in name and isinstance(data, bytes)}


BLOBS = _stored()
TOP = next(digest for digest, data in BLOBS.items() if b'"manifests"' in data)
CHILD = json.loads(BLOBS[TOP])["manifests"][0]["digest"]
CONFIG = json.loads(BLOBS[CHILD])["config"]["digest"]
# What is asked for, as it stands at the end of a path.
WHAT = {"tag": "latest", "child manifest": CHILD, "config": CONFIG}


def registry(asked: Asked) -> Reply:
    """What an honest one answers to whoever has the login."""
    if asked.header("Authorization") != f"Basic {LOGIN}":
        return Reply(401, headers={"WWW-Authenticate": 'Basic realm="here"'})
    digest = asked.path.rpartition("/")[2].replace("latest", TOP)
    if digest not in BLOBS:
        return Reply(404)
    return Reply(
        200,
        BLOBS[digest],
        {DIGEST: digest, "Content-Type": MEDIA_TYPES["oci"]["index"]} if "latest" in asked.path else {},
    )


Lie = Callable[[Reply], Reply]


def body(change: Callable[[bytes], bytes]) -> Lie:
    """An answer that says nothing of its digest, and has another body."""
    return lambda honest: Reply(200, change(honest.body))


# For whatever is asked for.
LIES: dict[str, Lie] = {
    "damaged gzip": body(lambda _: b"\x1f\x8b\x08" + bytes(20)),
    "gzip with a wrong sum": body(lambda right: gzip.compress(right)[:-8] + bytes(8)),
    "gzip that is cut": body(lambda right: gzip.compress(right)[:-4]),
    "gzip and more": body(lambda right: gzip.compress(right) + b"more"),
    "gzip of something else": body(lambda _: gzip.compress(b"<html>")),
    "a gzip bomb": body(lambda _: gzip.compress(bytes(MANIFEST_LIMIT + 1))),
    "too much": body(lambda right: right + b" " * MANIFEST_LIMIT),
    "a page": body(lambda _: b"<!DOCTYPE html><html>Log in first</html>"),
    "nothing": body(lambda _: b""),
    "a list": body(lambda right: b"[" + right + b"]"),
    "JSON that is cut": body(lambda right: right[:-1]),
    "JSON and more": body(lambda right: right + b"{}"),
    "JSON that is too deep": body(lambda _: b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "an error in JSON": body(lambda _: b'{"errors": [{"code": "DENIED"}]}'),
    "names that mean other things": body(lambda _: b'{"manifests": "here", "layers": {}}'),
    "no UTF-8": body(lambda _: b'{"a": "\xff"}'),
}
ROWS = [(name, what) for name in LIES for what in WHAT]
# Bytes that are asked for by their digest are right or wrong whatever is said of them.
LIES["another digest in the header"] = lambda honest: Reply(200, honest.body, {DIGEST: sha256(b"other")})
LIES["another manifest"] = lambda honest: Reply(200, BLOBS[CHILD], dict(honest.headers))
ROWS += [("another digest in the header", "tag"), *(("another manifest", what) for what in ("tag", "config"))]


def lying(name: str, what: str) -> Answer:
    """The registry, but for this answer."""

    def answer(asked: Asked) -> Reply:
        honest = registry(asked)
        return LIES[name](honest) if honest.status == 200 and asked.path.endswith(WHAT[what]) else honest

    return answer


@dataclass
class Place:
    """Where everything is configured: a registry on `home` with a mirror that is asked for tags, too, and logins."""

    root: Path
    home: ArchiveServer
    mirror: ArchiveServer | None = None

    def attempted(self) -> Attempted:
        """Nothing yet."""
        settings = self.root / "etc/bootc-live"
        settings.mkdir(parents=True)
        servers = [server for server in (self.home, self.mirror) if server is not None]
        auths = {f"127.0.0.1:{server.port}": {"auth": LOGIN} for server in servers}
        (settings / "auth.json").write_text(json.dumps({"auths": auths}))
        if self.mirror is not None:
            mirror = {"location": f"127.0.0.1:{self.mirror.port}/os", "insecure": True, "pull-from-mirror": "all"}
            rule = {"location": f"127.0.0.1:{self.home.port}/os", "insecure": True, "mirrors": [mirror]}
            (settings / "registries.yaml").write_text(json.dumps({"registries": [rule]}))
        return Attempted({"root": str(self.root), "unsecure": True})

    @property
    def source(self) -> str:
        """As after `root=bootc-live:`."""
        return f"docker://127.0.0.1:{self.home.port}/os"


@pytest.mark.parametrize(("name", "what"), ROWS)
def test_the_registry_is_asked(name: str, what: str, tmp_path: Path) -> None:
    with archive_server(lying(name, what)) as mirror, archive_server(registry) as home:
        place = Place(tmp_path, home, mirror)
        attempted = place.attempted()
        made = attempted.acquire(tmp_path / "data", place.source)
    assert contents(made.image) == [TAR]
    assert made.image.resolved.manifest_digest == CHILD
    told = [*attempted.said, *(text for text in attempted.recorder.warnings if "INSECURE" not in text)]
    assert len(told) == 1, told
    assert f"127.0.0.1:{mirror.port}/os sent " in told[0]
    assert "; continuing with" in told[0] or told[0].endswith("; continuing without that server")
    assert PASSWORD not in told[0]
    assert LOGIN not in told[0]
    # Once with the login that it wants, and then no more.
    lies = [asked for asked in mirror.asked if asked.path.endswith(WHAT[what]) and asked.header("Authorization")]
    assert len(lies) == 1
    assert mirror.asked[-1] == lies[0]


# What the error says where the registry sends the same, for a tag and for what has a digest.
LAST_WORDS = {
    "damaged gzip": ("is damaged", "is damaged"),
    "a gzip bomb": ("has more than 4194304 bytes", "has more than 4194304 bytes"),
    "too much": ("has more than 4194304 bytes", "has more than 4194304 bytes"),
    "a page": ("is not JSON", "its manifest gives"),
    "JSON that is cut": ("is not JSON", "its manifest gives"),
}


@pytest.mark.parametrize("name", LAST_WORDS)
@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_registry_has_the_last_word(name: str, what: str, mirrored: bool, tmp_path: Path) -> None:
    """What it sends is an error about itself, whatever a mirror sent before it."""
    with archive_server(lying(name, what)) as mirror, archive_server(lying(name, what)) as home:
        place = Place(tmp_path, home, mirror if mirrored else None)
        attempted = place.attempted()
        with pytest.raises(BootcLiveError) as caught:
            attempted.acquire(tmp_path / "data", place.source)
    assert repr(place.source) in caught.value.message
    assert f"127.0.0.1:{mirror.port}" not in caught.value.message
    assert "unexpected" not in caught.value.message
    words = LAST_WORDS[name][what != "tag"]
    assert words in caught.value.message
    if words == "its manifest gives":
        assert mirrored == (f" from 127.0.0.1:{home.port}/os " in caught.value.message)
    assert caught.value.hint
    assert PASSWORD not in caught.value.message
    assert len(attempted.said) == mirrored, attempted.said


def test_a_registry_that_is_its_own_mirror(tmp_path: Path) -> None:
    """It is no endless choice of places."""
    with archive_server(lying("a page", "config")) as home:
        place = Place(tmp_path, home, home)
        attempted = place.attempted()
        with pytest.raises(BootcLiveError, match=" from 127"):
            attempted.acquire(tmp_path / "data", place.source)
    assert len(attempted.said) == 1
