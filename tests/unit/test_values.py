"""Values of arguments: every boolean word in any case, sizes, texts."""

from __future__ import annotations

import pytest

from bootc_live.config.cmdline.values import (
    BOOLEAN_WORDS,
    parse_boolean,
    parse_choice,
    parse_device,
    parse_digest,
    parse_level,
    parse_mirror,
    parse_mpol,
    parse_number,
    parse_seconds,
    parse_sha256,
    parse_size,
    parse_text,
)
from bootc_live.config.model import Mirror

TRUE = ("1", "yes", "on", "true", "y")
FALSE = ("0", "no", "off", "false", "n")
KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40


@pytest.mark.parametrize("change", [str, str.upper, str.title, str.swapcase])
@pytest.mark.parametrize("word", [*TRUE, *FALSE])
def test_boolean_words(word: str, change: type[str]) -> None:
    assert parse_boolean(change(word)) is (word in TRUE)


def test_boolean_without_value_is_true() -> None:
    assert parse_boolean(None) is True


@pytest.mark.parametrize("text", ["", " ", "2", "-1", "00", "01", "yess", "tru", "t", "f", "enabled", "1 ", " 1", "ｙ"])
def test_not_a_boolean(text: str) -> None:
    with pytest.raises(ValueError, match="not a boolean") as caught:
        parse_boolean(text)
    assert BOOLEAN_WORDS in str(caught.value)


def test_the_words_in_messages_are_the_words() -> None:
    first, _, second = BOOLEAN_WORDS.partition(" / ")
    assert first.split() == list(TRUE)
    assert second.split() == list(FALSE)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        ("512B", 512),
        ("1K", KIB),
        ("1k", KIB),
        ("512M", 512 * MIB),
        ("512m", 512 * MIB),
        ("512MB", 512 * MIB),
        ("512MiB", 512 * MIB),
        ("8G", 8 * GIB),
        ("8gib", 8 * GIB),
        ("2T", 2 * TIB),
        ("007M", 7 * MIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0",
        "0G",
        "G",
        "-1G",
        "+1G",
        "1.5G",
        "1 G",
        "8GG",
        "%",
        "0%",
        "50%%",
        "-5%",
        "0x10",
        "1P",
        "٣",
        str(2**63),
        "8388608T",
        "9" * 5000,
        f"{'9' * 5000}%",
    ],
)
def test_not_a_size(text: str | None) -> None:
    with pytest.raises(ValueError, match="such as 8G"):
        parse_size(text)


@pytest.mark.parametrize(("text", "size"), [("50%", 4 * GIB), ("1%", 85899345), ("200%", 16 * GIB)])
def test_shares_of_memory(text: str, size: int) -> None:
    assert parse_size(text, lambda: 8 * GIB) == size


def test_a_share_of_what_is_not_known() -> None:
    with pytest.raises(ValueError, match="cannot be read; write a number of bytes"):
        parse_size("50%", lambda: 0)


@pytest.mark.parametrize(("text", "word"), [("a", "a"), ("A", "a"), ("b.c", "b.c"), ("B_c", "b.c")])
def test_choices(text: str, word: str) -> None:
    assert parse_choice(text, ("a", "b.c")) == word


@pytest.mark.parametrize("text", [None, "", "c", "a ", "bxc"])
def test_no_choice(text: str | None) -> None:
    with pytest.raises(ValueError, match=r"is none of a, b\.c"):
        parse_choice(text, ("a", "b.c"))


@pytest.mark.parametrize(("text", "level"), [("3", 3), ("0", 0), ("-7", -7), ("22", 22)])
def test_levels(text: str, level: int) -> None:
    assert parse_level(text) == level


@pytest.mark.parametrize("text", [None, "", "-", "+1", "1.5", "1000", "high", "٣"])
def test_no_level(text: str | None) -> None:
    with pytest.raises(ValueError, match="is not a level"):
        parse_level(text)


@pytest.mark.parametrize("text", ["LABEL=my state", "UUID=1-2", "PARTLABEL=x", "PARTUUID=0", "/dev/disk/by-label/x"])
def test_devices(text: str) -> None:
    assert parse_device(text) == text


@pytest.mark.parametrize("text", [None, "", "LABEL=", "label=x", "sda1", "/dev/", "/var", "ID=x"])
def test_no_device(text: str | None) -> None:
    with pytest.raises(ValueError, match="names no block device"):
        parse_device(text)


