"""The cache of ``build`` and ``pivot`` with real registries, full disks, several runs, and runs that are killed."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import Image, Layer, sha256, write_layout
from tests.lib.program import Program
from tests.lib.registry import Registry
from tests.lib.small_image import BASE, HERE, archive_of
from tests.lib.space import tmpfs
from tests.lib.tar_writer import directory, file, layer

MIB = 2**20
NOISE = random.Random(16)
BIG = layer(directory("usr/"), file("usr/noise", NOISE.randbytes(3 * MIB)))


def top(text: str) -> bytes:
    """A layer that says something."""
    return layer(file("etc/name", text))


def put(plain: Registry, where: Path, name: str, *tars: bytes, tag: str = "1") -> str:
    """Push an image of these layers, and return it as a SOURCE."""
    layout = where / f"layout-{os.urandom(4).hex()}"
    plain.put(write_layout(layout, Image([Layer(tar) for tar in tars], architecture=HERE)), name, tag)
    shutil.rmtree(layout)
    return f"docker://{plain.host}/{name}:{tag}"


def layers_in(cache: Path) -> set[str]:
    """The diffIDs in a cache, each of which is right and whole."""
    found = set()
    for path in (cache / "layers").rglob("*"):
        if path.is_file():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            assert path.stat().st_mode & 0o7777 == 0o600
            found.add(f"sha256:{path.name}")
    return found


def told(program: Program, *words: str | Path, env: dict[str, str] | None = None) -> dict[str, Any]:
    """What a run that succeeds says about the cache."""
    ended = program.run("build", *words, "--unsecure", "--json", env=env).good()
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_warm_then_build(program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out.tar"
    source = put(plain, tmp_path, "cache/warm", BIG, top("warm"))
    said = told(program, source, "--cache", cache)
    assert said["cache"] == {"directory": str(cache), "used": 0, "added": 2}
    assert layers_in(cache) == {sha256(BIG), sha256(top("warm"))}
    assert sorted(os.listdir(cache)) == ["layers"]
    # Where it would be fetched from has no layers any more.
    for digest in json.loads(program.run("inspect", source, "--unsecure", "--json").good().stdout)["layers"]:
        plain.blob(digest["digest"]).unlink()
    plain_build = told(program, source, "--cache", cache, "--rootfs-output", out)
    assert plain_build["cache"] == {"directory": str(cache), "used": 2, "added": 0}
    assert b"warm" in out.read_bytes()
    program.run("build", source, "--unsecure", "--no-cache", "-o", tmp_path / "x").error(source)


def test_moved_tag_is_noticed(program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    source = put(plain, tmp_path, "cache/moved", BASE, top("before"))
    told(program, source, "--cache", cache)
    assert put(plain, tmp_path, "cache/moved", BASE, top("after")) == source
    said = told(program, source, "--cache", cache, "--rootfs-output", tmp_path / "out.tar")
    assert said["cache"] == {"directory": str(cache), "used": 1, "added": 1}
    assert b"after" in (tmp_path / "out.tar").read_bytes()


def test_results_are_the_same_with_and_without(program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    """Modes, owners, devices: all of it is in the layer."""
    cache, mine = tmp_path / "cache", tmp_path / "mine"
    (mine / "etc").mkdir(parents=True)
    (mine / "etc/mine").write_text("1")
    source = put(plain, tmp_path, "cache/same", BASE, top("same"))
    for number, option in enumerate(("--no-cache", f"--cache={cache}", f"--cache={cache}")):
        program.run("build", source, mine, option, "-o", tmp_path / f"{number}.oci", "--unsecure").good()
    assert (tmp_path / "0.oci").read_bytes() == (tmp_path / "1.oci").read_bytes() == (tmp_path / "2.oci").read_bytes()
    # A directory is read anew each time.
    assert layers_in(cache) == {sha256(BASE), sha256(top("same"))}
    (mine / "etc/mine").write_text("2")
    program.run("build", source, mine, "--cache", cache, "--unsecure", "-o", tmp_path / "3.oci").good()
    assert (tmp_path / "3.oci").read_bytes() != (tmp_path / "2.oci").read_bytes()


def test_nothing_but_layers(program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    """No name of a server or an image, no password, no modes that others could use."""
    cache, home = tmp_path / "cache", tmp_path / "home"
    source = put(plain, tmp_path, "cache/secret-name", top("x"))
    told(program, source, env={"CACHE_DIRECTORY": f"{cache}:/other", "HOME": str(home)})
    assert {path.name for path in cache.rglob("*")} == {"layers", "sha256", sha256(top("x"))[7:]}
    found = subprocess.run(["grep", "-rlF", plain.host, cache], check=False, capture_output=True)
    assert found.stdout == b""


@pytest.mark.parametrize("damage", ["changed", "cut", "directory"])
def test_damaged_layer(damage: str, program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    source = put(plain, tmp_path, "cache/damaged", BASE, top("damaged"))
    told(program, source, "--cache", cache)
    path = cache / "layers" / sha256(BASE).replace(":", "/")
    if damage == "directory":
        path.unlink()
        (path / "x").mkdir(parents=True)
    else:
        path.write_bytes(path.read_bytes()[:-512] + (b"" if damage == "cut" else bytes(511) + b"x"))
    ended = program.run("build", source, "--cache", cache, "--unsecure", "-o", tmp_path / "out").good()
    assert "bootc-live: warning: " in ended.stderr
    assert sha256(BASE)[7:] in ended.stderr
    assert layers_in(cache) == {sha256(BASE), sha256(top("damaged"))}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that the big layer does not fit into."""
    with tmpfs(tmp_path / "disk", "size=2M,mode=0755") as mounted:
        yield mounted


