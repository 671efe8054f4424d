"""From a source to a verified image: what is refused, which error is told, what is left behind."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, ImageError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.formats.oci.platform import machine_platform
from bootc_live.image.fetch import fetch_layers, workers
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.image.sink import DataFile
from bootc_live.image.store.layer_store import layer_store
from bootc_live.image.verified import VerifiedImage
from bootc_live.source.archive.files import TarFiles
from bootc_live.source.archive.layout import LayoutSource
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.archive.reader import FileReader
from tests.lib.acquiring import contents
from tests.lib.fetching import fetched_archive
from tests.lib.oci_writer import Compression, Flavour, Image, Index, Layer, compress, sha256, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

TARS = [layer(file("one", b"1" * 5000)), layer(file("two", b"2" * 70_000)), layer()]
WRONG = "sha256:" + "0" * 64


def image(*layers: Layer, ref: str | None = "latest", architecture: str = HERE, **changes: object) -> Image:
    made = Image(layers or [Layer(tar) for tar in TARS], ref=ref, architecture=architecture)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def fetched(tmp_path: Path, *items: Image | Index, without: tuple[str, ...] = ()) -> VerifiedImage:
    path = write_archive(tmp_path / "a.oci", *items, without=without)
    return fetched_archive(path, "/typed.oci", tmp_path / "data")


def failure(tmp_path: Path, *items: Image | Index) -> BootcLiveError:
    """The error; nothing but the archive is there afterwards."""
    with pytest.raises(BootcLiveError) as caught:
        fetched(tmp_path, *items)
    assert os.listdir(tmp_path) == ["a.oci"]
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("flavour", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_every_packing(tmp_path: Path, flavour: Flavour, compression: Compression) -> None:
    layers = [Layer(tar, compression) for tar in TARS]
    found = fetched(tmp_path, image(*layers, flavour=flavour))
    assert contents(found) == TARS
    assert [made.diff_id for made in found.layers] == [sha256(tar) for tar in TARS]
    assert found.size == sum(map(len, TARS))
    assert found.resolved.compressed_size == sum(len(compress(tar, compression)) for tar in TARS)
    assert found.resolved.source_text == "/typed.oci"
    assert found.resolved.insecure is False


@pytest.mark.parametrize("media_type", ["application/octet-stream", "application/vnd.oci.image.layer.v1.tar+zstd"])
def test_media_types_are_only_claims(tmp_path: Path, media_type: str) -> None:
    assert contents(fetched(tmp_path, image(Layer(TARS[0], "gzip", media_type=media_type)))) == [TARS[0]]


def test_index(tmp_path: Path) -> None:
    other = image(Layer(layer(file("wrong"))), ref=None, architecture="s390x")
    assert contents(fetched(tmp_path, Index([other, image(ref=None)]))) == TARS


def test_entries_of_one_ref(tmp_path: Path) -> None:
    other = image(Layer(layer(file("wrong"))), architecture="s390x")
    assert contents(fetched(tmp_path, other, image())) == TARS


def test_a_layer_that_stands_twice_is_kept_once(tmp_path: Path) -> None:
    layers = [Layer(TARS[number]) for number in (1, 0, 1)]
    found = fetched(tmp_path, image(*layers))
    assert contents(found) == [TARS[1], TARS[0], TARS[1]]
    assert found.layers[0] == found.layers[2]
    assert found.size == len(TARS[0]) + len(TARS[1])
    assert found.resolved.compressed_size == sum(len(compress(tar, "gzip")) for tar in TARS[:2])


def test_two_hundred_layers(tmp_path: Path) -> None:
    tars = [layer(file(f"file-{number}", str(number))) for number in range(200)]
    assert contents(fetched(tmp_path, image(*(Layer(tar, "none") for tar in tars)))) == tars


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda: image(manifest_digest=WRONG), f"the manifest of '/typed.oci' has the digest sha256:.*{WRONG}"),
        (lambda: image(config_digest=WRONG), f"the image config {WRONG} of '/typed.oci' has the digest"),
        (lambda: image(config_size=3), "is longer than the 3 bytes"),
        (lambda: image(config_size=3000), r"has \d+ bytes, its manifest gives 3000"),
        (lambda: image(config_size=5 * 2**20), "too many for a manifest"),
        (lambda: image(Layer(TARS[0], digest=WRONG)), rf"^layer 0 \({WRONG}\) of '/typed.oci' has the digest"),
        (lambda: image(Layer(TARS[0]), Layer(TARS[1], size=9)), "^layer 1 .* is longer than the 9 bytes"),
        (lambda: image(Layer(TARS[0], size=10**6)), r"^layer 0 .* has \d+ bytes, its manifest gives 1000000"),
        (lambda: image(Layer(TARS[0], diff_id=WRONG)), f"^layer 0 .* unpacks to the diffID .* gives {WRONG}"),
        (lambda: image(diff_ids=[WRONG]), "one diffID for each of the 3 layers"),
        (
            lambda: image(Layer(TARS[0], "gzip", compress(TARS[0], "gzip")[:-9])),
            "^layer 0 .* is damaged: its gzip",
        ),
        (lambda: image(Layer(TARS[0], "gzip", b"\x1f\x8bgarbage")), "^layer 0 .* is damaged"),
        (lambda: image(architecture="s390x"), "is made for linux/s390x, this machine is"),
        (lambda: image(os="windows"), "is made for windows/"),
        (lambda: Index([image(architecture="s390x", ref=None)]), "its index has: linux/s390x"),
        (lambda: Index([]), "its index has: nothing"),
    ],
)
def test_refused(tmp_path: Path, changed: Callable[[], Image | Index], message: str) -> None:
    error = failure(tmp_path, changed())
    assert isinstance(error, ImageError)
    with pytest.raises(ImageError, match=message):
        raise error


def test_damaged_zstd_layer(tmp_path: Path) -> None:
    blob = compress(TARS[0], "zstd")[:-2]
    error = failure(tmp_path, image(Layer(TARS[0], "zstd", blob)))
    assert isinstance(error, ImageError)
    assert "of '/typed.oci' is damaged: its last zstd frame has no end" in error.message


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_a_wrong_digest_is_told_even_where_inflating_fails_first(tmp_path: Path, compression: Compression) -> None:
    """The store or the way gave other bytes than the manifest names: that, not broken gzip, is the news."""
    right = compress(TARS[1], compression)
    wrong = right[: len(right) // 2] + bytes(len(right) - len(right) // 2)
    error = failure(tmp_path, image(Layer(TARS[1], compression, wrong, digest=sha256(right))))
    assert f"has the digest {sha256(wrong)}, it must be {sha256(right)}" in error.message


def test_missing_blob(tmp_path: Path) -> None:
    digest = sha256(compress(TARS[1], "gzip"))
    with pytest.raises(SourceError, match=f"does not contain the blob {digest}"):
        fetched(tmp_path, image(), without=(f"blobs/sha256/{digest.partition(':')[2]}",))
    assert os.listdir(tmp_path) == ["a.oci"]


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("precious")
    with pytest.raises(FileExistsError):
        fetched(tmp_path, image())
    assert (tmp_path / "data").read_text() == "precious"


class _Interrupted(LayoutSource):
    """A source whose second layer is interrupted, as by a signal."""

    @contextmanager
    def open_blob(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        with super().open_blob(descriptor) as chunks:
            if descriptor.digest == sha256(compress(TARS[1], "gzip")):
                raise KeyboardInterrupt
            yield chunks


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", image())
    with path.open("rb") as file:
        source = _Interrupted(TarFiles(FileReader(file.fileno(), "source"), "source"), "source", None)
        with pytest.raises(KeyboardInterrupt), layer_store(str(tmp_path / "data")) as store:
            fetch_layers(source, resolve_image(source), store, Recorder(quiet=True), DataFile())
    assert os.listdir(tmp_path) == ["a.oci"]


def test_resolving_fetches_no_layer(tmp_path: Path) -> None:
    names = tuple(f"blobs/sha256/{sha256(compress(tar, 'gzip')).partition(':')[2]}" for tar in TARS)
    path = write_archive(tmp_path / "a.oci", image(), without=names)
    with open_archive(str(path), "source", None) as source:
        assert isinstance(source, LayoutSource)
        found = resolve_image(source)
    assert len(found.manifest.layers) == len(TARS)
    assert found.config.platform == dataclasses.replace(machine_platform(), variant="")


def test_another_platform_may_be_asked_for(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", image(architecture="s390x"))
    with open_archive(str(path), "source", None) as source:
        assert isinstance(source, LayoutSource)
        assert str(resolve_image(source, Wanted(machine_platform("s390x"))).config.platform) == "linux/s390x"


@pytest.mark.parametrize(
    ("cores", "available", "expected"),
    [(1, 2**33, 1), (2, 2**33, 2), (64, 2**40, 8), (8, 2**30, 4), (8, 2**28, 1), (8, 2**20, 1), (4, 0, 4)],
)
def test_workers_are_bounded_by_cores_and_memory(cores: int, available: int, expected: int) -> None:
    assert workers(cores, available) == expected


def test_zeros_take_no_memory(tmp_path: Path) -> None:
    """As of a sparse file in a directory: they are hashed, and can be read while the layer is written."""
    pieces = [b"x" * 100, *[bytes(2**20)] * 8, b"y", bytes(2**20)]
    whole = b"".join(pieces)
    seen: list[bytes] = []
    with layer_store(str(tmp_path / "data")) as store:
        slot = store.rest()

        class Reading(DataFile):
            def advance(self, size: int) -> None:
                """Read what is there, which must be all of it."""
                seen.append(Path(store.path).read_bytes()[slot.offset : slot.offset + size])

        assert store.write(slot, iter(pieces), lambda: False, progress=Reading()) == (sha256(whole), len(whole))
        assert os.stat(store.path).st_blocks * 512 < 2**20
    assert [len(part) for part in seen] == list(itertools.accumulate(map(len, pieces)))
    assert seen[-1] == whole
