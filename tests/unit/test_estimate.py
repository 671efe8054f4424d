"""Estimates of images in every kind of source: near the truth where it can be had, guesses where it cannot."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bootc_live.config.source_spec import parse_source
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.candidate import resolve
from bootc_live.image.resolve import Wanted
from bootc_live.image.size.estimate import Estimate, estimate, estimated, layers_to_probe
from bootc_live.image.size.unpacked import TYPICAL_TIMES, Basis
from bootc_live.source.access import Access
from bootc_live.source.pointer import followed
from bootc_live.source.select import open_source
from tests.lib.acquiring import QUICK
from tests.lib.archive_members import oci_members, tar_of, write_members
from tests.lib.archive_servers import Asked, Framing, Reply, Stored, archive_server
from tests.lib.docker_writer import STYLES, Saved, Style, docker_members
from tests.lib.fetching import quiet
from tests.lib.oci_writer import Compression, Image, Layer, compress, sha256, write_archive, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

NOISE = random.Random(5)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers does so in time, however busy the machine is."""
    monkeypatch.setattr("bootc_live.image.size.probe.run_probes.__defaults__", (600.0,))


def half_noise(size: int) -> bytes:
    """Packs to about half."""
    return b"".join(NOISE.randbytes(512) + bytes(512) for _ in range(size // 1024))


TARS = [layer(file(f"file-{size}", half_noise(size))) for size in (700_000, 1_400_000, 600_000)]
UNPACKED = sum(map(len, TARS))


def image_of(compression: Compression) -> Image:
    return Image([Layer(tar, compression) for tar in TARS], architecture=HERE)


@contextmanager
def opened(source_text: str) -> Iterator[Estimate]:
    """The estimate of a source, written as after `root=bootc-live:`."""
    access = Access(quiet, policy=QUICK)
    with open_source(followed(parse_source(source_text), access)[0], access) as source:
        yield estimate(source, resolve(source, Wanted()).image)


def estimate_of(source_text: str | Path) -> Estimate:
    with opened(str(source_text)) as made:
        return made


def bases(made: Estimate) -> list[Basis]:
    return [each.basis for each in made.layers]


@pytest.mark.parametrize(("compression", "basis"), [("gzip", Basis.TRAILER), ("none", Basis.PLAIN)])
@pytest.mark.parametrize("kind", ["archive", "layout"])
def test_files(kind: str, compression: Compression, basis: Basis, tmp_path: Path) -> None:
    write = write_archive if kind == "archive" else write_layout
    made = estimate_of(write(tmp_path / "image", image_of(compression)))
    assert [each.unpacked for each in made.layers] == list(map(len, TARS))
    assert bases(made) == [basis] * 3
    assert (made.unpacked, made.least, made.guessed, made.streamed) == (UNPACKED, UNPACKED, 0, False)
    assert made.size == sum(len(compress(tar, compression)) for tar in TARS)


def test_zstd_out_of_a_pipe_is_guessed(tmp_path: Path) -> None:
    made = estimate_of(write_archive(tmp_path / "image.oci", image_of("zstd")))
    assert bases(made) == [Basis.GUESS] * 3
    assert made.unpacked == made.guessed == sum(int(each.size * TYPICAL_TIMES) for each in made.layers)
    assert made.least == made.size


def test_annotations_come_first(tmp_path: Path) -> None:
    said = {"ci.umo.uncompressed_blob_size": "9999999"}
    layers = [Layer(TARS[0], annotations=said), Layer(TARS[1], "zstd", annotations=said), Layer(TARS[2])]
    made = estimate_of(write_archive(tmp_path / "image.oci", Image(layers, architecture=HERE)))
    assert [each.unpacked for each in made.layers] == [9_999_999, 9_999_999, len(TARS[2])]
    assert bases(made) == [Basis.ANNOTATION, Basis.ANNOTATION, Basis.TRAILER]


def test_a_layer_counts_once(tmp_path: Path) -> None:
    layers = [Layer(TARS[0]), Layer(TARS[1]), Layer(TARS[0], "zstd"), Layer(TARS[0])]
    made = estimate_of(write_archive(tmp_path / "image.oci", Image(layers, architecture=HERE)))
    assert len(made.layers) == 2


def test_lies_change_nothing_but_the_estimate(tmp_path: Path) -> None:
    """A trailer of 4 GiB, one of nothing, and a blob that is garbage."""
    blob = compress(TARS[0], "gzip")
    layers = [
        Layer(TARS[0], blob=blob[:-4] + (15 * len(blob)).to_bytes(4, "little")),
        Layer(TARS[1], blob=compress(TARS[1], "gzip")[:-4] + b"\xff\xff\xff\xff"),
        Layer(TARS[2], blob=gzip.compress(b"")[:10] + NOISE.randbytes(300_000)),
    ]
    made = estimate_of(write_archive(tmp_path / "image.oci", Image(layers, architecture=HERE)))
    assert made.layers[0].unpacked == 15 * len(blob)
    assert bases(made)[:2] == [Basis.TRAILER, Basis.GUESS]


@pytest.mark.parametrize("style", STYLES)
def test_docker_archives(style: Style, tmp_path: Path) -> None:
    archive = write_members(tmp_path / "saved.tar", docker_members(style, Saved(TARS)))
    made = estimate_of(archive)
    assert [each.unpacked for each in made.layers] == list(map(len, TARS))
    # Some tools pack what is plain elsewhere.
    assert set(bases(made)) == {Basis.TRAILER if style == "ggcr" else Basis.PLAIN}
    assert made.streamed is (style != "moby")


@pytest.mark.parametrize("style", STYLES)
def test_docker_archives_as_streams(style: Style, tmp_path: Path) -> None:
    (tmp_path / "saved.tar.gz").write_bytes(gzip.compress(tar_of(docker_members(style, Saved(TARS)))))
    made = estimate_of(tmp_path / "saved.tar.gz")
    # Nothing says that they are packed.
    expected = sum(len(gzip.compress(tar, 1)) for tar in TARS) if style == "ggcr" else UNPACKED
    assert made.unpacked == pytest.approx(expected, rel=0.001)
    assert made.streamed


def test_a_compressed_archive_is_guessed(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "image.oci", image_of("gzip"))
    (tmp_path / "image.oci.gz").write_bytes(gzip.compress(archive.read_bytes()))
    made = estimate_of(tmp_path / "image.oci.gz")
    assert bases(made) == [Basis.GUESS] * 3
    assert made.streamed
    assert made.least == made.size


ARCHIVE = tar_of(oci_members(image_of("gzip")))
BLOBS = [compress(tar, "gzip") for tar in TARS]


def trailers(content: bytes = ARCHIVE) -> set[tuple[int, int]]:
    """Where the last four bytes of the layers lie."""
    ends = [content.index(blob) + len(blob) for blob in BLOBS]
    return {(end - 4, end - 1) for end in ends}


def test_a_server_with_ranges() -> None:
    with archive_server(Stored(ARCHIVE)) as server:
        access = Access(quiet, policy=QUICK)
        with open_source(followed(parse_source(server.url()), access)[0], access) as source:
            image = resolve(source, Wanted()).image
            before, came = len(server.asked), access.traffic.total
            made = estimate(source, image)
        assert made.unpacked == UNPACKED
        assert {asked.span for asked in server.asked[before:]} == trailers()
        assert access.traffic.total - came == 12


@pytest.mark.parametrize("framing", Framing)
def test_a_server_without_ranges(framing: Framing) -> None:
    with archive_server(Stored(ARCHIVE, ranges=False, framing=framing)) as server:
        made = estimate_of(server.url())
        assert bases(made) == [Basis.GUESS] * 3


@pytest.mark.parametrize("status", [200, 403, 404, 416, 429, 500, 503])
def test_a_server_that_fails_is_asked_once(status: int) -> None:
    """Where it refuses, and where it stops answering ranges."""
    stored = Stored(ARCHIVE)

    def answer(asked: Asked) -> Reply:
        if asked.span in trailers():
            return Reply(status, ARCHIVE if status == 200 else b"sorry")
        return stored(asked)

    with archive_server(answer) as server:
        made = estimate_of(server.url())
        assert bases(made) == [Basis.GUESS] * 3
        asked = [each.span for each in server.asked if each.span in trailers()]
        assert len(asked) == len(set(asked))


def test_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootc_live.image.size.probe.run_probes.__defaults__", (0.3,))
    stored = Stored(ARCHIVE)

    def answer(asked: Asked) -> Reply:
        if asked.span in trailers():
            return replace(stored(asked), pauses=[(1, 60.0)])
        return stored(asked)

    with archive_server(answer) as server:
        # Each answer would be good, in the end.
        assert bases(estimate_of(server.url())) == [Basis.GUESS] * 3


LEAST = 256 * 1024


def descriptor(number: int, size: int) -> Descriptor:
    return Descriptor("", sha256(str(number).encode()), size)


@pytest.mark.parametrize(
    ("sizes", "looked"),
    [
        ([], []),
        ([LEAST], [LEAST]),
        ([LEAST - 1], []),
        ([LEAST, 100 * LEAST, 50 * LEAST, 5], [100 * LEAST, 50 * LEAST]),
        ([LEAST] * 3, [LEAST] * 3),
        ([LEAST] * 500, [LEAST] * 64),
        ([0, 0], []),
    ],
)
def test_the_large_ones_are_layers_to_probe(sizes: list[int], looked: list[int]) -> None:
    chosen = layers_to_probe([descriptor(number, size) for number, size in enumerate(sizes)])
    assert [each.size for each in chosen] == looked


def test_guesses() -> None:
    layers = [descriptor(number, size) for number, size in enumerate([1000, 700])]
    made = estimated(layers, {layers[0].digest: ([3000], Basis.TRAILER)})
    assert [(each.unpacked, each.least) for each in made.layers] == [(3000, 3000), (int(700 * TYPICAL_TIMES), 700)]
    assert bases(made) == [Basis.TRAILER, Basis.GUESS]


def test_several_sizes_are_possible() -> None:
    made = estimated([descriptor(0, 1000)], {descriptor(0, 1000).digest: ([7000, 3000, 11_000], Basis.TRAILER)})
    assert (made.unpacked, made.least, made.guessed) == (7000, 3000, 0)
