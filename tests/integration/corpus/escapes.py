"""Names and links that try to reach a file outside the root."""

from __future__ import annotations

from tests.integration.corpus.attack import Outcome, escape
from tests.lib.tar_writer import directory, file, hardlink, node, sparse_pax, symlink

USED = Outcome.USED
# More levels than any test directory lies deep.
UP = "../" * 24


def _up(outside: str, name: str = "canary") -> str:
    return f"{UP}{outside[1:]}/{name}"


ATTACKS = (
    escape("dotdot-file", lambda out: (file(_up(out), "pwned"),)),
    escape("dotdot-below-dir", lambda out: (directory("d/"), file(f"d/{_up(out)}", "pwned"))),
    escape("dotdot-one-level", lambda _: (file("../canary", "pwned"),)),
    escape("dotdot-as-name", lambda _: (file("..", "pwned"),)),
    escape("dotdot-dir", lambda out: (directory(_up(out, "made/"), mode=0o777),)),
    escape("dotdot-symlink", lambda out: (symlink(_up(out, "made"), "x"),)),
    escape("dotdot-device", lambda out: (node(_up(out, "made"), "char", 1, 3),)),
    escape("dotdot-hardlink-name", lambda out: (file("a", "pwned"), hardlink(_up(out), "a"))),
    escape("dotdot-hardlink-target", lambda out: (hardlink("b", _up(out)),)),
    escape("dotdot-whiteout", lambda out: (file(_up(out, ".wh.canary")),)),
    escape("dotdot-opaque", lambda out: (file(_up(out, ".wh..wh..opq")),)),
    escape("dotdot-pax-path", lambda out: (file("a", "pwned", pax=[("path", _up(out))]),)),
    escape("dotdot-pax-linkpath", lambda out: (hardlink("b", "a", pax=[("linkpath", _up(out))]),)),
    escape("dotdot-gnu-long", lambda out: (file("./" * 60 + _up(out), "pwned", fmt="gnu"),)),
    escape("dotdot-sparse-name", lambda out: (sparse_pax(_up(out), 5, [(0, b"pwned")]),)),
    escape("whiteout-of-dotdot", lambda _: (file("a", "x"), directory("d/"), file("d/.wh..."))),
    escape("whiteout-of-dot", lambda _: (file("a", "x"), file(".wh.."))),
    escape("whiteout-of-nothing", lambda _: (file("a", "x"), file(".wh."))),
    escape("absolute-file", lambda out: (file(f"{out}/canary", "in the root"),), outcome=USED),
    escape("absolute-dir", lambda out: (directory(f"{out}/", mode=0o777),), outcome=USED),
    escape("absolute-whiteout", lambda out: (file("a", "x"), file(f"{out}/.wh.canary")), outcome=USED),
    escape("absolute-hardlink-target", lambda out: (hardlink("b", f"{out}/canary"),)),
    escape("symlink-absolute", lambda out: (symlink("l", out), file("l/canary", "in the root")), outcome=USED),
    escape("symlink-relative", lambda out: (symlink("l", UP + out[1:]), file("l/canary", "x")), outcome=USED),
    escape("symlink-to-parent", lambda _: (symlink("l", ".."), file("l/canary", "in the root")), outcome=USED),
    escape("symlink-lower", lambda out: (symlink("l", out),), lambda _: (file("l/canary", "x"),), outcome=USED),
    escape(
        "symlink-chain",
        lambda out: (symlink("c", out), symlink("b", "c"), symlink("a", "./b/."), file("a/canary", "in the root")),
        outcome=USED,
    ),
    escape("symlink-then-same-name", lambda out: (symlink("s", f"{out}/canary"), file("s", "x")), outcome=USED),
    escape("symlink-then-dir-entry", lambda out: (symlink("l", out), directory("l/", mode=0o777)), outcome=USED),
    escape(
        "symlink-lower-then-whiteout",
        lambda out: (symlink("l", out),),
        lambda _: (file("l/.wh.canary"),),
        outcome=USED,
    ),
    escape(
        "symlink-lower-then-opaque",
        lambda out: (symlink("l", out),),
        lambda _: (file("l/.wh..wh..opq"), file("l/new", "in the root")),
        outcome=USED,
    ),
    escape("symlink-then-hardlink-through", lambda out: (symlink("l", out), hardlink("b", "l/canary"))),
    escape(
        "symlink-then-hardlink-to-it",
        lambda out: (symlink("s", f"{out}/canary"), hardlink("h", "s"), file("h", "pwned")),
        outcome=USED,
    ),
    escape(
        "dir-becomes-symlink",
        lambda out: (directory("d/"), file("d/a", "x"), symlink("d", out), file("d/canary", "in the root")),
        outcome=USED,
    ),
    escape("symlink-loop", lambda _: (symlink("a", "b"), symlink("b", "a"), file("a/x", "x"))),
    escape("symlink-to-itself", lambda _: (symlink("a", "a"), file("a/x", "x"))),
    escape("symlink-grows", lambda _: (symlink("a", "a/a/a"), file("a/x", "x"))),
    escape("root-as-symlink", lambda out: (symlink("./", out), file("canary", "pwned"))),
    escape("root-as-symlink-dot", lambda out: (symlink(".", out), file("canary", "pwned"))),
    escape("root-as-file", lambda _: (file(".", "pwned"), file("a", "x"))),
    escape("root-as-hardlink", lambda _: (file("a", "x"), hardlink("./", "a"))),
    escape("root-as-device", lambda _: (node("/", "char", 1, 1),)),
    escape("name-empty", lambda _: (file("", "x"),)),
    escape("name-with-nul", lambda _: (file("a", "x", pax=[("path", b"a\0b")]),)),
    escape("name-of-256-bytes", lambda _: (file("n" * 256, "x"),)),
    escape("target-of-4096-bytes", lambda _: (symlink("l", "t" * 4096),)),
    escape("target-empty", lambda _: (symlink("l", ""),)),
    escape("path-300-deep", lambda _: (file("a/" * 300 + "f", "x"),), outcome=USED),
    escape("path-20000-deep", lambda _: (file("a/" * 20_000 + "f", "x"),)),
)
