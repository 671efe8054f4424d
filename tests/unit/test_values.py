"""Values of kernel arguments, valid and invalid."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bootc_live.config.cmdline.karg import Kind
from bootc_live.config.cmdline.values import BOOLEAN_WORDS, parse_choice, parse_size, parse_value
from bootc_live.config.model import Mirror

TRUE = ("1", "yes", "on", "true", "y")
FALSE = ("0", "no", "off", "false", "n")
KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
HASH, LONG_HASH = "0a" * 32, "f9" * 64

VALID: dict[Kind, dict[str | None, object]] = {
    Kind.BOOLEAN: {
        None: True,
        **{change(word): word in TRUE for word in TRUE + FALSE for change in (str, str.upper, str.title, str.swapcase)},
    },
    Kind.SIZE: {
        "1": 1,
        "4096": 4096,
        "512B": 512,
        "1K": KIB,
        "1k": KIB,
        "512M": 512 * MIB,
        "512m": 512 * MIB,
        "512MB": 512 * MIB,
        "512MiB": 512 * MIB,
        "8G": 8 * GIB,
        "8gib": 8 * GIB,
        "2T": 2 * TIB,
        "007M": 7 * MIB,
    },
    Kind.LEVEL: {"3": 3, "0": 0, "-7": -7, "22": 22},
    Kind.NUMBER: {"1": 1, "6": 6, "010": 10, "999": 999},
    Kind.SECONDS: {"30": 30, "30s": 30, "0.5": 0.5, "1.5m": 90, "5m": 300, "1h": 3600, "2H": 7200},
    Kind.TIME: {
        "2026-11-30": datetime(2026, 11, 30, tzinfo=UTC),
        "2026-11-30T18:00:05Z": datetime(2026, 11, 30, 18, 0, 5, tzinfo=UTC),
        "2026-11-30T18:00+02:00": datetime(2026, 11, 30, 16, 0, tzinfo=UTC),
    },
    Kind.MIRROR: {
        "m": Mirror("m"),
        "m.example:5000": Mirror("m.example:5000"),
        "m.example/": Mirror("m.example"),
        "m.example/team/os-images": Mirror("m.example/team/os-images"),
        "https://m.example/a": Mirror("m.example/a"),
        "http://10.0.0.1:80/a": Mirror("10.0.0.1:80/a", insecure=True),
        "HTTP://m": Mirror("m", insecure=True),
        "[fd00::1]:5000/a": Mirror("[fd00::1]:5000/a"),
    },
}
# Values that come back as they are written.
UNCHANGED = {
    Kind.TEXT: ["x y"],
    Kind.PATH: ["/etc/bootc-live/a b.pub"],
    Kind.DIGEST: [f"sha256:{HASH}", f"sha512:{LONG_HASH}"],
    Kind.SHA256: [f"sha256:{HASH}"],
    Kind.BLOCK_DEVICE: ["LABEL=my state", "UUID=1-2", "PARTLABEL=x", "PARTUUID=0", "/dev/disk/by-label/x"],
    Kind.MPOL: ["default", "local", "interleave", "interleave:0-3", "bind:0,2", "prefer=static:1", "bind=relative:all"],
}
INVALID: dict[Kind, tuple[str, list[str | None]]] = {
    Kind.BOOLEAN: (
        f"is not a boolean; use one of {BOOLEAN_WORDS}",
        ["", " ", "2", "-1", "00", "01", "yess", "tru", "t", "f", "enabled", "1 ", " 1", "ｙ"],
    ),
    Kind.SIZE: (
        "is not a size; write a number with K, M, G or T, such as 8G, or a percentage of RAM, such as 50%",
        [
            *(None, "", "0", "0G", "G", "-1G", "+1G", "1.5G", "1 G", "8GG", "%", "0%", "50%%", "-5%", "0x10", "1P"),
            *("٣", str(2**63), "8388608T", "9" * 5000, f"{'9' * 5000}%"),
        ],
    ),
    Kind.LEVEL: (
        "is not a level; write a whole number such as 3",
        [None, "", "-", "+1", "1.5", "1000", "high", "٣"],
    ),
    Kind.NUMBER: (
        "is not a whole number from 1 to 999",
        [None, "", "0", "000", "-1", "+1", "1.0", "1e2", "1000", " 1", "1\n", "٣", "x"],
    ),
    Kind.PATH: ("is not an absolute path", [None, "", "a", "./a", "/"]),
    Kind.TIME: (
        "is not a date or time; write 2026-11-30 or 2026-11-30T18:00:00Z",
        [
            *(None, "", "2026", "2026-13-01", "2026-02-30", "2026-1-1", "20261130", "2026-11-30 18:00", "٢٠٢٦-11-30"),
            "now",
        ],
    ),
    Kind.SECONDS: (
        "is not a duration; write a number with s, m or h, such as 30s",
        [
            *(None, "", "0", "0s", "0.0h", "-1", "1d", "s", "1 m", "1.", ".5", "nan", "inf", "1m30s"),
            *("9999999999", "٣s"),
        ],
    ),
    Kind.TEXT: ("needs a value", [None, ""]),
    Kind.DIGEST: (
        "is not a digest; write sha256: and 64 lower-case hexadecimal digits, or sha512: and 128 of them",
        [
            *(None, "", HASH, "sha256:", f"sha256:{HASH.upper()}", f"SHA256:{HASH}", f"sha256:{HASH[2:]}"),
            *(f"sha256:{HASH * 2}", f"sha512:{HASH}", f"sha1:{'0' * 40}", f"sha256:{HASH}\n", f"sha256:{'0g' * 32}"),
        ],
    ),
    Kind.SHA256: (
        "is not a SHA-256 digest; write sha256: and 64 lower-case hexadecimal digits",
        [None, "", HASH, f"sha256:{HASH[1:]}", f"sha256:{HASH.upper()}", f"sha512:{LONG_HASH}"],
    ),
    Kind.BLOCK_DEVICE: (
        "is not a block device; write LABEL=, UUID=, PARTLABEL=, PARTUUID= or /dev/NAME",
        [None, "", "LABEL=", "label=x", "sda1", "/dev/", "/var", "ID=x"],
    ),
    Kind.MPOL: (
        "is not a memory policy; write default, local, interleave, prefer, bind or interleave with nodes (bind:0-3)",
        [None, "", "bind", "local:1", "bind:", "bind:a", "bind:1,size=1", "Interleave", "x"],
    ),
    Kind.MIRROR: (
        "is not a mirror; write [http://]HOST[:PORT][/PATH]",
        [
            *(None, "", "/", "http://", "ftp://m", "m:port", "m/A", "m//a", "m/a:tag", "m/a?b", "m a", "-m"),
            *("m/../a", "m:1:2"),
        ],
    ),
}


@pytest.mark.parametrize("kind", [*VALID, *UNCHANGED])
def test_valid(kind: Kind) -> None:
    cases = VALID.get(kind) or {text: text for text in UNCHANGED[kind]}
    assert {text: parse_value(kind, text) for text in cases} == cases


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, (_, texts) in INVALID.items() for text in texts])
def test_invalid(kind: Kind, text: str | None) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_value(kind, text)
    assert str(caught.value) == INVALID[kind][0]


def test_the_words_in_messages_are_the_words() -> None:
    first, _, second = BOOLEAN_WORDS.partition(" / ")
    assert first.split() == list(TRUE)
    assert second.split() == list(FALSE)


@pytest.mark.parametrize(("text", "size"), [("50%", 4 * GIB), ("1%", 85899345), ("200%", 16 * GIB)])
def test_percentages_of_memory(text: str, size: int) -> None:
    assert parse_size(text, lambda: 8 * GIB) == size


def test_a_percentage_of_an_unknown_size() -> None:
    with pytest.raises(ValueError, match="cannot be read; write a number of bytes"):
        parse_size("50%", lambda: 0)


@pytest.mark.parametrize(("text", "word"), [("a", "a"), ("A", "a"), ("b.c", "b.c"), ("B_c", "b.c")])
def test_choices(text: str, word: str) -> None:
    assert parse_choice(text, ("a", "b.c")) == word


@pytest.mark.parametrize("text", [None, "", "c", "a ", "bxc"])
def test_no_choice(text: str | None) -> None:
    with pytest.raises(ValueError, match=r"is not one of a, b\.c"):
        parse_choice(text, ("a", "b.c"))


@pytest.mark.parametrize("text", ["u:p@m.example", "http://u@m.example/a"])
def test_a_mirror_contains_no_login(text: str) -> None:
    with pytest.raises(ValueError, match=r"must not contain a user or password.*auth.json"):
        parse_value(Kind.MIRROR, text)
