"""Digests of fs-verity: those that the program `fsverity digest` (1.5) gives, in whatever pieces the bytes come."""

from __future__ import annotations

import random

import pytest

from bootc_live.formats.fsverity import VerityHasher, metacopy, verity_digest

PER_LEVEL = 128 * 4096

# Sizes, and the digests of files of `numbered`.
NUMBERED = (
    (0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95"),
    (1, "023fb36b9241a02beebfad4a1d7338aa229d46bdab668a5a9b7f14a1bdd875e1"),
    (65, "4cd97b2b147c62436ae61666b93091198c07dd339b17959a1faf7347f6afd79e"),
    (4095, "72dda971e2142730088f81b04770673806edf867154862c13cac5e2c1ba2b070"),
    (4096, "9eea07c7d2903bc903ded70e954af6273950cb5bd98eb5ce968c5471b1f8f8fa"),
    (4097, "1bedb4d643278fe719ae4fcac5e62c3f107b43b6be0d84e55b2184c0f8799296"),
    (8192, "a8c977b93b1f65b1ae7f2b5a2da3a7a7437067ade56e430bf9a02ff0beecd56e"),
    (PER_LEVEL - 1, "a57a63e26a639cae55619d2d47ed1fda4912bb5232d7b312f779afa9826e2a52"),
    (PER_LEVEL, "68df66671d3dda554568b2d476acdcd4cdb13ae29a1223b874f07a3e85280aed"),
    (PER_LEVEL + 1, "f98c7ca47d6a3c9ebfa9b6a3057d5056c484178ade9e0339e26908205edf67ff"),
    (PER_LEVEL + 4096, "b9bf88b4b7ea21170af16dfc805620377a143b8380dd42630e1f818aa2d5898e"),
)
# Sizes, and the digests of files of zeros.
NULL = (
    (1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551"),
    (4096, "babc284ee4ffe7f449377fbf6692715b43aec7bc39c094a95878904d34bac97e"),
    (PER_LEVEL, "2d15bd7832895de85aa3d5bdfb57251e27bbec75ff467408340ab3eba858a2e1"),
    (129 * 4096 + 1, "575dd025c8200eb05960cd82d17a542e3d7825dfee40d83dab6e8d311aaf9f2e"),
    (129 * PER_LEVEL, "73621d31cdefb3928c5d36745c6b6626bcd9b8a6bf1c5e103e2311064bc5c875"),
    (128 * PER_LEVEL + 3, "ace2bd57e0ad0bb826b3e2d3de27e04f79136cbe5f9ce05cebde0fdb95c3d60c"),
)


def numbered(size: int) -> bytes:
    """Lines of 16 bytes with their numbers."""
    return b"".join(b"%015d\n" % number for number in range(-(-size // 16)))[:size]


@pytest.mark.parametrize(("size", "digest"), NUMBERED)
def test_numbered(size: int, digest: str) -> None:
    assert verity_digest(numbered(size)) == digest


@pytest.mark.parametrize(("size", "digest"), NULL)
def test_null(size: int, digest: str) -> None:
    assert verity_digest(bytes(size)) == digest
    hasher = VerityHasher()
    hasher.skip(size)
    assert (hasher.size, hasher.digest()) == (size, digest)


def test_terabytes_of_zeros_take_no_time() -> None:
    """A limit that hashing them would exceed by far is that of a test."""
    hasher = VerityHasher()
    hasher.update(b"x" * 4097)
    hasher.skip(2**50)
    assert (hasher.size, len(hasher.digest())) == (2**50 + 4097, 64)


LENGTHS = (0, 1, 4095, 4096, 4097, 10_000, 100 * 4096, PER_LEVEL, PER_LEVEL + 1, 2 * PER_LEVEL + 4096)


@pytest.mark.parametrize("seed", range(40))
def test_pieces(seed: int) -> None:
    chosen = random.Random(seed)
    hasher, whole = VerityHasher(), bytearray()
    for _ in range(chosen.randrange(6)):
        length = chosen.choice(LENGTHS)
        if chosen.random() < 0.5:
            hasher.skip(length)
            whole += bytes(length)
        else:
            piece = chosen.randbytes(length)
            hasher.update(memoryview(piece))
            whole += piece
    assert hasher.digest() == verity_digest(whole)


def test_metacopy() -> None:
    """As struct ovl_metacopy: the length counts the digest, and nothing pads it."""
    digest = verity_digest(b"data")
    assert metacopy(digest) == bytes([0, 36, 0, 1]) + bytes.fromhex(digest)
