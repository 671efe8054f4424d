"""Layers at random, with what an image's author could try: names and targets of every length, attributes, maps."""

from __future__ import annotations

import random
from typing import Final

from tests.lib.tar_writer import directory, file, hardlink, node, sparse_gnu, sparse_pax, symlink, xattr

_LENGTHS: Final = (1, 2, 100, 243, 244, 254, 255, 256, 257, 300, 499, 500, 511, 512, 600, 2040, 4084, 4094, 4095, 4096)
_LETTERS: Final = b"abcXYZ .-_~!\xff\x01\n\xc3\xa9"
_ODD: Final = (b".", b"..", b"a\0b", b"", b"/", b"a/../b", b"\\", b"....", b" ", b"\x7f", b".wh", b"a//b")
_SPACES: Final = ("user.", "trusted.", "security.", "system.posix_acl_access", "weird.", "")
_SIZES: Final = (0, 1, 3, 4, 11, 12, 60, 255, 256, 447, 448, 500, 511, 512, 1000, 4000, 20_000, 65_535, 65_536)


class Hostile:
    """Members of one image; the same seed gives the same. `wild` is the share of what nobody should accept."""

    def __init__(self, seed: int, wild: float) -> None:
        self._random = random.Random(seed)
        self._wild = wild
        self._names: list[bytes] = [b"d"]
        self._links: list[bytes] = []

    def layers(self) -> list[tuple[bytes, ...]]:
        """Some layers of some members each."""
        return [
            tuple(self._member() for _ in range(self._random.randint(1, 40))) for _ in range(self._random.randint(1, 3))
        ]

    def _component(self, *, of_target: bool = False) -> bytes:
        if self._random.random() < self._wild:
            if self._random.random() < 0.5:
                return self._random.choice(_ODD)
            length = self._random.choice(_LENGTHS)
        else:
            length = self._random.choice((1, 2, 3, 40, 200, 255)) if not of_target else self._random.randint(1, 9)
        part = bytes(self._random.choice(_LETTERS) for _ in range(min(length, 8)))
        part = (part * (length // len(part) + 1))[:length]
        return b"x" + part[1:] if part in (b".", b"..") or part.startswith(b".wh.") else part

    def _name(self) -> bytes:
        where = self._random.choice(self._names + self._links) + b"/" if self._random.random() < 0.7 else b""
        return where + self._component()

    def _target(self) -> bytes:
        if self._random.random() < 0.4:
            return self._random.choice(self._names)
        lead = self._random.choice((b"", b"/", b"../", b"./"))
        return lead + b"/".join(self._component(of_target=True) for _ in range(self._random.randint(1, 3)))

    def _attributes(self) -> list[tuple[str, bytes | str]]:
        found: list[tuple[str, bytes | str]] = []
        while self._random.random() < 0.3:
            name = self._random.choice(_SPACES[:3])
            length = self._random.choice((1, 10, 200, 240))
            size = self._random.choice(_SIZES[:-2])
            if self._random.random() < self._wild:
                name = self._random.choice(_SPACES)
                length, size = self._random.choice(_LENGTHS), self._random.choice(_SIZES)
            found.append(xattr(name + "n" * length, b"v" * size))
        return found

    def _map(self) -> tuple[int, list[tuple[int, bytes]]]:
        unit = self._random.choice((1, 7, 512, 600))
        cuts = sorted(self._random.sample(range(200), 2 * self._random.randint(0, 5)))
        parts = [
            (start * unit, bytes([at + 1]) * ((end - start) * unit))
            for at, (start, end) in enumerate(zip(cuts[::2], cuts[1::2], strict=True))
        ]
        return 200 * unit + self._random.choice((0, 1, 10_000)), parts

    def _member(self) -> bytes:
        name, pax, pick = self._name(), self._attributes(), self._random.randrange(8)
        if pick == 0:
            made = directory(name, pax=[("path", name), *pax], mode=self._random.randrange(0o10000))
        elif pick == 1:
            made = symlink(name, b"", pax=[("path", name), ("linkpath", self._target()), *pax])
        elif pick == 2:
            made = hardlink(name, self._random.choice(self._names))
        elif pick == 3:
            made = node(name, "char", self._random.randrange(4098), self._random.randrange(2**20), pax=pax)
        elif pick == 4:
            made = self._sparse()
        elif pick == 5:
            made = file(self._random.choice(self._names) + b"/.wh..wh..opq")
        else:
            made = file(name, bytes([len(self._names) % 256]) * self._random.choice(_SIZES), pax=pax)
        if pick == 1:
            self._links.append(name)
        elif pick != 5 and b"\0" not in name:
            self._names.append(name)
        return made

    def _sparse(self) -> bytes:
        size, parts = self._map()
        name = f"s{self._random.randrange(99)}"
        self._names.append(name.encode())
        return self._random.choice((sparse_gnu, sparse_pax))(name, size, parts)
