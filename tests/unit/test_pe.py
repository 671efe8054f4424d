"""Sections of PE files are found by name; of a UKI with profiles, those that its stub would take by itself."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.formats.pe import is_signed, is_uki, sections
from tests.unit.pe_files import pe_file

UKI = [
    (".text", b"stub"),
    (".osrel", b"ID=x\n"),
    (".cmdline", b"quiet"),
    (".initrd", b"i" * 700),
    (".linux", b"k" * 999),
]


def found(data: bytes) -> dict[str, bytes]:
    """The sections with what is in them."""
    table = sections(lambda offset, length: data[offset : offset + length], len(data))
    return {name: data[offset : offset + size] for name, (offset, size) in table.items()}


def test_sections_have_their_true_sizes() -> None:
    """Not the padded ones: a kernel would take zeros behind an initrd for what they are, but a command line not."""
    assert found(pe_file(UKI)) == dict(UKI)


def test_less_in_the_file_than_in_memory() -> None:
    """The rest of .bss and its like is zeros that the file does not have."""
    data = bytearray(pe_file([(".data", b"d" * 100)]))
    at = data.index(b".data")
    data[at + 8 : at + 12] = (10**6).to_bytes(4, "little")
    assert found(bytes(data)) == {".data": (b"d" * 100).ljust(512, b"\0")}


def test_a_section_without_data() -> None:
    assert found(pe_file([(".bss", b""), (".text", b"x")])) == {".bss": b"", ".text": b"x"}


def test_names_of_eight_letters() -> None:
    assert found(pe_file([(".pcrpkey", b"key")])) == {".pcrpkey": b"key"}


def test_only_a_uki_has_a_kernel() -> None:
    assert is_uki({".linux": (512, 9), ".text": (0, 1)})
    assert not is_uki({".text": (0, 1), ".cmdline": (5, 5)})


def test_the_default_profile_counts() -> None:
    profiles = [
        (".profile", b"ID=regular"),
        (".cmdline", b"regular"),
        (".profile", b"ID=reset"),
        (".cmdline", b"reset"),
        (".initrd", b"reset"),
    ]
    assert found(pe_file([*UKI, *profiles])) == {**dict(UKI), ".profile": b"ID=regular", ".cmdline": b"regular"}


def test_the_first_device_tree_counts() -> None:
    assert found(pe_file([(".dtb", b"one"), (".dtb", b"two")])) == {".dtb": b"one"}


def test_real_kernels_are_pe_files() -> None:
    """x86-64 with an EFI stub, as far as sections are concerned."""
    names = [".setup", ".compat", ".text", ".data"]
    assert list(found(pe_file([(name, b"x") for name in names]))) == names


def damaged(at: int, number: int, size: int) -> bytes:
    """A UKI with another number somewhere."""
    data = pe_file(UKI)
    return data[:at] + number.to_bytes(size, "little") + data[at + size :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "has no MZ header"),
        (b"MZ", "has no MZ header"),
        (b"\x7fELF" + bytes(100), "has no MZ header"),
        (damaged(0x3C, 2**31, 4), "its header is missing"),
        (damaged(0x3C, 0, 4), "its header is damaged"),
        (damaged(0x46, 0, 2), "its header is damaged"),
        (damaged(0x46, 97, 2), "its header is damaged"),
        (pe_file(UKI)[:400], "its table of sections is cut short"),
        (pe_file(UKI)[:-600], "its section '.linux' ends after the end of the file"),
    ],
)
def test_damage_is_told(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        found(data)


@pytest.mark.parametrize(
    ("magic", "place", "count", "size", "expected"),
    [
        (0x20B, 144, 16, 1000, True),
        (0x10B, 128, 16, 1000, True),
        (0x20B, 144, 16, 0, False),
        (0x20B, 144, 4, 1000, False),
        (0x10B, 144, 16, 1000, False),
        (0, 144, 16, 1000, False),
    ],
)
def test_table_of_certificates(magic: int, place: int, count: int, size: int, expected: bool) -> None:  # a row
    data = bytearray(pe_file(UKI))
    optional = data.index(b"PE\0\0") + 24
    data[optional : optional + 2] = magic.to_bytes(2, "little")
    for at, value in ((place - 36, count), (place, 4096), (place + 4, size)):
        data[optional + at : optional + at + 4] = value.to_bytes(4, "little")
    assert is_signed(lambda offset, length: bytes(data[offset : offset + length])) == expected


@pytest.mark.parametrize("data", [b"", b"MZ", b"MZ".ljust(64, b"\xff"), bytes(500), b"kernel" * 100])
def test_what_is_no_program_is_not_signed(data: bytes) -> None:
    assert not is_signed(lambda offset, length: data[offset : offset + length])
