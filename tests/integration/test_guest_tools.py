"""The tools of a guest, as root in namespaces: owners, overlays; and that nothing is mounted if they fail."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lib.program import ENVIRONMENT, Ended, Program

SPECIAL = ("a,b:c\\d", "a\\,b\\:c\\", "a=b,lowerdir=", "ü \n\t'\"")
MAP = "b:0:1000000:65536"
CAPABILITIES = "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"
TMPFS_SIZE = 4


def mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()


@contextmanager
def unmounting(place: Path) -> Iterator[None]:
    """Unmounts, after the block, the one thing that a tool has mounted at a place."""
    try:
        yield
    finally:
        assert ctypes.CDLL(None).umount2(os.fsencode(place), 0) == 0, f"nothing is mounted at {place}"
    assert not os.path.ismount(place), f"a second thing is mounted at {place}"


def owner(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A directory with a file of 5:6 and a link, and an empty one."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("text")
    (source / "link").symlink_to("file")
    for name in ("file", "link"):
        os.chown(source / name, 5, 6, follow_symlinks=False)
    return source, target


@pytest.mark.parametrize(
    "words",
    [
        ["--map", MAP],
        [f"--map-mount={MAP}"],
        ["--map", "u:0:1000000:65536", "--map", "g:0:1000000:65536"],
        ["--map", "b:0:1000000:5", "--map", "u:5:1000005:1", "--map", "g:5:1000005:10"],
    ],
)
def test_owners_from_both_sides(program: Program, pair: tuple[Path, Path], words: list[str]) -> None:
    source, target = pair
    program.run("guest", "idmap", *words, source, target).good()
    with unmounting(target):
        assert owner(target) == (1000000, 1000000)
        assert owner(target / "file") == owner(target / "link") == (1000005, 1000006)
        assert owner(source / "file") == (5, 6)
        # Who may write has the outer ID, and what is stored is the inner one.
        script = "echo new >made && stat -c '%u %g' made"
        argv = ["setpriv", "--reuid=1000000", "--regid=1000000", "--clear-groups", "sh", "-c", script]
        done = subprocess.run(argv, cwd=target, capture_output=True, text=True, check=True)
        assert done.stdout == "1000000 1000000\n"
        assert owner(source / "made") == (0, 0)
        with pytest.raises(OSError, match="too large"):
            # The machine's root has no ID on the mount.
            (target / "foreign").touch()


def test_owners_of_a_user_namespace(program: Program, pair: tuple[Path, Path]) -> None:
    source, target = pair
    program.run("guest", "idmap", "--map", MAP, source, target).good()
    script = "stat -c '%u %g' file && touch inside && stat -c '%u %g' inside"
    ranges = "0:1000000:65536"
    argv = ["unshare", "--user", f"--map-users={ranges}", f"--map-groups={ranges}", "--setuid=0", "--setgid=0"]
    with unmounting(target):
        command = [*argv, "sh", "-c", script]
        done = subprocess.run(command, cwd=target, capture_output=True, text=True, check=False)
        assert done.stdout == "5 6\n0 0\n", done.stderr
        assert owner(target / "inside") == (1000000, 1000000)
        assert owner(source / "inside") == (0, 0)


def test_onto_itself_and_a_file(program: Program, pair: tuple[Path, Path]) -> None:
    source, target = pair
    program.run("guest", "idmap", "--map", MAP, source, source).good()
    with unmounting(source):
        assert owner(source / "file") == (1000005, 1000006)
    (target / "place").touch()
    program.run("guest", "idmap", "--map", MAP, source / "file", target / "place").good()
    with unmounting(target / "place"):
        assert owner(target / "place") == (1000005, 1000006)


@pytest.mark.parametrize("recursive", [False, True])
def test_mounts_below(program: Program, pair: tuple[Path, Path], *, recursive: bool) -> None:
    source, target = pair
    (source / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "below", source / "below"], check=True)
    try:
        (source / "below/inner").touch()
        program.run("guest", "idmap", "--map", MAP, *["--recursive"] * recursive, source, target).good()
        if recursive:
            assert owner(target / "below/inner") == (1000000, 1000000)
            subprocess.run(["umount", target / "below"], check=True)
        assert not (target / "below/inner").exists()
        subprocess.run(["umount", target], check=True)
    finally:
        subprocess.run(["umount", source / "below"], check=True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--map", MAP, "/proc", "TARGET"], ("'/proc'", "'proc'")),
        (["--map", MAP, "/", "TARGET"], ("'/'", "'overlay'")),
        (["--map", MAP, "/nowhere", "TARGET"], ("SRC", "'/nowhere'")),
        (["--map", MAP, "SOURCE", "/nowhere"], ("DST", "'/nowhere'")),
        (["--map", MAP, "SOURCE/file", "TARGET"], ("is a directory",)),
        (["--map", MAP, "SOURCE", "TARGET/../source/file"], ("is a directory",)),
        (["--map", MAP, "--map", "b:10:20:1", "SOURCE", "TARGET"], ("'b:10:20:1'", "in common")),
        (["--map", "u:0:1000:1", "SOURCE", "TARGET"], ("no groups",)),
        (["--map", "", "SOURCE", "TARGET"], ("''",)),
    ],
)
def test_no_map_and_no_mount(
    program: Program, pair: tuple[Path, Path], words: list[str], named: tuple[str, ...]
) -> None:
    source, target = map(str, pair)
    before = mounts()
    ended = program.run("guest", "idmap", *(word.replace("SOURCE", source).replace("TARGET", target) for word in words))
    ended.error(*named)
    assert mounts() == before


def test_mapped_twice(program: Program, pair: tuple[Path, Path]) -> None:
    source, target = pair
    program.run("guest", "idmap", "--map", MAP, source, source).good()
    with unmounting(source):
        program.run("guest", "idmap", "--map", MAP, source, target).error(source, "mapped already")


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (["setpriv", *CAPABILITIES], ["idmap", "--map", MAP, "SOURCE", "TARGET"]),
        (["setpriv", *CAPABILITIES], ["overlay", "--path", "TARGET", "--cache", "CACHE", "SOURCE"]),
        (["setpriv", *CAPABILITIES], ["overlay", "--path", "TARGET", "--volatile", "SOURCE"]),
        (["unshare", "--user", "--map-root-user"], ["idmap", "--map", "b:0:0:1", "SOURCE", "TARGET"]),
        (["unshare", "--user", "--map-root-user"], ["overlay", "--path", "TARGET", "--cache", "CACHE", "SOURCE"]),
        (["unshare", "--user", "--map-root-user", "--mount"], ["idmap", "--map", "b:0:0:1", "SOURCE", "TARGET"]),
        (["unshare", "--user", "--map-root-user", "--mount"], ["idmap", "--map", "b:0:7:1", "SOURCE", "TARGET"]),
    ],
)
def test_without_privileges(zipapp: Path, pair: tuple[Path, Path], before: list[str], words: list[str]) -> None:
    source, target = map(str, pair)
    cache = f"{source}.cache"
    named = {"SOURCE": source, "TARGET": target, "CACHE": f"{cache}/a/b"}
    mounted = mounts()
    ended = Program(zipapp, before=before).run("guest", *(named.get(word, word) for word in words))
    message = ended.error()
    assert mounts() == mounted
    assert not os.path.lexists(cache)
    assert "as root" in message


@contextmanager
def system_call_missing(number: int) -> Iterator[list[str]]:
    """Yields a command that runs its arguments on a kernel without a system call, as seen by a filter (seccomp(2))."""
    yield ["python3", "-c", FILTER, str(number)]


# The filter: load the number, compare, return ENOSYS or allow (seccomp(2)).
FILTER = """
import ctypes, os, struct, sys
number = int(sys.argv[1])
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x50026), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = struct.pack("HP", len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.create_string_buffer(program)) == 0
os.execvp(sys.argv[2], sys.argv[2:])
"""


def test_kernel_without_mapped_mounts(zipapp: Path, pair: tuple[Path, Path]) -> None:
    before = mounts()
    with system_call_missing(442) as command:
        program = Program(zipapp, before=command)
        program.run("guest", "idmap", "--map", MAP, *pair).error("this kernel has no id-mapped mounts")
    assert mounts() == before


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """A place with a root of 7:8 and 0711, and two layers that change it."""
    for name in ("root", "one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "all").write_text(name)
        (tmp_path / name / f"only-{name}").touch()
    os.chown(tmp_path / "root", 7, 8)
    (tmp_path / "root").chmod(0o711)
    os.setxattr(tmp_path / "root", "user.note", b"kept")
    # An overlay would hide its layers below this.
    os.setxattr(tmp_path / "root", "trusted.overlay.opaque", b"y")
    return tmp_path


def overlay(program: Program, place: Path, *words: str | Path) -> Ended:
    return program.run("guest", "overlay", "--path", place / "root", *words, place / "one", place / "two")


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def check_stack(root: Path) -> None:
    assert (root / "all").read_text() == "two"
    assert names(root) == ["all", "only-one", "only-root", "only-two"]
    assert owner(root) == (7, 8)
    assert root.stat().st_mode & 0o7777 == 0o711
    assert os.getxattr(root, "user.note") == b"kept"


def test_changes_are_kept(program: Program, layers: Path) -> None:
    root, cache = layers / "root", layers / "deep/cache"
    overlay(program, layers, "--cache", cache).good()
    with unmounting(root):
        check_stack(root)
        (root / "made").write_text("x")
        (root / "only-one").unlink()
        (root / "all").write_text("changed")
    assert cache.stat().st_mode & 0o777 == 0o700
    assert names(cache / "upper") == ["all", "made", "only-one"]
    assert [(layers / name / "all").read_text() for name in ("root", "one", "two")] == ["root", "one", "two"]
    (cache / "upper").chmod(0o700)
    overlay(program, layers, "--cache", cache).good()
    with unmounting(root):
        assert names(root) == ["all", "made", "only-root", "only-two"]
        assert (root / "all").read_text() == "changed"
        # The attributes of the root are among the changes.
        assert root.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("words", [["--volatile"], ["--tmpfs", str(TMPFS_SIZE)]])
def test_changes_in_memory(program: Program, layers: Path, words: list[str]) -> None:
    root = layers / "root"
    for _ in range(2):
        overlay(program, layers, *words).good()
        with unmounting(root):
            check_stack(root)
            (root / "made").write_text("x")
            with (root / "large").open("wb") as file:
                if words[0] == "--tmpfs":
                    with pytest.raises(OSError, match="No space"):
                        file.write(bytes(2 * TMPFS_SIZE * 2**20))
                else:
                    file.write(bytes(2 * TMPFS_SIZE * 2**20))
    assert names(root) == ["all", "only-root"]
    assert names(layers) == ["one", "root", "two"]


def test_no_layers_are_a_writable_copy(program: Program, layers: Path) -> None:
    root = layers / "root"
    program.run("guest", "overlay", "--path", root, "--volatile").good()
    with unmounting(root):
        (root / "made").touch()
        assert names(root) == ["all", "made", "only-root"]
    assert names(root) == ["all", "only-root"]


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("memory", [False, True])
def test_names_of_directories(program: Program, tmp_path: Path, name: str, *, memory: bool) -> None:
    place = tmp_path / name
    for inner in ("root", "one", "two"):
        (place / inner).mkdir(parents=True)
        (place / inner / inner).touch()
    words = ["--volatile"] if memory else ["--cache", str(place / "cache")]
    overlay(program, place, *words).good()
    with unmounting(place / "root"):
        assert names(place / "root") == ["one", "root", "two"]
        if not memory:
            overlay(program, place, *words).error("--cache", "has the changes of the overlay at")


def test_mapped_layers(program: Program, layers: Path) -> None:
    """The predecessor's example: a root with mapped owners below layers."""
    root = layers / "root"
    program.run("guest", "idmap", f"--map-mount={MAP}", root, root).good()
    with unmounting(root):
        overlay(program, layers, "--cache", layers / "cache").good()
        with unmounting(root):
            assert owner(root) == (1000007, 1000008)
            assert owner(root / "only-root") == (1000000, 1000000)
            assert owner(root / "only-one") == (0, 0)