def test_full_disk(program: ForkedProgram, plain: Registry, small_disk: Path, tmp_path: Path) -> None:
    cache = small_disk / "cache"
    source = put(plain, tmp_path, "cache/full", top("full"), BIG)
    ended = program.run("build", source, "--cache", cache, "--unsecure", "-o", tmp_path / "out").good()
    assert "could not be filled: No space left on device" in ended.stderr
    assert (tmp_path / "out/index.json").exists()
    assert layers_in(cache) <= {sha256(top("full"))}
    assert sorted(os.listdir(cache)) == ["layers"]
    # Where the cache is the only result, that is an error.
    ended = program.run("build", source, "--cache", cache, "--unsecure", "--workdir", tmp_path)
    assert "No space left on device" in ended.error(cache)
    ended = program.run("build", source, "--cache", cache, "--unsecure")
    ended.error("no space left")
    assert sorted(os.listdir(cache)) == ["layers"]


def test_largest_size(program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("one", "two", "three"):
        told(program, put(plain, tmp_path, f"cache/{name}", BIG, top(name)), "--cache", cache)
    assert len(layers_in(cache)) == 4
    last = put(plain, tmp_path, "cache/four", top("four"))
    os.utime(cache / "layers" / sha256(BIG).replace(":", "/"), (1, 1))
    told(program, last, "--cache", cache, "--max-size", "1")
    # The large one was used less recently than what this run put in.
    assert sha256(BIG) not in layers_in(cache)
    assert sha256(top("four")) in layers_in(cache)
    ended = program.run("build", put(plain, tmp_path, "cache/one", BIG), "--cache", cache, "--max-size=1", "--unsecure")
    assert "no layer of" in ended.error(cache)


def test_prune(program: ForkedProgram, plain: Registry, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    told(program, put(plain, tmp_path, "cache/prune", BIG, top("prune")), "--cache", cache)
    (cache / "mine").write_text("mine")
    # In the order of use, not of size or name.
    os.utime(cache / "layers" / sha256(BIG).replace(":", "/"), (1, 1))
    said = json.loads(program.run("prune", "--cache", cache, "--max-size", "1", "--json").good().stdout)
    assert (said["removed"], said["left"], said["removed_size"]) == (1, 1, len(BIG))
    assert layers_in(cache) == {sha256(top("prune"))}
    ended = program.run("prune", env={"CACHE_DIRECTORY": str(cache)}).good()
    assert ended.stdout.startswith("1 layers removed (")
    assert layers_in(cache) == set()
    assert (cache / "mine").read_text() == "mine"
    program.run("prune", "--cache", tmp_path / "none").error(tmp_path / "none", "does not exist")
    program.run("prune", "--cache", cache, "--max-size", "all").error("--max-size 'all'")
    assert program.run("prune").good().stdout.startswith("0 layers removed")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{a}", "--no-cache"), "nothing is to be made"),
        (("{tree}", "--cache", "{here}/c"), "files of this machine is not cached"),
        (("{zipped}", "--cache", "{here}/c"), "no layer of"),
        (("{a}", "--cache", "{a}"), "is not a directory"),
        (("{a}", "--cache", "{here}/no/such"), "cannot be made"),
        (("{a}", "--cache", "{open}"), "can be written to by other users"),
        (("{a}", "--cache", "{foreign}"), "belongs to another user"),
    ],
)
def test_refused(words: tuple[str, ...], said: str, program: ForkedProgram, tmp_path: Path) -> None:
    names = {name: tmp_path / name for name in ("a", "here", "tree", "zipped", "open", "foreign")}
    archive_of(names["a"], top("a"))
    names["zipped"].write_bytes(subprocess.run(["gzip", "-c", names["a"]], check=True, capture_output=True).stdout)
    for name in ("tree", "open", "foreign"):
        names[name].mkdir()
    names["open"].chmod(0o1777)
    os.chown(names["foreign"], 65534, 65534)
    names["here"] = tmp_path
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    program.run("build", *(word.format(**names) for word in words)).error(said)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_permission(program: ForkedProgram, nobody: Program, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of root's is an error for others if it was named, and left alone if it was not."""
    place = tmp_path_factory.mktemp("shared")
    for path in (place, *place.parents[:2]):
        path.chmod(0o755)
    work = place / "work"
    work.mkdir()
    os.chown(work, 65534, 65534)
    source = archive_of(place / "a.oci", top("a"))
    cache = Path("/var/cache/bootc-live")
    program.run("build", source).good()
    assert cache.stat().st_mode & 0o7777 == 0o700
    assert layers_in(cache) == {sha256(top("a"))}
    for wanted in (cache, cache / "layers", place / "new"):
        nobody.run("build", source, "-o", work / "x", "--cache", wanted).error("--cache")
    ended = nobody.run("build", source, "-o", work / "x").good()
    assert "warning" not in ended.stderr
    nobody.run("build", source).error(cache)
    nobody.run("prune").error(cache)
    # Whoever has the right uses it without being told.
    said = json.loads(program.run("build", source, "-o", place / "y", "--json").good().stdout)
    assert said["cache"]["used"] == 1
    shutil.rmtree(cache)


def test_two_at_once(spawned: Program, plain: Registry, tmp_path: Path) -> None:
    cache, source = tmp_path / "cache", put(plain, tmp_path, "cache/both", BIG, BASE, top("both"))
    words = ("build", source, "--unsecure", "--cache", cache)
    with (
        spawned.started(*words, log=tmp_path / "log1") as one,
        spawned.started(*words, log=tmp_path / "log2") as two,
    ):
        assert one.wait(120) == two.wait(120) == 0, (tmp_path / "log1").read_text() + (tmp_path / "log2").read_text()
    assert layers_in(cache) == {sha256(BIG), sha256(BASE), sha256(top("both"))}
    assert sorted(os.listdir(cache)) == ["layers"]


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.long)])
@pytest.mark.parametrize("all_of_it", [False, True], ids=["term", "kill"])
def test_killed(
    all_of_it: bool, every: int, spawned: Program, program: ForkedProgram, plain: Registry, tmp_path: Path
) -> None:
    """Killed at any moment: no half layer has a name of one; what is left in the way goes with the next run."""
    cache, source = tmp_path / "cache", put(plain, tmp_path, "cache/killed", BIG, BASE, top("killed"))
    words = ("build", source, "--unsecure", "--cache", cache)
    began = time.monotonic()
    spawned.run(*words).good()
    whole = time.monotonic() - began
    seen: set[str] = set()
    for number in range(0, 12, every):
        shutil.rmtree(cache)
        with spawned.started(*words, log=tmp_path / "log") as process:
            try:
                process.wait(whole * (0.4 + 0.05 * number))
            except subprocess.TimeoutExpired:
                if all_of_it:
                    process.send_signal(signal.SIGKILL)
                else:
                    process.terminate()
            process.wait(60)
        time.sleep(0.1)
        if not cache.exists():
            cache.mkdir(0o700)
        layers_in(cache)
        left = [name for name in os.listdir(cache) if name != "layers"]
        assert all_of_it or not left
        seen.update(name[:5] for name in left)
        if number % 2:
            program.run(*words).good()
            assert len(layers_in(cache)) == 3
        else:
            program.run("prune", "--cache", cache).good()
            assert layers_in(cache) == set()
        assert set(os.listdir(cache)) <= {"layers"}
    assert seen <= {"work."}
