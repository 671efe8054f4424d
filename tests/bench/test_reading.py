"""Reading all files of the root back with nothing in the page cache: index against a plain full EROFS image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from tests.lib.bench import Figures, seconds
from tests.lib.bench_root import Ours, ram_disk, run
from tests.lib.program import Program
from tests.lib.registry import Registry

READERS: Final = {
    "one after the other": "find . -xdev -type f -print0 | xargs -0 cat >/dev/null",
    "two side by side": "find . -xdev -type f -print0 | xargs -0 -n 500 -P 2 cat >/dev/null",
}
LAYOUTS: Final = {
    "index": "",
    "erofs, lz4": "bootc.live.layout=erofs bootc.live.compress=lz4",
    "tree": "bootc.live.layout=tree",
}


@contextmanager
def plain(source: str, where: Path) -> Iterator[Path]:
    """The image as mkfs.erofs makes it of umoci's tree, mounted from a tmpfs through a loop device."""
    with ram_disk(where):
        layout, bundle, image, root = (where / name for name in ("layout", "bundle", "root.erofs", "root"))
        run("skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false", source, f"oci:{layout}:latest")
        run("umoci", "unpack", "--image", f"{layout}:latest", bundle)
        run("mkfs.erofs", "--quiet", image, bundle / "rootfs")
        run("rm", "-r", layout, bundle)
        root.mkdir()
        run("mount", "-t", "erofs", "-o", "ro,loop", image, root)
        yield root


def read_all(root: Path, command: str) -> None:
    """Reads every regular file with nothing in the page cache."""
    run("sh", "-c", f'cd "$1" && {command}', "sh", root)


def forget() -> None:
    """Empties the page cache; what is in tmpfs stays."""
    run("sh", "-c", "sync && echo 3 >/proc/sys/vm/drop_caches")


def test_reading_back_cold(server: Registry, program: Program, figures: Figures, tmp_path: Path) -> None:
    source = server.source("os/server:1")
    rates: dict[str, dict[str, float]] = {how: {} for how in READERS}
    with plain(source, tmp_path / "plain") as whole:
        for name, kargs in LAYOUTS.items():
            with Ours(program, source, f"{kargs} bootc.live.var.rw=0", tmp_path / name[:5]).booted() as root:
                for how, command in READERS.items():
                    theirs, ours = cold(whole, root, command)
                    rates[how][name] = theirs / ours
    figures.table(
        "reading all files back cold, rate in parts of a plain EROFS image's",
        ("readers", *LAYOUTS),
        [(how, *by_name.values()) for how, by_name in rates.items()],
    )
    worst = min(by_name["index"] for by_name in rates.values())
    figures.bar("index: cold read rate in parts of a plain EROFS image's", worst, 0.8, least=True)


def cold(whole: Path, root: Path, command: str) -> tuple[float, float]:
    """The shortest times of reading all of two roots, in turns; emptying the cache does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(4):
        for place, spent in zip((whole, root), times, strict=True):
            forget()
            spent.append(seconds(partial(read_all, place, command)))
    return min(times[0]), min(times[1])
