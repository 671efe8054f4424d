"""The self-contained image, read back by a reader of its own: every file is whole, and nothing lies over another."""

from __future__ import annotations

import random
import signal
import stat
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from types import FrameType

import pytest

from bootc_live.base.errors import ImageError, RootfsError
from bootc_live.config.model import Compression
from bootc_live.formats.erofs.compressed import extents
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.tree.node import Node
from tests.lib.building import Building
from tests.lib.tar_writer import directory, file, hardlink, layer, node, sparse_gnu, sparse_pax, symlink, xattr
from tests.unit.erofs_reader import Image
from tests.unit.merging import data_file, merged, node_at, paths
from tests.unit.test_erofs_writer import RICH, content_of, same_fields
from tests.unit.z_reader import Span

NONE, LZ4, ZSTD = Compression
KIB, MIB = 2**10, 2**20
SIZES = (
    *(0, 1, 255, 256, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193, 12_287, 12_289),
    *(128 * KIB - 1, 128 * KIB, 128 * KIB + 1, 128 * KIB + 4095, 128 * KIB + 4096, 132 * KIB),
    *(256 * KIB - 1, 256 * KIB, 256 * KIB + 2047, 256 * KIB + 5000, 600_001),
)
NOISE = random.Random(4).randbytes(2 * MIB)
TEXT = b"".join(b"line %d of what can be told shorter\n" % number for number in range(60_000))[: 2 * MIB]
CONTENTS: dict[str, Callable[[int], bytes]] = {
    "zeros": bytes,
    "text": lambda size: TEXT[:size],
    "noise": lambda size: NOISE[:size],
    "half": lambda size: _mixed(size, 64),
    "rough": lambda size: _mixed(size, 128 * KIB),
    "tail": lambda size: (NOISE[: max(size - 5000, 0)] + bytes(5000))[:size],
    "head": lambda size: (bytes(5000) + NOISE)[:size],
}


