"""Names and link targets: long, not ASCII, not UTF-8, and written in unusual ways."""

from __future__ import annotations

from tests.integration.corpus.case import LATER, single, stack
from tests.lib.tar_writer import directory, file, hardlink, layer, symlink

N255 = "n" * 255
DEEP = "/".join(f"dir{i:03}" for i in range(60))
LATIN1 = b"caf\xe9"


def _dirs(path: str) -> tuple[bytes, ...]:
    parts = path.split("/")
    return tuple(directory("/".join(parts[: i + 1]) + "/") for i in range(len(parts)))


CASES = (
    single("names-100", file("n" * 99), file("m" * 100, fmt="ustar"), file("o" * 100)),
    single("names-101-pax", file("n" * 101)),
    single("names-101-gnu", file("n" * 101, fmt="gnu")),
    single("names-255", file(N255), directory("d" * 255 + "/"), symlink("l" * 255, N255), hardlink("h" * 255, N255)),
    single(
        "names-255-gnu",
        file(N255, fmt="gnu"),
        directory("d" * 255 + "/", fmt="gnu"),
        symlink("l" * 255, N255, fmt="gnu"),
        hardlink("h" * 255, N255, fmt="gnu"),
    ),
    single("names-ustar-prefix", *_dirs("p" * 90 + "/q" * 20), file("p" * 90 + "/q" * 20 + "/f", "x", fmt="ustar")),
    single("names-prefix-is-155", *_dirs("p" * 155), file("p" * 155 + "/" + "f" * 100, "x", fmt="ustar")),
    single("names-deep", *_dirs(DEEP), file(DEEP + "/f", "x")),
    single("names-utf8", directory("höhle/"), file("höhle/файл", "x"), symlink("リンク", "höhle/файл"), file("😀")),
    single("names-utf8-no-pax", file("naïve", "x", fmt="gnu")),
    single(
        "names-not-utf8",
        file(LATIN1, "x"),
        directory(LATIN1 + b"d/"),
        symlink(b"l", LATIN1),
        hardlink(b"h\xff", LATIN1),
    ),
    single("names-not-utf8-long-gnu", file(LATIN1 * 40, "x", fmt="gnu")),
    single("names-not-utf8-pax-binary", file("a", "x", pax=[("hdrcharset", "BINARY"), ("path", LATIN1)])),
    single("names-not-utf8-pax", file("a", "x", pax=[("path", LATIN1)])),
    single(
        "names-odd",
        file(" lead"),
        file("trail "),
        file("new\nline"),
        file("tab\t"),
        file("back\\slash"),
        file("a*?[b]"),
        file("-dash"),
        file('q"uote'),
        file("..."),
        file("..x"),
        file("\x01\x7f"),
    ),
    single("names-dotslash", directory("./d/"), file("./d/a", "x"), file("./b", "y")),
    single(
        "names-absolute",
        directory("/d/"),
        file("/d/a", "x"),
        file("/b", "y"),
        symlink("/l", "/b"),
        hardlink("/h", "/b"),
    ),
    single("names-double-slash", directory("d//"), file("d//a", "x"), file("d/./b", "y")),
    single("names-trailing-slash-missing", directory("d"), file("d/a", "x")),
    single("names-trailing-slash-on-file", file("a/", "x")),
    single(
        "names-inner-dotdot",
        directory("d/"),
        file("d/../a", "x"),
        refused=True,
        why="umoci folds it; no tool writes such names, so none has to be proven harmless",
    ),
    stack(
        "names-root-forms",
        layer(directory(".", mode=0o711), file("a", "x")),
        layer(directory("/", mode=0o755, mtime=LATER), file("b", "y")),
    ),
    stack("names-root-empty", layer(directory("", mode=0o711), file("a", "x"))),
    single(
        "names-pax-over-header",
        file("wrong", "x", pax=[("path", "right")]),
        symlink("l", "wrong", pax=[("linkpath", "right")]),
    ),
    single("names-case", file("README", "1"), file("readme", "2")),
)