@pytest.mark.parametrize(
    "text", ["default", "local", "interleave", "interleave:0-3", "bind:0,2", "prefer=static:1", "bind=relative:all"]
)
def test_memory_policies(text: str) -> None:
    assert parse_mpol(text) == text


@pytest.mark.parametrize("text", [None, "", "bind", "local:1", "bind:", "bind:a", "bind:1,size=1", "Interleave", "x"])
def test_no_memory_policy(text: str | None) -> None:
    with pytest.raises(ValueError, match="is not a memory policy"):
        parse_mpol(text)


@pytest.mark.parametrize(
    "text", [None, "", "0" * 64, "sha256:" + "0" * 63, "sha256:" + "F" * 64, "sha512:" + "0" * 128]
)
def test_no_sha256(text: str | None) -> None:
    with pytest.raises(ValueError, match="is not a sha256"):
        parse_sha256(text)
    assert parse_sha256("sha256:" + "f" * 64) == "sha256:" + "f" * 64


def test_text() -> None:
    assert parse_text("x y") == "x y"


@pytest.mark.parametrize("text", [None, ""])
def test_text_must_not_be_empty(text: str | None) -> None:
    with pytest.raises(ValueError, match="needs a value"):
        parse_text(text)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("6", 6), ("010", 10), ("999", 999)])
def test_numbers(text: str, number: int) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", [None, "", "0", "000", "-1", "+1", "1.0", "1e2", "1000", " 1", "1\n", "٣", "x"])
def test_not_a_number(text: str | None) -> None:
    with pytest.raises(ValueError, match="whole number from 1 to 999"):
        parse_number(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30", 30), ("30s", 30), ("0.5", 0.5), ("1.5m", 90), ("5m", 300), ("1h", 3600), ("2H", 7200)]
)
def test_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", [None, "", "0", "0s", "0.0h", "-1", "1d", "s", "1 m", "1.", ".5", "nan", "inf", "1m30s", "9999999999", "٣s"]
)
def test_not_a_duration(text: str | None) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_seconds(text)


@pytest.mark.parametrize("text", [f"sha256:{'0a' * 32}", f"sha512:{'f9' * 64}"])
def test_digests(text: str) -> None:
    assert parse_digest(text) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0a" * 32,
        "sha256:",
        f"sha256:{'0A' * 32}",
        f"SHA256:{'0a' * 32}",
        f"sha256:{'0a' * 31}",
        f"sha256:{'0a' * 64}",
        f"sha512:{'0a' * 32}",
        f"sha1:{'0' * 40}",
        f"sha256:{'0a' * 32}\n",
        f"sha256:{'0g' * 32}",
    ],
)
def test_not_a_digest(text: str | None) -> None:
    with pytest.raises(ValueError, match="is not a digest; write sha256: and 64 lower-case"):
        parse_digest(text)


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("m", Mirror("m")),
        ("m.example:5000", Mirror("m.example:5000")),
        ("m.example/", Mirror("m.example")),
        ("m.example/team/os-images", Mirror("m.example/team/os-images")),
        ("https://m.example/a", Mirror("m.example/a")),
        ("http://10.0.0.1:80/a", Mirror("10.0.0.1:80/a", insecure=True)),
        ("HTTP://m", Mirror("m", insecure=True)),
        ("[fd00::1]:5000/a", Mirror("[fd00::1]:5000/a")),
    ],
)
def test_mirrors(text: str, mirror: Mirror) -> None:
    assert parse_mirror(text) == mirror


@pytest.mark.parametrize(
    "text",
    [None, "", "/", "http://", "ftp://m", "m:port", "m/A", "m//a", "m/a:tag", "m/a?b", "m a", "-m", "m/../a", "m:1:2"],
)
def test_not_a_mirror(text: str | None) -> None:
    with pytest.raises(ValueError, match=r"is not a mirror; write \[http://\]HOST"):
        parse_mirror(text)


@pytest.mark.parametrize("text", ["u:p@m.example", "http://u@m.example/a"])
def test_a_mirror_holds_no_login(text: str) -> None:
    with pytest.raises(ValueError, match=r"must not hold a user or password.*auth.json"):
        parse_mirror(text)
