"""Archives on web servers: right with ranges and without, whatever happens on the way, and little is fetched twice."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, ImageError, SourceError
from bootc_live.config.model import RetryLimits
from bootc_live.source.http.body import read_body
from bootc_live.source.retry import RetryPolicy
from tests.lib.acquiring import QUICK, Attempted, acquired, contents
from tests.lib.archive_members import oci_members, tar_of
from tests.lib.archive_servers import (
    PLACE,
    Answer,
    ArchiveServer,
    Asked,
    Framing,
    Reply,
    Stored,
    archive_server,
    cut_at,
    flipped,
)
from tests.lib.dead_servers import closed_port
from tests.lib.docker_writer import Saved, docker_members
from tests.lib.oci_writer import Image, Layer
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

MIB = 2**20
NOISE = random.Random(5)
TARS = [layer(file(name, NOISE.randbytes(size))) for name, size in (("a", 700_000), ("b", 300_000), ("c", 900))]
MEMBERS = oci_members(Image([Layer(tar, "none") for tar in TARS], architecture=HERE))
PLAIN = tar_of(MEMBERS)
DOCKER = tar_of(docker_members("save", Saved([*TARS, TARS[2]])))
GZIP = gzip.compress(PLAIN, 1)
IMPATIENT = RetryPolicy(RetryLimits(tries=8, stall=1.0, total=600.0), first_delay=0.001, longest_delay=0.002)


def fetched(answer: Answer, tmp_path: Path, content: bytes = PLAIN) -> ArchiveServer:
    """The server after the right image came from it."""
    with archive_server(answer) as served:
        found = contents(acquired(tmp_path / "data", served.url()))
    assert found == ([*TARS, TARS[2]] if content is DOCKER else TARS)
    return served


def failure(answer: Answer, tmp_path: Path, **changes: object) -> BootcLiveError:
    """The error; it names the URL, has a hint, and nothing is left."""
    with archive_server(answer) as served:
        with pytest.raises(BootcLiveError) as caught:
            acquired(tmp_path / "data", served.url(), **changes)
        assert repr(served.url()) in caught.value.message
    assert caught.value.hint
    assert os.listdir(tmp_path) == []
    return caught.value


@pytest.mark.parametrize("framing", Framing)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("content", [PLAIN, DOCKER, GZIP], ids=["oci", "docker", "gzip"])
def test_every_kind_of_server(content: bytes, ranges: bool, framing: Framing, tmp_path: Path) -> None:
    served = fetched(Stored(content, ranges, framing=framing), tmp_path, content)
    assert served.sent <= len(content) + MIB // 2


def test_with_ranges_only_the_image_is_fetched(tmp_path: Path) -> None:
    """As from a local file: what nobody needs does not come."""
    other = Image([Layer(layer(file("other", NOISE.randbytes(5 * MIB))), "none")], "other", HERE)
    content = tar_of(oci_members(other, Image([Layer(tar, "none") for tar in TARS], architecture=HERE)))
    served = fetched(Stored(content), tmp_path)
    assert served.sent < 2 * MIB
    assert all(asked.span for asked in served.asked)


def test_without_ranges_it_is_fetched_once(tmp_path: Path) -> None:
    for content in (PLAIN, GZIP):
        served = fetched(Stored(content, ranges=False), tmp_path)
        assert len(served.asked) == 1
        (tmp_path / "data").unlink()


def test_what_came_is_counted(tmp_path: Path) -> None:
    for ranges in (True, False):
        attempted = Attempted()
        with archive_server(Stored(PLAIN, ranges)) as served:
            attempted.acquire(tmp_path / "data", served.url())
            assert list(attempted.access.traffic.hosts) == [f"127.0.0.1:{served.port}"]
        assert abs(attempted.access.traffic.total - served.sent) < MIB // 2
        (tmp_path / "data").unlink()


def test_the_bytes_are_as_stored(tmp_path: Path) -> None:
    """Some servers call a compressed file an encoded one; nobody is to decode it on the way."""

    def answer(asked: Asked) -> Reply:
        assert asked.header("Accept-Encoding") == "identity"
        return Stored(GZIP)(asked).having(Content_Encoding="gzip")

    fetched(answer, tmp_path)


@pytest.mark.parametrize("place", [0, 1, 300, 65_535, 65_536, 400_000, len(PLAIN) - 12_000])
def test_cut_with_ranges(place: int, tmp_path: Path) -> None:
    times = 3
    served = fetched(cut_at(Stored(PLAIN), place, times), tmp_path)
    assert served.sent <= len(PLAIN) + times * MIB
    # What has come is not asked for again.
    assert served.sent <= len(PLAIN) + MIB // 2


@pytest.mark.parametrize("place", [0, 1, 400_000])
@pytest.mark.parametrize("framing", [Framing.LENGTH, Framing.CHUNKED])
def test_cut_without_ranges(place: int, framing: Framing, tmp_path: Path) -> None:
    """It starts over, and passes over what it has."""
    served = fetched(cut_at(Stored(PLAIN, ranges=False, framing=framing), place, 2), tmp_path)
    assert len(served.asked) == 3
    assert served.sent <= len(PLAIN) + 2 * place + MIB // 2


@pytest.mark.parametrize("place", [0, 5000, 400_000, len(GZIP) // 2])
def test_cut_compressed(place: int, tmp_path: Path) -> None:
    served = fetched(cut_at(Stored(GZIP), place, 2), tmp_path)
    assert served.sent <= len(GZIP) + MIB // 2


def test_messages_of_a_cut_make_sense(tmp_path: Path) -> None:
    for place in (100, 400_000):
        attempted = Attempted()
        with archive_server(cut_at(Stored(PLAIN), place)) as served:
            attempted.acquire(tmp_path / "data", served.url())
        (said,) = attempted.said
        assert "broke off" in said
        assert "None" not in said
        (tmp_path / "data").unlink()


def test_cut_where_only_the_connection_tells_the_end(tmp_path: Path) -> None:
    """Nobody can tell that from the end of the file: half an archive is no archive, and one error."""
    answer = cut_at(Stored(PLAIN, ranges=False, framing=Framing.CLOSE), 400_000, 100)
    error = failure(answer, tmp_path)
    assert isinstance(error, SourceError)
    assert "is truncated or damaged" in error.message


def test_cut_ranges_where_only_the_connection_tells_the_end(tmp_path: Path) -> None:
    """The range told how much there should be."""
    fetched(cut_at(Stored(PLAIN, framing=Framing.CLOSE), 400_000, 2), tmp_path)
    (tmp_path / "data").unlink()
    fetched(cut_at(Stored(PLAIN, framing=Framing.CLOSE), 1000), tmp_path)


def test_cut_for_ever(tmp_path: Path) -> None:
    for ranges in (True, False):
        error = failure(cut_at(Stored(PLAIN, ranges), 400_000, 1000), tmp_path)
        assert "broke off" in error.message


@pytest.mark.parametrize("most", [20_000, 65_536, 200_000])
def test_server_that_gives_less_than_was_asked_for(most: int, tmp_path: Path) -> None:
    """A server may answer a part of the range (RFC 9110, 15.3.7)."""
    fetched(Stored(PLAIN, most=most), tmp_path)


def test_server_that_does_not_tell_the_size(tmp_path: Path) -> None:
    """Beside a range it may be "*" (RFC 9110, 14.4)."""
    fetched(Stored(PLAIN, total="*"), tmp_path)


@pytest.mark.parametrize("total", ["5", "70000", f"{len(PLAIN) * 2}", "x"])
def test_server_that_tells_another_size(total: str, tmp_path: Path) -> None:
    with suppress(BootcLiveError):
        fetched(Stored(PLAIN, total=total), tmp_path)
        (tmp_path / "data").unlink()
    assert os.listdir(tmp_path) == []


def test_ranges_of_other_bytes(tmp_path: Path) -> None:
    """It says one thing and gives another."""

    def answer(asked: Asked) -> Reply:
        reply = Stored(PLAIN)(asked)
        return replace(reply, body=PLAIN[: len(reply.body)]) if asked.number else reply

    assert isinstance(failure(answer, tmp_path), (SourceError, ImageError))


VERSIONS = [("etag", '"one"', '"two"'), ("modified", "Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 02 Jan 1970 00:00:01 GMT")]


@pytest.mark.parametrize("tags", VERSIONS)
@pytest.mark.parametrize("since", [1, 3])
def test_file_that_changes(since: int, tags: tuple[str, str, str], tmp_path: Path) -> None:
    """Digests tell, and people are told what it may be; by chance, what came may be all of the new one."""
    kind, before, after = tags
    changed = tar_of(oci_members(Image([Layer(tar, "none") for tar in TARS[::-1]], architecture=HERE)))

    def answer(asked: Asked) -> Reply:
        content, tag = (PLAIN, before) if asked.number < since else (changed, after)
        return Stored(content, etag=tag if kind == "etag" else None, modified=tag if kind == "modified" else None)(
            asked
        )

    attempted = Attempted()
    with archive_server(answer) as served, suppress(BootcLiveError):
        assert contents(attempted.acquire(tmp_path / "data", served.url()).image) == TARS[::-1]
    assert sum("changed while it was read" in said for said in attempted.said) == 1


@pytest.mark.parametrize("kind", ["etag", "modified"])
@pytest.mark.parametrize("cut", [None, 400_000])
def test_servers_that_disagree_on_the_version_of_one_file(kind: str, cut: int | None, tmp_path: Path) -> None:
    """As the nodes of a network that keeps copies do."""

    def answer(asked: Asked) -> Reply:
        tag = f'"node {asked.number % 2}"'
        return Stored(PLAIN, etag=tag if kind == "etag" else None, modified=tag if kind == "modified" else None)(asked)

    fetched(answer if cut is None else cut_at(answer, cut, 2), tmp_path)


def test_nobody_is_asked_for_a_version(tmp_path: Path) -> None:
    """Some servers answer If-Range by the whole file although nothing has changed."""
    served = fetched(cut_at(Stored(PLAIN), 400_000), tmp_path)
    assert not any(asked.header("If-Range") for asked in served.asked)


def test_file_that_changes_on_a_server_that_has_no_tags(tmp_path: Path) -> None:
    """Then the digests tell."""
    other = [layer(file("a", NOISE.randbytes(700_000))), *TARS[1:]]
    changed = tar_of(oci_members(Image([Layer(tar, "none") for tar in other], architecture=HERE)))

    def answer(asked: Asked) -> Reply:
        return Stored(PLAIN if asked.number < 3 else changed, etag=None)(asked)

    failure(answer, tmp_path)


@pytest.mark.parametrize(("status", "asked"), [(401, 1), (403, 1), (404, 1), (410, 1), (400, 2), (416, 2), (501, 2)])
def test_refusals_are_final(status: int, asked: int, tmp_path: Path) -> None:
    """Where it may have been for the range, it is asked for without one."""
    with archive_server(lambda _asked: Reply(status)) as served:
        with pytest.raises(SourceError, match=f"answered {status}") as caught:
            acquired(tmp_path / "data", served.url())
        assert len(served.asked) == asked
    # The logins of registries have nothing to do with web servers.
    assert "auth.json" not in caught.value.hint
    assert "registry" not in caught.value.hint


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("since", [0, 3])
def test_bad_moments_pass(status: int, since: int, tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply(status) if since <= asked.number < since + 2 else Stored(PLAIN)(asked)

    fetched(answer, tmp_path)


def test_bad_moments_that_do_not_pass(tmp_path: Path) -> None:
    with archive_server(lambda _asked: Reply(500)) as served:
        with pytest.raises(SourceError, match="answered 500"):
            acquired(tmp_path / "data", served.url())
        assert len(served.asked) == QUICK.limits.tries


@pytest.mark.parametrize(
    "change",
    [lambda content: flipped(content, 400_000), lambda content: content[:400_000], lambda _: b"<html>no</html>"],
    ids=["wrong", "short", "page"],
)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("content", [PLAIN, GZIP], ids=["plain", "gzip"])
def test_wrong_bytes(content: bytes, ranges: bool, change: Callable[[bytes], bytes], tmp_path: Path) -> None:
    failure(Stored(change(content), ranges), tmp_path)


def test_empty_file(tmp_path: Path) -> None:
    failure(Stored(b""), tmp_path)
    failure(Stored(b"", ranges=False), tmp_path)


def test_silence_is_given_up(tmp_path: Path) -> None:
    for ranges in (True, False):

        def answer(asked: Asked, ranges: bool = ranges) -> Reply:
            reply = Stored(PLAIN, ranges)(asked)
            return replace(reply, pauses=((10, 30.0),)) if asked.number == 0 else reply

        with archive_server(answer) as served:
            assert contents(acquired(tmp_path / "data", served.url(), policy=IMPATIENT)) == TARS
        (tmp_path / "data").unlink()


def test_the_rest_of_a_given_up_answer_is_not_its_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer trickles and is given up; the second fails; the third is read from its own first byte."""
    now = count(step=1000)
    trickles = [True]

    def answer(asked: Asked) -> Reply:
        reply = Stored(GZIP)(asked)
        if asked.number == 0:
            return replace(reply, pauses=[(10, 1.0)])
        trickles.clear()
        return Reply(503) if asked.number == 1 else reply

    # As if its first bytes had taken very long.
    monkeypatch.setattr(read_body, "__defaults__", (None, lambda: float(next(now)) if trickles else 0.0))
    policy = replace(QUICK, limits=replace(QUICK.limits, tries=3))
    with archive_server(answer) as served:
        assert contents(acquired(tmp_path / "data", served.url(), policy=policy)) == TARS


