"""Kernel arguments of an image are read as bootc reads them."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.config.next_kernel.kargs_d import image_arguments


def toml(text: str, machine: str = "x86_64") -> tuple[str, ...]:
    """The arguments in one file."""
    return image_arguments({"usr/lib/bootc/kargs.d/10-x.toml": text.encode()}, machine)


def test_files_count_in_the_order_of_their_names() -> None:
    files = {"20-b.toml": b'kargs = ["c"]', "10-a.toml": b'kargs = ["b=1", "a"]', "3-z.toml": b'kargs = ["d"]'}
    assert image_arguments(files, "x86_64") == ("b=1", "a", "c", "d")
    assert image_arguments({}, "x86_64") == ()


def test_only_toml_files_count() -> None:
    garbage = dict.fromkeys(("README", "10-a.toml.orig", "toml", ".toml", "10-a.TOML"), b"garbage")
    assert image_arguments({**garbage, "a/b/.x.toml": b'kargs = ["x"]'}, "x86_64") == ("x",)


@pytest.mark.parametrize(
    ("matching", "machine", "counts"),
    [
        ('["x86_64"]', "x86_64", True),
        ('["x86_64"]', "aarch64", False),
        ('["aarch64", "x86_64"]', "aarch64", True),
        ("[]", "x86_64", False),
        ('["X86_64"]', "x86_64", False),
        ('["amd64"]', "x86_64", False),
        ('["powerpc64"]', "ppc64le", True),
        ('["x86"]', "i686", True),
        ('["arm"]', "armv7l", True),
        ('["riscv64", "s390x", "loongarch64"]', "s390x", True),
    ],
)
def test_architectures_have_the_names_of_rust(matching: str, machine: str, counts: bool) -> None:
    assert toml(f'kargs = ["a"]\nmatch-architectures = {matching}', machine) == (("a",) if counts else ())


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('["console=tty0", "nosmt"]', ("console=tty0", "nosmt")),
        ('["console=tty0 nosmt"]', ("console=tty0", "nosmt")),
        ("""['dyndbg="file x +p"', "a"]""", ('dyndbg="file x +p"', "a")),
        ("""['dyndbg="file', 'x"', "a"]""", ('dyndbg="file x"', "a")),
        ('["a", "a", "a=1"]', ("a", "a", "a=1")),
        ("[]", ()),
        ('["", " "]', ()),
        # It is refused later, by name.
        ('["a -- b", "c"]', ("a", "-- b c")),
    ],
)
def test_strings_are_joined_and_split(written: str, arguments: tuple[str, ...]) -> None:
    assert toml(f"kargs = {written}") == arguments


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "'kargs' is not a list of strings"),
        (b'match-architectures = ["x86_64"]', "'kargs' is not a list of strings"),
        (b'kargs = "quiet"', "'kargs' is not a list of strings"),
        (b"kargs = [1]", "'kargs' is not a list of strings"),
        (b'kargs = []\nmatch-architectures = "x86_64"', "'match-architectures' is not a list of strings"),
        (b'kargs = []\nmatch_architectures = ["x86_64"]', "the key 'match_architectures' is unknown"),
        (b"kargs = []\ndelete = []", "the key 'delete' is unknown"),
        (b'kargs = ["a"]\nfoo=bar', "Invalid value"),
        (b'kargs = ["\xff"]', "can't decode byte"),
        (b"kargs = " + b"[" * 5000, "recursion"),
    ],
)
def test_mistakes_name_the_file(content: bytes, reason: str) -> None:
    """Files of other architectures are checked, too."""
    with pytest.raises(ImageError, match=reason) as caught:
        image_arguments({"usr/lib/bootc/kargs.d/a.toml": b'kargs = ["a"]', "etc/b.toml": content}, "x86_64")
    assert caught.value.message.startswith("cannot read the kernel arguments in 'etc/b.toml' of the image: ")
