"""Extended attributes: image-spec layer.md, "Additional Attributes"; pax records `SCHILY.xattr.*`."""

from __future__ import annotations

import struct

from tests.integration.corpus.case import root, single, stack
from tests.integration.corpus.expected import a_dir, a_file
from tests.lib.tar_writer import DEFAULT_MTIME, directory, file, layer, node, symlink, xattr
from tests.lib.tree_list import Line

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
NOBODY = 2**32 - 1
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, who)
    for tag, permissions, who in ((1, 6, NOBODY), (2, 4, 1000), (4, 4, NOBODY), (16, 4, NOBODY), (32, 4, NOBODY))
)
LABEL = "system_u:object_r:bin_t:s0\0"

CASES = (
    single(
        "xattr-file",
        file("a", "x", pax=[xattr("user.k", "v"), xattr("user.bin", b"\x00\xff\n=\x01"), xattr("user.empty", "")]),
    ),
    single("xattr-dir", directory("d/", pax=[xattr("user.k", "v")]), file("d/a", "x")),
    stack("xattr-root", layer(directory("./", pax=[xattr("user.k", "v")]), file("a", "x"))),
    single("xattr-symlink", symlink("l", "x", pax=[xattr("trusted.k", "v")])),
    single(
        "xattr-user-where-linux-has-none",
        symlink("l", "x", pax=[xattr("user.k", "v")]),
        file("a", "x", pax=[xattr("user.k", "v")]),
        expect=(
            a_dir("."),
            a_file("a", b"x", xattrs="user.k=0x76"),
            Line("l", "l", "777", "0", "0", "1", str(DEFAULT_MTIME), "1", "x"),
        ),
        why="umoci cannot unpack what Linux refuses",
    ),
    single("xattr-device", node("n", "char", 1, 3, pax=[xattr("trusted.k", "v")])),
    single(
        "xattr-namespaces",
        file(
            "a",
            "x",
            pax=[
                xattr("trusted.k", "v"),
                xattr("security.selinux", LABEL),
                xattr("user.deep.name", "v"),
            ],
        ),
        change={"a": {"xattrs": f"security.selinux=0x{LABEL.encode().hex()},trusted.k=0x76,user.deep.name=0x76"}},
        why="umoci drops labels because they are the host's affair; here the image is the host",
    ),
    single("xattr-capability", file("ping", "x", mode=0o755, pax=[xattr("security.capability", CAPABILITY)])),
    single(
        "xattr-acl",
        file("a", "x", pax=[xattr("system.posix_acl_access", ACL)]),
        directory("d/", pax=[xattr("system.posix_acl_default", ACL)]),
    ),
    single("xattr-libarchive", file("a", "x", pax=[("LIBARCHIVE.xattr.user.k", "dg==")])),
    single("xattr-both-forms", file("a", "x", pax=[("LIBARCHIVE.xattr.user.k", "dg=="), xattr("user.k", "v")])),
    single("xattr-large", file("a", "x", pax=[xattr("user.k", b"v" * 3000)])),
    single("xattr-60k", file("a", "x", pax=[xattr("user.k", b"v" * 60000)])),
    single("xattr-long-name", file("a", "x", pax=[xattr("user." + "k" * 250, "v")])),
    single("xattr-many", file("a", "x", pax=[xattr(f"user.k{i:02}", f"{i}") for i in range(50)])),
    single("xattr-shared", *(file(f"f{i:02}", "x", pax=[xattr("user.same", "v" * 40)]) for i in range(20))),
    single("xattr-unknown-namespace", file("a", "x", pax=[xattr("weird.k", "v")])),
    stack(
        "xattr-overlay-opaque",
        root(directory("d/"), file("d/a", "0")),
        root(directory("d/", pax=[xattr("trusted.overlay.opaque", "y")]), file("d/b", "1")),
    ),
    single(
        "xattr-overlay-user",
        directory("d/", pax=[xattr("user.overlay.opaque", "y")]),
        file("d/a", "0", pax=[xattr("trusted.overlay.metacopy", "")]),
    ),
    stack(
        "xattr-overlay-redirect",
        root(directory("d/"), file("d/a", "0")),
        root(directory("e/", pax=[xattr("trusted.overlay.redirect", "/d")])),
    ),
    stack(
        "xattr-lost-above",
        root(file("a", "x", pax=[xattr("user.k", "v")]), directory("d/", pax=[xattr("user.k", "v")])),
        root(file("a", "y"), directory("d/")),
    ),
    stack(
        "xattr-dir-kept-when-implied-above",
        root(directory("d/", mode=0o700, uid=4, pax=[xattr("user.k", "v")])),
        root(file("d/a", "1")),
    ),
    single(
        "xattr-values-of-every-length", *(file(f"{i:04}", pax=[xattr("user.k", "v" * i)]) for i in range(1, 1600, 3))
    ),
    single(
        "xattr-symlinks", *(symlink(f"{i:04}", "t" * i, pax=[xattr("trusted.k", "v" * i)]) for i in range(1, 700, 3))
    ),
)
