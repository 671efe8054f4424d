"""Modes, owners, times and device numbers, in every form a header can say them."""

from __future__ import annotations

from tests.integration.corpus.case import single
from tests.lib.tar_writer import directory, file, node

CASES = (
    single(
        "modes",
        *(file(f"m{m:04o}", "x", mode=m) for m in (0, 0o400, 0o755, 0o2755, 0o4755, 0o6711, 0o1644, 0o7777)),
        directory("t/", mode=0o1777),
        directory("g/", mode=0o2775),
    ),
    single("mode-with-type-bits", file("a", "x", mode=0o100644), directory("d/", mode=0o40755)),
    single(
        "owners",
        file("a", uid=1000, gid=1001),
        file("b", uid=65534, gid=65535),
        file("c", uid=65536, gid=70000),
        file("d", uid=2097151, gid=2097151),
    ),
    single(
        "owners-base256", file("a", uid=2097152, gid=2097153, fmt="gnu"), file("b", uid=2**31, gid=2**32 - 2, fmt="gnu")
    ),
    single(
        "owners-that-chown-does-not-take",
        file("a", uid=2**32 - 1, gid=2**32 - 1, fmt="gnu"),
        file("b", uid=5, pax=[("gid", str(2**32 - 1))]),
        directory("d/", uid=2**32 - 1, gid=5, fmt="gnu"),
    ),
    single("owners-pax", file("a", pax=[("uid", "3000000"), ("gid", "4000000000")])),
    single("mtime-zero", file("a", mtime=0), directory("d/", mtime=0)),
    single("mtime-negative-base256", file("a", mtime=-1, fmt="gnu"), file("b", mtime=-100000, fmt="gnu")),
    single("mtime-negative-pax", file("a", pax=[("mtime", "-1")])),
    single("mtime-negative-fraction-pax", file("b", pax=[("mtime", "-100000.5")])),
    single(
        "mtime-fraction-pax",
        file("a", pax=[("mtime", "1600000000.999999999")]),
        file("b", pax=[("mtime", "1600000000.5")]),
        directory("d/", pax=[("mtime", "1600000001.25")]),
    ),
    single("mtime-beyond-2038", file("a", mtime=2**31), file("b", mtime=2**32 + 5), file("c", mtime=8**11 - 1)),
    single(
        "mtime-beyond-octal",
        file("a", mtime=8**11 + 5, fmt="gnu"),
        file("b", pax=[("mtime", str(2**34 + 7))]),
        change={"b": {"mtime": str(2**34 + 7)}},
        why="umoci counts nanoseconds in 64 bits and wraps",
    ),
    single(
        "mtime-huge",
        file("a", mtime=2**40, fmt="gnu"),
        change={"a": {"mtime": str(2**40)}},
        why="umoci counts nanoseconds in 64 bits and wraps",
    ),
    single("mtime-pax-over-header", file("a", mtime=5, pax=[("mtime", "1600000007"), ("atime", "5"), ("ctime", "6")])),
    single(
        "devices",
        node("null", "char", 1, 3, mode=0o666),
        node("sda", "block", 8, 0, mode=0o660, gid=6),
        node("pipe", "fifo", mode=0o640, uid=9),
    ),
    single(
        "devices-large-minor",
        node("a", "char", 10, 255),
        node("b", "char", 10, 256),
        node("c", "block", 259, 70000),
        node("d", "block", 4095, 1048575),
    ),
    single("fifo-with-device-numbers", node("p", "fifo", 3, 4)),
)
