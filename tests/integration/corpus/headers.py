"""pax and GNU extension headers, header formats, and member types."""

from __future__ import annotations

from tests.integration.corpus.case import single, stack
from tests.integration.corpus.expected import a_dir, a_file
from tests.lib.tar_writer import Header, directory, file, layer, member, node, pax_header, xattr

CASES = (
    stack(
        "pax-global",
        layer(pax_header([("comment", "made by a test")], "g"), directory("./"), file("a", "x")),
        expect=(a_dir("."), a_file("a", b"x")),
        why="umoci knows no global headers",
    ),
    stack(
        "pax-global-mtime",
        layer(pax_header([("mtime", "1500000000")], "g"), directory("./"), file("a", "x")),
        expect=(a_dir(".", mtime=1500000000), a_file("a", b"x", mtime=1500000000)),
        why="umoci knows no global headers",
    ),
    stack(
        "pax-global-uid",
        layer(pax_header([("uid", "77")], "g"), directory("./"), file("a", "x"), file("b", "y")),
        expect=(a_dir(".", uid=77), a_file("a", b"x", uid=77), a_file("b", b"y", uid=77)),
        why="umoci knows no global headers",
    ),
    stack(
        "pax-global-then-local",
        layer(pax_header([("uid", "77")], "g"), directory("./"), file("a", "x", pax=[("uid", "78")])),
        expect=(a_dir(".", uid=77), a_file("a", b"x", uid=78)),
        why="umoci knows no global headers",
    ),
    stack(
        "pax-global-xattr",
        layer(pax_header([xattr("user.k", "v")], "g"), directory("./"), file("a", "x")),
        expect=(a_dir(".", xattrs="user.k=0x76"), a_file("a", b"x", xattrs="user.k=0x76")),
        why="umoci knows no global headers",
    ),
    single(
        "pax-global-last",
        file("a", "x"),
        pax_header([("comment", "end")], "g"),
        expect=(a_dir("."), a_file("a", b"x")),
        why="umoci knows no global headers",
    ),
    single("pax-size", file("a", "hello", size=0, pax=[("size", "5")]), file("b", "after")),
    single("pax-records-unknown", file("a", "x", pax=[("comment", "c"), ("VENDOR.key", "v"), ("charset", "x")])),
    single("pax-repeated-key", file("a", "x", pax=[("uid", "5"), ("uid", "6")])),
    single("pax-empty-value", file("a", "x", uid=9, pax=[("uname", ""), ("path", "")])),
    single("pax-empty-number", file("a", "x", uid=9, pax=[("uid", ""), ("mtime", ""), ("size", "")])),
    single("pax-and-gnu-long", pax_header([("uid", "5")]), file("n" * 120, "x", fmt="gnu")),
    stack(
        "format-v7",
        layer(
            member(Header(b"./", b"5", 0o755, magic=bytes(8)), b""),
            member(Header(b"a", b"\0", size=1, magic=bytes(8)), b"x"),
            member(Header(b"d/", b"\0", 0o755, magic=bytes(8))),
        ),
    ),
    stack(
        "format-gnu",
        layer(
            directory("./", fmt="gnu"),
            directory("d/", fmt="gnu"),
            file("d/a", "x", fmt="gnu"),
            node("n", "char", 5, 1, fmt="gnu"),
        ),
    ),
    stack(
        "format-ustar", layer(directory("./", fmt="ustar"), directory("d/", fmt="ustar"), file("d/a", "x", fmt="ustar"))
    ),
    single(
        "type-contiguous",
        file("a", "x", typeflag=b"7"),
        expect=(a_dir("."), a_file("a", b"x")),
        why="POSIX: like a regular file where nothing is contiguous",
    ),
    single("type-nul", file("a", "x", typeflag=b"\0")),
    single("type-unknown", file("a", "x", typeflag=b"Z"), file("b", "y"), refused=True),
    single("type-gnu-volume", file("Vol", "", typeflag=b"V"), file("b", "y"), refused=True),
    single("type-gnu-dumpdir", file("d/", "Yname\0\0", typeflag=b"D"), file("b", "y"), refused=True),
    single("type-gnu-multivolume", file("m", "part", typeflag=b"M"), file("b", "y"), refused=True),
    single(
        "type-dir-with-size", member(Header(b"d/", b"5", 0o755, size=512), b"q" * 512), file("b", "y"), refused=True
    ),
    single("type-dir-with-size-without-data", member(Header(b"d/", b"5", 0o755, size=512)), file("b", "y")),
    single("type-symlink-with-size", member(Header(b"l", b"2", 0o777, size=3, linkname=b"b"), b""), file("b", "y")),
    single(
        "type-symlink-with-size-and-data",
        member(Header(b"l", b"2", 0o777, size=3, linkname=b"b"), b"xyz"),
        file("b", "y"),
        refused=True,
    ),
)
