"""Requests in /dev/initctl, whatever is written there, and what inits are asked by."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.landing.guest.tools.initctl import initctl_fifo, parse_requests
from bootc_live.landing.guest.tools.inits import Wish, number_of, signal_for

MAGIC = 0x03091969
SIZE = 384


def request(runlevel: int | str, command: int = 1, *, magic: int = MAGIC, rest: bytes = b"") -> bytes:
    level = runlevel if isinstance(runlevel, int) else ord(runlevel)
    return struct.pack("=4i368s", magic, command, level, 5, rest)


OFF, AGAIN = request("0"), request("6")


@pytest.mark.parametrize(
    ("data", "wishes"),
    [
        (b"", []),
        (OFF, ["0"]),
        (AGAIN, ["6"]),
        (OFF + AGAIN, ["0", "6"]),
        (OFF * 20, ["0"] * 20),
        # Garbage before, between and after.
        (b"x" + OFF, ["0"]),
        (b"x" * SIZE + OFF, ["0"]),
        (OFF + b"x" * 7 + AGAIN + b"x" * 400, ["0", "6"]),
        (b"\0" * 1000 + OFF, ["0"]),
        # Short writes: of writers that vanish.
        (OFF[:100], []),
        (OFF[:3], []),
        (OFF[: SIZE - 1], []),
        (OFF[:100] + AGAIN, ["6"]),
        (OFF[:4] + AGAIN, ["6"]),
        (OFF[:1] + AGAIN, ["6"]),
        (OFF[: SIZE - 1] + AGAIN + OFF[:50], ["6"]),
        (OFF[:100] * 10 + AGAIN, ["6"]),
        # Too long ones.
        (OFF + b"\0" * 20 + AGAIN, ["0", "6"]),
        # Another magic number, another order of bytes.
        (request("0", magic=MAGIC + 1), []),
        (OFF[:4][::-1] + OFF[4:], []),
        # Other commands and runlevels.
        (request("0", 0), [None]),
        (request("0", 2), [None]),
        (request("0", 6, rest=b"INIT_HALT=POWEROFF"), [None]),
        (request("0", -1), [None]),
        (request("3"), [None]),
        (request("q"), [None]),
        (request(0), [None]),
        (request(6), [None]),
        (request(-1), [None]),
        (request(2**31 - 1), [None]),
        (request("3") + OFF, [None, "0"]),
        (request("0", rest=b"\xff" * 368), ["0"]),
    ],
)
def test_requests(data: bytes, wishes: list[str | None]) -> None:
    found = parse_requests(data)
    assert [found and found.value for found in (one.wish for one in found)] == wishes
    assert all(len(one.raw) == SIZE for one in found)


def test_requests_among_anything() -> None:
    """Whole requests are found wherever they are, and nothing else is taken for one."""
    chosen = random.Random(17)
    for _ in range(300):
        pieces, expected = [], []
        for _ in range(chosen.randrange(12)):
            kind = chosen.randrange(4)
            if kind == 0:
                wish = chosen.choice("06")
                pieces.append(request(wish))
                expected.append(wish)
            elif kind == 1:
                # No byte of the magic number, which garbage could complete.
                pieces.append(bytes(chosen.choices(range(0x80, 0x100), k=chosen.randrange(900))))
            elif kind == 2:
                pieces.append(request(chosen.choice("06"))[: chosen.randrange(SIZE - 370)])
            else:
                pieces.append(struct.pack(">i", MAGIC))
        found = [one.wish.value for one in parse_requests(b"".join(pieces)) if one.wish]
        # Only a request that was cut short can be one too many: garbage after it looks like its rest.
        cut = any(OFF[:4] in piece and len(piece) < SIZE for piece in pieces)
        assert (found == expected) if not cut else _is_part(expected, found)


def _is_part(expected: list[str], found: list[str]) -> bool:
    remaining = iter(found)
    return all(wish in remaining for wish in expected)


def test_any_bytes() -> None:
    chosen = random.Random(4)
    for _ in range(500):
        data = b"".join(chosen.choice((OFF[:4], OFF[:12], b"\0", bytes(chosen.randbytes(40)))) for _ in range(60))
        assert all(len(one.raw) == SIZE and one.raw.startswith(OFF[:4]) for one in parse_requests(data))


def mask(*names: str) -> int:
    return sum(1 << (number_of(name) - 1) for name in set(names))


@pytest.mark.parametrize(
    ("init", "caught", "blocked", "off", "again"),
    [
        ("systemd", 0, 0, "SIGRTMIN+4", "SIGRTMIN+5"),
        ("busybox", 0, 0, "SIGUSR2", "SIGTERM"),
        ("openrc-init", 0, 0, "SIGTERM", "SIGINT"),
        ("init", mask("SIGPWR", "SIGINT", "SIGTERM"), 0, "SIGPWR", "SIGINT"),
        ("other", mask("SIGTERM"), 0, "SIGTERM", "SIGTERM"),
        ("other", mask("SIGTERM", "SIGINT"), 0, "SIGTERM", "SIGINT"),
        ("other", 0, mask("SIGPWR", "SIGTERM"), "SIGPWR", "SIGTERM"),
        ("other", mask("SIGTERM"), mask("SIGPWR", "SIGINT"), "SIGTERM", "SIGTERM"),
        ("other", 0, 0, "SIGTERM", "SIGTERM"),
        ("", 0, 2**64 - 1, "SIGPWR", "SIGINT"),
    ],
)
def test_signals(init: str, caught: int, blocked: int, off: str, again: str) -> None:
    assert signal_for(init, Wish.POWER_OFF, caught, blocked) == off
    assert signal_for(init, Wish.REBOOT, caught, blocked) == again


def test_numbers_of_signals() -> None:
    assert [number_of(name) for name in ("SIGTERM", "SIGPWR", "SIGRTMIN+4", "SIGRTMIN+5")] == [15, 30, 38, 39]


def test_fifo(tmp_path: Path) -> None:
    path = tmp_path / "initctl"
    with initctl_fifo(str(path)) as fifo:
        assert path.is_fifo()
        assert path.stat().st_mode & 0o777 == 0o600
        for _ in range(3):
            # Writers do not wait, and do not end it by going.
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            os.write(writer, OFF)
            os.close(writer)
        assert os.read(fifo, 10000) == OFF * 3
        with pytest.raises(BlockingIOError):
            os.read(fifo, 1)
        with pytest.raises(ConfigError, match="has a reader"), initctl_fifo(str(path)):
            pass
    assert not path.exists()
    # Nobody reads it: it was left.
    os.mkfifo(path, 0o644)
    with initctl_fifo(str(path)):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_fifo_of_another(tmp_path: Path) -> None:
    """Somebody has put a FIFO of his own there in the meantime."""
    path = tmp_path / "initctl"
    with initctl_fifo(str(path)):
        path.unlink()
        os.mkfifo(path)
    assert path.is_fifo()


@pytest.mark.parametrize("kind", ["file", "directory", "link", "dangling link"])
def test_no_fifo(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "initctl"
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="exists, and is no FIFO"), initctl_fifo(str(path)):
        pass
    assert os.path.lexists(path)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"), initctl_fifo(str(tmp_path / "none/initctl")):
        pass
