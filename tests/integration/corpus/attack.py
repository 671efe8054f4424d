"""What one hostile image is, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.lib.oci_writer import Image, Layer
from tests.lib.tar_writer import directory, layer


class Outcome(StrEnum):
    """REFUSED ends in one clear error; USED gives the tree umoci gives; EITHER of both is fine."""

    REFUSED = "refused"
    USED = "used"
    EITHER = "either"


@dataclass(frozen=True)
class Attack:
    """One hostile image. `image` is told the absolute path of the directory it tries to reach.

    `means` is an image that umoci can unpack to the right tree where it cannot unpack this one.
    """

    name: str
    image: Callable[[str], Image]
    outcome: Outcome = Outcome.REFUSED
    means: Image | None = None


def tars(*layers: tuple[bytes, ...]) -> Image:
    """An image of layers given as members; each gets an entry for its root."""
    return Image([Layer(layer(directory("./"), *members)) for members in layers])


def escape(name: str, *layers: Callable[[str], tuple[bytes, ...]], outcome: Outcome = Outcome.REFUSED) -> Attack:
    """An attack by names: each layer is made from the path it tries to reach."""
    return Attack(name, lambda outside: tars(*(make(outside) for make in layers)), outcome)


def lie(name: str, *members: bytes, outcome: Outcome = Outcome.REFUSED) -> Attack:
    """An attack by headers: one layer of these members."""
    return Attack(name, lambda _: tars(members), outcome)