def _mixed(size: int, step: int) -> bytes:
    """Noise and zeros in turns."""
    parts = (NOISE[at : at + step] if at // step % 2 else bytes(step) for at in range(0, size, step))
    return b"".join(parts)[:size]


def checked(image: bytes) -> Image:
    """The image; whole blocks, and no two of its parts in the same place."""
    reader = Image(image)
    assert len(image) % 4096 == 0
    assert reader.blocks * reader.block == len(image)
    reader.tree()
    spans = sorted((first, first + count) for taken in reader.taken.values() for first, count in taken)
    assert not spans or spans[0][0] * reader.block >= 4096, "a file lies in the superblock"
    for (_, end), (begin, _) in pairwise(spans):
        assert end <= begin, "two files share a block"
    if reader.algorithms:
        # lz4: any distance, up to 33 blocks; zstd: the format, and a window of 2^18.
        wanted = {1: {"lz4": b"\0\0\x21\0" + bytes(10)}, 8: {"zstd": b"\0\x08" + bytes(4)}}
        assert reader.settings == wanted[reader.algorithms]
    return reader


def files_of(image: bytes) -> dict[str, bytes]:
    """The regular files of an image."""
    found = checked(image).tree().items()
    return {path.decode(): entry.data for path, entry in found if stat.S_ISREG(entry.mode)}


def image_of(where: Path, compression: Compression, *members: bytes) -> bytes:
    return Building(where, compression).of([layer(*members)])


def round_trip(where: Path, compression: Compression, *layers: tuple[bytes, ...], keep_times: bool = True) -> Image:
    """Makes the image and compares everything but where data lies."""
    root, data = merged(*layers), data_file(*layers)
    image = Building(where, compression, keep_times=keep_times).of([layer(*parts) for parts in layers])
    reader = checked(image)
    found = reader.tree()
    names = {path.rstrip("/").encode(errors="surrogateescape"): path for path in paths(root)} | {b"": ""}
    assert found.keys() == names.keys()
    for name, path in names.items():
        entry, got = node_at(root, path), found[name]
        if not keep_times:
            entry.mtime = entry.mtime_ns = 0
        same_fields(entry, got, path)
        if entry.children is None:
            assert got.data == content_of(data, entry), path
    return reader


@pytest.mark.parametrize("compression", Compression)
def test_every_size(compression: Compression, tmp_path: Path) -> None:
    """One image with files of every content, of each size around every boundary of the format."""
    wanted = {f"{kind}{size:08}": make(size) for kind, make in CONTENTS.items() for size in SIZES}
    made = image_of(tmp_path, compression, *(file(name, data) for name, data in wanted.items()))
    assert files_of(made) == wanted


@pytest.mark.parametrize("size", [*SIZES, 2**62 + 4095])
def test_extents(size: int) -> None:
    """Whole ones, but for the last; and none at the end that is less than a block."""
    lengths = list(islice(extents(size), 100))
    if len(lengths) < 100:
        assert sum(lengths) == size
        assert all(length >= 4096 for length in lengths) or lengths == [size]
        assert lengths[-1:] <= [132 * KIB - 1]
        lengths = lengths[:-1]
    assert set(lengths) <= {128 * KIB}


@pytest.mark.parametrize("compression", Compression)
def test_files_can_be_read_back_once_their_layer_is_gone(compression: Compression, tmp_path: Path) -> None:
    """The policy that labels follow is one of them."""
    wanted = {f"{kind}{size}": make(size) for kind, make in CONTENTS.items() for size in SIZES[::3]}
    members = [file(name, data) for name, data in wanted.items()]
    building = Building(tmp_path, compression)
    found: dict[str, bytes] = {}

    def read(root: Node, _image: VerifiedImage) -> bool:
        assert building.running is not None
        for name, below in root.directory.items():
            found[name.decode()] = building.running.content(below)
        return False

    building.finishing = read
    building.of([layer(*members, sparse_pax("sparse", 99_999, [(5, b"x" * 50_000), (90_000, b"y")]))])
    assert found.pop("sparse") == bytes(5) + b"x" * 50_000 + bytes(39_995) + b"y" + bytes(9998)
    assert found == wanted


@pytest.mark.parametrize("compression", [LZ4, ZSTD])
def test_forms(compression: Compression, tmp_path: Path) -> None:
    """What each kind of file becomes: the cheapest that holds it."""
    wanted = {
        "tiny": bytes(255),
        "packed-inline": bytes(100_000),
        "plain-inline": NOISE[:2048],
        "plain": NOISE[:3000],
        "plain-large": NOISE[:MIB],
        "packed": TEXT[:MIB],
        "mixed": _mixed(MIB, 128 * KIB),
    }
    made = checked(image_of(tmp_path, compression, *(file(name, data) for name, data in wanted.items())))
    tree = {path.decode(): entry for path, entry in made.tree().items() if path}
    layouts = {name: entry.layout for name, entry in tree.items()}
    assert layouts == {
        **dict.fromkeys(("tiny", "plain-inline"), 2),
        **dict.fromkeys(("plain", "plain-large"), 0),
        **dict.fromkeys(("packed-inline", "packed", "mixed"), 1),
    }
    assert [taken for name in ("tiny", "packed-inline", "plain-inline") for taken in made.taken[tree[name].nid]] == []
    assert [span.raw for span in spans_of(made, "mixed")][:40] == [False, *[True] * 32, False, *[True] * 6]
    assert {span.raw for span in spans_of(made, "packed")} == {False}


def spans_of(image: Image, name: str) -> list[Span]:
    """The extents of a compressed file."""
    found = image.tree()[name.encode()].compressed
    assert found is not None
    return found.spans


@pytest.mark.parametrize("compression", Compression)
def test_it_is_smaller_for_it(compression: Compression, tmp_path: Path) -> None:
    made = image_of(tmp_path, compression, file("text", TEXT), file("noise", NOISE))
    share = (len(made) - len(NOISE)) / len(TEXT)
    assert {NONE: 1.0, LZ4: 0.2, ZSTD: 0.1}[compression] >= share - 0.01


@pytest.mark.parametrize("compression", Compression)
def test_one_of_everything(compression: Compression, tmp_path: Path) -> None:
    reader = round_trip(tmp_path, compression, *RICH)
    # Sparse files are chunks, and only compressed images need what their readers may lack.
    assert reader.incompatible == (0x4 if compression is NONE else 0x17)
    assert reader.block == 4096, "Linux before 6.4 has no other"


@pytest.mark.parametrize("compression", Compression)
def test_times_at_the_epoch(compression: Compression, tmp_path: Path) -> None:
    round_trip(tmp_path, compression, *RICH, keep_times=False)


def test_nothing_at_all(tmp_path: Path) -> None:
    for compression in Compression:
        reader = round_trip(tmp_path, compression, ())
        assert (reader.inodes, reader.name) == (1, b"bootc-live")
        assert reader.data[1024 + 48 : 1024 + 64] == bytes(16), "the UUID is null"


@pytest.mark.parametrize("compression", [LZ4, ZSTD])
def test_attributes_shift_what_follows(compression: Compression, tmp_path: Path) -> None:
    """Indexes begin at a multiple of 8, inlined ends stay in their block, whatever stands in front of them."""
    members = []
    for length in (*range(0, 80, 3), *range(3900, 4100, 11), *range(1900, 2100, 37)):
        pax = [xattr("user.x", b"v" * length)] if length else []
        members += [
            file(f"packed-{length}", TEXT[: 20_000 + length], pax=pax),
            file(f"inline-{length}", NOISE[: 2048 - length % 64], pax=pax),
            file(f"small-{length}", bytes(5000 + length), pax=pax),
            symlink(f"link-{length}", "t" * (length % 4095 + 1), pax=pax),
            directory(f"dir-{length}/", pax=pax),
            file(f"dir-{length}/in", "x"),
        ]
    root = merged(tuple(members))
    found = checked(Building(tmp_path, compression, keep_times=True).of([layer(*members)])).tree()
    for path in paths(root):
        entry, got = node_at(root, path), found[path.rstrip("/").encode()]
        same_fields(entry, got, path)
        if entry.kind == "symlink":
            assert got.data == entry.link
    for length in (0, 3, 3900, 1900):
        assert found[b"packed-%d" % length].data == TEXT[: 20_000 + length]


@pytest.mark.parametrize("count", [1, 30, 31, 100, 143, 144, 145, 150, 151, 152, 300, 1500])
def test_directories_of_many_sizes(count: int, tmp_path: Path) -> None:
    for compression in (NONE, LZ4):
        reader = round_trip(tmp_path, compression, tuple(file(f"d/{number:05}") for number in range(count)))
        links = {entry.layout for path, entry in reader.tree().items() if stat.S_ISDIR(entry.mode)}
        assert links <= {0, 2}


def test_links_of_every_length(tmp_path: Path) -> None:
    lengths = [1, 31, 32, 33, 447, 448, 449, 511, 512, 513, 1024, *range(3990, 4096)]
    for compression in (NONE, LZ4):
        round_trip(tmp_path, compression, tuple(symlink(f"{length}", "t" * length) for length in lengths))


@pytest.mark.parametrize("compression", Compression)
def test_sparse_files(compression: Compression, tmp_path: Path) -> None:
    shapes: list[tuple[int, list[tuple[int, bytes]]]] = [
        (1, []),
        (4096, [(0, b"a" * 4096)]),
        (100_000, [(at * 8192, bytes([at + 1]) * 512) for at in range(12)]),
        (100_000, [(at * 8191, bytes([at + 1]) * 77) for at in range(12)]),
        (9_000_000, [(4_000_000, NOISE[:300_001])]),
        (300_000, [(0, NOISE[:1]), (299_999, b"z")]),
    ]
    for number, (size, parts) in enumerate(shapes):
        make = sparse_gnu if number % 2 else sparse_pax
        round_trip(
            tmp_path,
            compression,
            (file("before", "x" * 300), make("s", size, parts), hardlink("t", "s"), file("behind", TEXT[:9000])),
        )


def test_holes_take_no_room(tmp_path: Path) -> None:
    made = image_of(tmp_path, LZ4, sparse_pax("s", 2**36, [(4 * MIB, NOISE[:MIB])]))
    assert len(made) < 2 * MIB


@pytest.mark.parametrize("compression", Compression)
def test_two_bytes_of_a_giant(compression: Compression, tmp_path: Path) -> None:
    """A file of 60 GB is as small as what it holds."""
    size = 60 * 10**9
    made = image_of(tmp_path, compression, sparse_pax("s", size, [(0, b"a"), (size - 1, b"z")]), file("f", "x"))
    assert len(made) < 4 * MIB
    assert made.count(b"a" + bytes(4095)) == 1
    assert made.count(b"z" + bytes(511)) == 1


@pytest.mark.parametrize("compression", Compression)
def test_hidden_files_leave_zeros(compression: Compression, tmp_path: Path) -> None:
    """What an upper layer replaces or removes cannot be found in the image, and its memory is given back."""
    secret = random.Random(9).randbytes(20_000)
    layers = [
        layer(
            file("keys/a", secret),
            file("b", secret),
            file("stays", TEXT[:50_000]),
            sparse_pax("s", 99_999, [(5, secret)]),
        ),
        layer(file("keys/.wh.a"), file("b", "other"), file("s", "other")),
    ]
    made = Building(tmp_path, compression).of(layers)
    assert files_of(made) == {"b": b"other", "s": b"other", "stays": TEXT[:50_000]}
    assert secret[:64] not in made
    assert secret[10_000:10_064] not in made


@pytest.mark.parametrize("compression", Compression)
def test_same_bytes_again(compression: Compression, tmp_path: Path) -> None:
    layers = [layer(*parts) for parts in RICH]
    layers.append(layer(*(file(f"many/{number}", TEXT[number * 100 : number * 333]) for number in range(300))))
    first = Building(tmp_path, compression).of(layers)
    assert Building(tmp_path, compression).of(layers) == first


def test_times_are_all_that_keeping_them_changes(tmp_path: Path) -> None:
    layers = [layer(*parts) for parts in RICH]
    epoch = Building(tmp_path, LZ4).of(layers)
    kept = Building(tmp_path, LZ4, keep_times=True).of(layers)
    assert epoch != kept
    assert len(epoch) == len(kept)


def test_hard_links_across_layers(tmp_path: Path) -> None:
    reader = round_trip(
        tmp_path, LZ4, (file("a", TEXT[:99_999]),), (hardlink("b", "a"), hardlink("c/d", "b")), (file(".wh.a"),)
    )
    tree = reader.tree()
    assert tree[b"b"].nid == tree[b"c/d"].nid
    assert tree[b"b"].links == 2


LIARS: dict[str, tuple[bytes, ...]] = {
    "a little more": (file("a", TEXT[:5000], size=9000),),
    "much more": (file("a", NOISE[:200_000], size=2**33),),
    "more than any disk": (file("a", "x", size=2**62 - 1),),
    "more than any number": (file("a", "x", size=2**80),),
    "less than nothing": (file("a", "x", size=-5),),
    "sparse": (sparse_pax("a", 2**60, [(2**59, b"x")]), file("b", "x", size=2**50)),
}


@pytest.mark.parametrize("compression", [NONE, LZ4])
@pytest.mark.parametrize("case", LIARS)
def test_sizes_that_lie(case: str, compression: Compression, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"layer 0 .* cannot be used: "):
        image_of(tmp_path, compression, *LIARS[case])
    assert not (tmp_path / "root.erofs").exists()
    assert not (tmp_path / "layers").exists()


def test_what_no_file_system_holds(tmp_path: Path) -> None:
    with pytest.raises(RootfsError, match=r"cannot be made into a root: '/d' is the device 5000:0"):
        image_of(tmp_path, LZ4, node("d", "char", 5000, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["image.oci"]


BIG = 4 * MIB
AHEAD: dict[str, list[bytes]] = {
    "links alone": [symlink(f"l{number}", "t") for number in range(3000)],
    "empty files": [file(f"e{number}") for number in range(3000)],
    "sparse": [sparse_pax("s", 2 * BIG, [(BIG, bytes(BIG))])],
    "zeros behind the end": [file("a", "x"), bytes(1024), bytes(BIG)],
    "one file": [file("a", bytes(BIG))],
}


@pytest.fixture
def hurry() -> Iterator[None]:
    """Whoever waits for ever is told so."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("compression", [NONE, LZ4])
@pytest.mark.parametrize("case", AHEAD)
def test_the_writer_never_waits_for_ever(
    case: str, compression: Compression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a layer is full of, its reader comes by it."""
    monkeypatch.setattr("bootc_live.rootfs.tree.follower.AHEAD", 64 * KIB)
    found = checked(image_of(tmp_path, compression, *AHEAD[case])).tree()
    assert len(found) == 1 + sum(not part.startswith(b"\0") for part in AHEAD[case])
