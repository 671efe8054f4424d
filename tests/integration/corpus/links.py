"""Hard links within one layer, and symbolic links."""

from __future__ import annotations

from tests.integration.corpus.case import LATER, single
from tests.integration.corpus.expected import a_dir, a_file
from tests.lib.tar_writer import directory, file, hardlink, node, symlink, xattr

A0 = file("a", "a0")

CASES = (
    single("hardlink", A0, hardlink("b", "a"), hardlink("c", "a")),
    single("hardlink-chain", A0, hardlink("b", "a"), hardlink("c", "b")),
    single("hardlink-across-dirs", directory("d/"), directory("e/"), file("d/a", "a0"), hardlink("e/b", "d/a")),
    single("hardlink-dotslash-target", file("./a", "a0"), hardlink("./b", "./a")),
    single("hardlink-mixed-prefix", file("./a", "a0"), hardlink("b", "a"), hardlink("./c", "a")),
    single("hardlink-absolute-target", A0, hardlink("b", "/a")),
    single("hardlink-other-metadata", A0, hardlink("b", "a", mode=0o755, uid=5, mtime=LATER)),
    single("hardlink-before-target", hardlink("b", "a"), A0, refused=True),
    single("hardlink-missing-target", hardlink("b", "nothing"), refused=True),
    single("hardlink-with-size", A0, hardlink("b", "a", size=2)),
    single("hardlink-to-symlink", A0, symlink("l", "a"), hardlink("m", "l")),
    single("hardlink-to-device", node("n", "char", 1, 3), hardlink("m", "n")),
    single("hardlink-to-fifo", node("n", "fifo"), hardlink("m", "n")),
    single("hardlink-to-dir", directory("d/"), hardlink("m", "d"), refused=True),
    single("hardlink-to-empty-file", file("a"), hardlink("b", "a")),
    single(
        "hardlink-to-self",
        A0,
        hardlink("a", "a"),
        expect=(a_dir("."), a_file("a", b"a0")),
        why="umoci removes the file before it links; a name that is there already changes nothing",
    ),
    single("hardlink-twice", A0, hardlink("b", "a"), hardlink("b", "a")),
    single("hardlink-over-file", A0, file("b", "b0"), hardlink("b", "a")),
    single("hardlink-target-replaced-later", A0, hardlink("b", "a"), file("a", "a1")),
    single("hardlink-name-replaced-later", A0, hardlink("b", "a"), hardlink("c", "a"), file("b", "b1")),
    single("hardlink-with-xattr-on-target", file("a", "a0", pax=[xattr("user.k", "v")]), hardlink("b", "a")),
    single("hardlink-with-xattr-on-link", A0, hardlink("b", "a", pax=[xattr("user.k", "v")])),
    single(
        "hardlink-through-symlinked-dir", directory("r/"), file("r/a", "a0"), symlink("l", "r"), hardlink("b", "l/a")
    ),
    single("hardlink-1000-names", A0, *(hardlink(f"n{i:04}", "a") for i in range(1000))),
    single("symlink-long-target", symlink("l", "t/" * 500 + "end")),
    single("symlink-4095-target", symlink("l", "t" * 4095)),
    single("symlink-4095-target-gnu", symlink("l", "t" * 4095, fmt="gnu")),
    single("symlink-100-target-ustar", symlink("l", "t" * 100, fmt="ustar")),
    single(
        "symlink-target-forms",
        symlink("a", "/abs//x/"),
        symlink("b", "../../up"),
        symlink("c", "./x/."),
        symlink("d", " spaced "),
    ),
    single("symlink-owner-mtime", symlink("l", "x", uid=1000, gid=1001, mtime=LATER)),
    single("symlink-targets-of-every-length", *(symlink(f"{i:04}", "t" * i) for i in range(1, 1600, 3))),
)
