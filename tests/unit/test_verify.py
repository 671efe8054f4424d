"""Sizes and digests are checked while bytes stream by, however the stream is cut into chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.verify import check_content, digest_of, verified

DATA = bytes(range(256)) * 20


def descriptor(data: bytes = DATA, algorithm: str = "sha256", size: int | None = None) -> Descriptor:
    digest = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    return Descriptor("", digest, len(data) if size is None else size)


def cut(data: bytes, step: int) -> Iterator[bytes]:
    return (data[at : at + step] for at in range(0, len(data), step))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("step", [1, 7, 512, 10_000])
def test_passes_on_what_is_right(algorithm: str, step: int) -> None:
    assert b"".join(verified(cut(DATA, step), descriptor(algorithm=algorithm))) == DATA


def test_empty() -> None:
    assert list(verified(iter(()), descriptor(b""))) == []
    assert list(verified(iter([b"", b""]), descriptor(b""))) == [b"", b""]


@pytest.mark.parametrize("step", [1, 512, 10_000])
def test_too_short(step: int) -> None:
    with pytest.raises(ImageError, match=rf"^it has {len(DATA)} bytes, its manifest gives {len(DATA) + 1}$"):
        list(verified(cut(DATA, step), descriptor(size=len(DATA) + 1)))


@pytest.mark.parametrize("step", [1, 512, 10_000])
def test_too_long(step: int) -> None:
    with pytest.raises(ImageError, match=rf"^it is longer than the {len(DATA) - 1} bytes its manifest gives$"):
        list(verified(cut(DATA, step), descriptor(size=len(DATA) - 1)))


def test_too_long_is_told_at_the_first_byte_too_many() -> None:
    """An endless answer ends there, and none of that chunk is passed on."""

    def endless() -> Iterator[bytes]:
        while True:
            yield DATA

    seen: list[bytes] = []
    with pytest.raises(ImageError, match="longer than"):
        seen.extend(verified(endless(), descriptor(DATA * 3)))
    assert seen == [DATA] * 3


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_one_wrong_bit(algorithm: str) -> None:
    wrong = bytes([DATA[0] ^ 1]) + DATA[1:]
    right = descriptor(algorithm=algorithm)
    with pytest.raises(ImageError) as caught:
        list(verified(cut(wrong, 512), right))
    found = descriptor(wrong, algorithm).digest
    assert caught.value.message == f"it has the digest {found}, it must be {right.digest}"
    assert "push it again" in caught.value.hint


def test_nothing_is_checked_before_the_end() -> None:
    """Whoever stops early must not believe what came: there was no verdict yet."""
    stream = verified(cut(DATA, 512), descriptor(b"other" * 1000, size=len(DATA)))
    assert next(stream) == DATA[:512]
    with pytest.raises(ImageError, match="has the digest"):
        list(stream)


def test_whole_content() -> None:
    for size in (None, len(DATA)):
        check_content(DATA, descriptor().digest, size)
        check_content(DATA, descriptor(algorithm="sha512").digest, size)
        with pytest.raises(ImageError, match=r"^it has the digest .* it must be sha256:0"):
            check_content(DATA, "sha256:" + "0" * 64, size)
    with pytest.raises(ImageError, match=f"^it has {len(DATA)} bytes, it must have 7$"):
        check_content(DATA, descriptor().digest, 7)


def test_digest_of() -> None:
    assert digest_of(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert digest_of(DATA, "sha512") == f"sha512:{hashlib.sha512(DATA).hexdigest()}"
