"""Which image of an index runs on which machine."""

from __future__ import annotations

import os

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.image.platform import check, choose, machine_platform
from bootc_live.source.descriptor import Descriptor, Platform


def index(*names: str) -> list[Descriptor]:
    """Entries for platforms such as `linux/arm/v7`; an empty name has no platform. The size numbers them."""
    platforms = [Platform(*name.split("/")) if name else None for name in names]
    return [Descriptor("", "sha256:" + "0" * 64, size, platform) for size, platform in enumerate(platforms)]


MANY = index("linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "linux/386", "windows/amd64")


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64/v8"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("i686", "linux/386"),
        ("riscv64", "linux/riscv64"),
        ("ppc64le", "linux/ppc64le"),
        ("s390x", "linux/s390x"),
        ("loongarch64", "linux/loong64"),
        ("e2k", "linux/e2k"),
    ],
)
def test_machine(machine: str, name: str) -> None:
    assert str(machine_platform(machine)) == name


def test_this_machine() -> None:
    assert machine_platform() == machine_platform(os.uname().machine)


@pytest.mark.parametrize(
    ("machine", "chosen"), [("x86_64", 0), ("aarch64", 1), ("armv6l", 2), ("armv7l", 3), ("i686", 4)]
)
def test_choice(machine: str, chosen: int) -> None:
    assert choose(MANY, machine_platform(machine), "typed").size == chosen


@pytest.mark.parametrize(
    ("names", "machine", "chosen"),
    [
        (("linux/arm64",), "aarch64", 0),
        (("linux/amd64", "linux/arm64"), "aarch64", 1),
        (("linux/amd64/v3", "linux/amd64"), "x86_64", 1),
        (("linux/amd64/v2",), "x86_64", 0),
        (("linux/arm/v5", "linux/arm/v7"), "armv7l", 1),
        (("linux/arm/v5",), "armv7l", 0),
        (("windows/amd64", "linux/amd64"), "x86_64", 1),
        (("/amd64",), "x86_64", 0),
        (("linux/",), "x86_64", 0),
        (("",), "x86_64", 0),
        (("", "linux/amd64"), "x86_64", 1),
        (("linux/s390x", ""), "x86_64", 1),
        (("linux/amd64", "linux/amd64"), "x86_64", 0),
    ],
)
def test_variants(names: tuple[str, ...], machine: str, chosen: int) -> None:
    assert choose(index(*names), machine_platform(machine), "typed").size == chosen


@pytest.mark.parametrize(
    ("names", "have"),
    [
        (("linux/arm64/v8", "linux/386", "windows/amd64"), "linux/386, linux/arm64/v8, windows/amd64"),
        (("unknown/unknown",), "unknown/unknown"),
        ((), "nothing"),
    ],
)
def test_foreign_platforms_list_what_there_is(names: tuple[str, ...], have: str) -> None:
    with pytest.raises(ImageError) as caught:
        choose(index(*names), machine_platform("x86_64"), "typed")
    assert caught.value.message == f"'typed' is not made for linux/amd64; its index has: {have}"
    assert caught.value.hint


def test_attestations_are_not_images() -> None:
    """Buildx puts manifests for unknown/unknown beside the real ones."""
    assert (
        choose(index("unknown/unknown", "linux/amd64", "unknown/unknown"), machine_platform("x86_64"), "typed").size
        == 1
    )


@pytest.mark.parametrize("found", ["linux/amd64", "linux/amd64/v3", "linux/", "/amd64", "/"])
def test_config_for_this_machine(found: str) -> None:
    check(Platform(*found.split("/")), machine_platform("x86_64"), "typed")


@pytest.mark.parametrize("found", ["linux/arm64", "windows/amd64", "linux/386"])
def test_config_for_another_machine(found: str) -> None:
    with pytest.raises(ImageError, match=f"'typed' is made for {found}, this machine is linux/amd64"):
        check(Platform(*found.split("/")), machine_platform("x86_64"), "typed")
