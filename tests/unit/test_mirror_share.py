"""How much of the time for a source its mirrors may take: the registry always has some left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.config.model import Mirror
from bootc_live.config.source_spec import RegistryImage
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.verify import digest_of
from bootc_live.source.access import Access
from bootc_live.source.registry.source import RegistrySource, open_registry
from tests.lib.acquiring import QUICK
from tests.lib.archive_servers import ArchiveServer, Reply, Stored, archive_server

TOTAL = QUICK.limits.total
BLOB = bytes(range(256)) * 16384
DESCRIPTOR = Descriptor("application/octet-stream", digest_of(BLOB), len(BLOB))


@contextmanager
def opened(
    mirror: ArchiveServer | None, home: ArchiveServer, root: Path, *more: ArchiveServer
) -> Iterator[RegistrySource]:
    reference = f"127.0.0.1:{home.port}/os@{digest_of(b'')}"
    mirrors = tuple(Mirror(f"127.0.0.1:{each.port}", insecure=True) for each in (mirror, *more) if each)
    access = Access(lambda _told: None, unsecure=True, mirrors=mirrors, policy=QUICK, root=str(root))
    with open_registry(RegistryImage(reference, f"docker://{reference}"), access) as source:
        yield source


@pytest.mark.parametrize(("spent", "switched"), [(0.4, False), (0.6, True)])
def test_half_of_the_time_is_the_registry_s(spent: float, switched: bool, tmp_path: Path) -> None:
    with archive_server(Stored(BLOB)) as mirror, archive_server(Stored(BLOB)) as home:
        with opened(mirror, home, tmp_path) as source:
            retries = source._http.retries
            with source.open_blob(DESCRIPTOR) as chunks:
                first = next(chunks)
                began = retries.clock() - retries.elapsed()
                # As if the first piece had taken so long.
                retries.clock = lambda: began + spent * TOTAL
                assert b"".join([first, *chunks]) == BLOB
        assert len(mirror.asked) == 1
        asked = [one.span for one in home.asked if one.span != (0, 0)]
        assert asked == ([(len(first), None)] if switched else [])


@pytest.mark.parametrize("size", [len(BLOB), 1000])
def test_mirrors_take_turns_with_large_blobs(size: int, tmp_path: Path) -> None:
    """Small ones come from the machine's own mirror: two connections for them would only cost time."""
    blob = BLOB[:size]
    descriptor = Descriptor("application/octet-stream", digest_of(blob), size)
    with archive_server(Stored(blob)) as one, archive_server(Stored(blob)) as two, archive_server(Stored(blob)) as home:
        with opened(one, home, tmp_path, two) as source:
            for _ in range(6):
                with source.open_blob(descriptor) as chunks:
                    assert b"".join(chunks) == blob
        assert sorted(len(mirror.asked) for mirror in (one, two)) == ([3, 3] if size == len(BLOB) else [0, 6])
        assert not home.asked


def test_a_mirror_that_fails_has_no_more_turns(tmp_path: Path) -> None:
    busy = archive_server(lambda _asked: Reply(503))
    with busy as one, archive_server(Stored(BLOB)) as two, archive_server(Stored(BLOB)) as home:
        with opened(one, home, tmp_path, two) as source:
            for _ in range(6):
                with source.open_blob(DESCRIPTOR) as chunks:
                    assert b"".join(chunks) == BLOB
        assert (len(one.asked), len(two.asked), len(home.asked)) == (1, 6, 0)


def test_a_mirror_that_failed_of_late_comes_last(tmp_path: Path) -> None:
    with archive_server(lambda _asked: Reply(503)) as mirror, archive_server(Stored(BLOB)) as home:
        with opened(mirror, home, tmp_path) as source:
            for _ in range(3):
                with source.open_blob(DESCRIPTOR) as chunks:
                    assert b"".join(chunks) == BLOB
        assert len(mirror.asked) == 1


def test_what_came_in_parts_is_asked_for_once_more(tmp_path: Path) -> None:
    """In one, where the parts did not fit; if that is wrong, too, there is nothing left to try."""
    first = iter([Reply(200, BLOB, {"Accept-Ranges": "bytes"}, cut=len(BLOB) // 2)])
    rest = Stored(bytes(len(BLOB)))
    answer = archive_server(lambda asked: next(first, None) or rest(asked))
    with answer as home, opened(None, home, tmp_path) as source:
        again: list[bool] = []
        while len(again) < 5 and all(again):
            with source.open_blob(DESCRIPTOR) as chunks:
                assert b"".join(chunks) != BLOB
            again.append(source.distrust(DESCRIPTOR))
    assert again == [True, False]
    assert home.asked[-1].span is None


@pytest.mark.parametrize("there", [True, False])
def test_mirrors_that_had_their_share_come_last(there: bool, tmp_path: Path) -> None:
    """Where the registry does not have it, they are asked all the same, and may go on."""
    missing = Reply(404)
    with archive_server(Stored(BLOB)) as mirror, archive_server(Stored(BLOB) if there else lambda _: missing) as home:
        with opened(mirror, home, tmp_path) as source:
            retries = source._http.retries
            began = retries.clock() - retries.elapsed()
            retries.clock = lambda: began + 0.6 * TOTAL
            with source.open_blob(DESCRIPTOR) as chunks:
                assert b"".join(chunks) == BLOB
        assert bool(mirror.asked) != there