def test_links_are_followed(program: Program, layers: Path) -> None:
    (layers / "alias").symlink_to("root")
    (layers / "other").symlink_to("one")
    program.run("guest", "overlay", "--path", layers / "alias", "--volatile", layers / "other").good()
    with unmounting(layers / "root"):
        assert (layers / "root/all").read_text() == "one"


def test_relative_names(program: Program, layers: Path) -> None:
    for words in (["--volatile"], ["--cache", "cache"]):
        program.run("guest", "overlay", "--path", "root", *words, "one", cwd=layers).good()
        with unmounting(layers / "root"):
            assert (layers / "root/all").read_text() == "one"
    assert (layers / "cache/upper").is_dir()


def test_of_a_user_namespace(zipapp: Path, tmp_path: Path) -> None:
    """A container with a map may mount overlays, which note in other attributes what was removed."""
    for name in ("root/deep", "one"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/deep/file").touch()
    script = f"""
    python3 {zipapp} guest overlay --path {tmp_path}/root --volatile {tmp_path}/one &&
    rm -r {tmp_path}/root/deep && mkdir {tmp_path}/root/deep && ls -A {tmp_path}/root/deep && echo done
    """
    argv = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--path", "P/none"], ("--path", "P/none")),
        (["--path", "P/root/all"], ("--path", "is not a directory")),
        (["--path", "P/root", "P/none"], ("LAYER", "P/none")),
        (["--path", "P/root", "P/one/all"], ("LAYER", "is not a directory")),
        (["--path", "P/root", "P/root"], ("inside of each other",)),
        (["--path", "P/root", "P"], ("inside of each other",)),
        (["--path", "P/root", "P/one", "P/one/../one"], ("inside of each other",)),
        (["--path", "P/root", "--cache", "P/root/cache", "P/one"], ("inside of each other",)),
        (["--path", "P/root", "--cache", "P", "P/one"], ("inside of each other",)),
        (["--path", "P/root", "--cache", "P/one", "P/one"], ("inside of each other",)),
        (["--path", "P/root", "--cache", "P/one/all/x", "P/two"], ("--cache", "P/one/all/x")),
        (["--path", "P/root", "--cache", "/proc/cache", "P/one"], ("--cache", "'/proc/cache'")),
        (["--path", "P/root", "--cache", "", "P/one"], ("--cache ''",)),
        (["--path", "P/root", "--cache", "/cache/of/an/overlay", "P/one"], ("'overlay'",)),
        (["--path", "P/root", "--tmpfs", "0", "P/one"], ("--tmpfs '0'",)),
        (["--path", "P/root", "--tmpfs", "50%", "P/one"], ("--tmpfs '50%'",)),
        (["--path", "P/root", "--tmpfs", "1,mode=777", "P/one"], ("--tmpfs '1,mode=777'",)),
        (["--path", "P/root", "--cache", "P/cache", *(f"P/{'x' * 200}/{n}" for n in range(30))], ("too long",)),
    ],
)
def test_no_overlay(program: Program, layers: Path, words: list[str], named: tuple[str, ...]) -> None:
    words = [f"{layers}{word[1:]}" if word == "P" or word.startswith("P/") else word for word in words]
    for word in words:
        if "xxx" in word:
            os.makedirs(word)
    before, there = mounts(), names(layers)
    ended = program.run("guest", "overlay", *words)
    ended.error(*(f"{layers}{text[1:]}" if text.startswith("P/") else text for text in named))
    assert mounts() == before
    assert names(layers) == there
    assert not os.path.lexists("/cache")