def test_redirect_on_the_same_server(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Stored(PLAIN)(asked) if asked.path == "/new" else Reply(302, headers={"Location": "/new"})

    fetched(answer, tmp_path)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "//", "http://[", PLACE])
def test_redirect_to_nowhere(target: str, tmp_path: Path) -> None:
    error = failure(lambda _asked: Reply(302, headers={"Location": target}), tmp_path)
    assert isinstance(error, SourceError)


def test_plain_http_is_said_to_be_insecure(tmp_path: Path) -> None:
    for pin, said in ((None, "can choose the image"), ("sha256:" + "0" * 64, "its digest is pinned")):
        attempted = Attempted({"pin": pin})
        with archive_server(Stored(PLAIN)) as served:
            if pin is None:
                assert attempted.acquire(tmp_path / "data", served.url()).image.resolved.insecure
            else:
                with pytest.raises(ImageError, match=f"allows only {pin}"):
                    attempted.acquire(tmp_path / "other", served.url())
        (warning,) = attempted.recorder.warnings
        assert "INSECURE" in warning
        assert said in warning


def test_server_that_is_not_there(tmp_path: Path) -> None:
    with closed_port() as port, pytest.raises(SourceError, match="cannot reach"):
        acquired(tmp_path / "data", f"http://127.0.0.1:{port}/image.oci", policy=IMPATIENT)
    assert os.listdir(tmp_path) == []
