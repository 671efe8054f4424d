"""What the tools of a guest make of their arguments."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.guest.map_arguments import parse_map_arguments
from bootc_live.config.guest.model import IdRange
from bootc_live.landing.guest.tools.overlay import quoted

LAST = 2**32 - 2


@pytest.mark.parametrize(
    ("texts", "users", "groups"),
    [
        (["b:0:1000000:65536"], [(0, 1000000, 65536)], [(0, 1000000, 65536)]),
        (["both:0:5:1"], [(0, 5, 1)], [(0, 5, 1)]),
        (["u:0:5:1", "g:1:6:2"], [(0, 5, 1)], [(1, 6, 2)]),
        (["uid:0:5:1", "gid:1:6:2", "b:9:9:9"], [(0, 5, 1), (9, 9, 9)], [(1, 6, 2), (9, 9, 9)]),
        # Users and groups are counted apart, and ranges may meet.
        (["u:0:1:1", "g:0:1:1", "u:1:2:1"], [(0, 1, 1), (1, 2, 1)], [(0, 1, 1)]),
        ([f"b:0:0:{LAST + 1}"], [(0, 0, LAST + 1)], [(0, 0, LAST + 1)]),
        ([f"b:{LAST}:7:1"], [(LAST, 7, 1)], [(LAST, 7, 1)]),
        ([f"b:{n}:{n}:1" for n in range(340)], [(n, n, 1) for n in range(340)], [(n, n, 1) for n in range(340)]),
    ],
)
def test_map(texts: list[str], users: list[tuple[int, int, int]], groups: list[tuple[int, int, int]]) -> None:
    read = parse_map_arguments(texts)
    assert read.users == tuple(IdRange(*numbers) for numbers in users)
    assert read.groups == tuple(IdRange(*numbers) for numbers in groups)


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        (["b:0:1000000"], "'b:0:1000000'"),
        (["b:0:1000000:1:1"], "'b:0:1000000:1:1'"),
        ([""], "''"),
        (["x:0:1:1"], "'x:0:1:1'"),
        (["B:0:1:1"], "'B:0:1:1'"),
        (["0:1:1"], "'0:1:1'"),
        (["b:-1:1:1"], "'b:-1:1:1'"),
        (["b:0x1:1:1"], "'b:0x1:1:1'"),
        (["b: 1:1:1"], "'b: 1:1:1'"),
        (["b:²:1:1"], "'b:²:1:1'"),
        (["b:1:1:"], "'b:1:1:'"),
        (["b:1:1:0"], "'b:1:1:0' has no ID"),
        ([f"b:{LAST}:7:2"], f"{LAST}:7:2' has no ID, or goes beyond"),
        ([f"b:7:{LAST + 1}:1"], f"7:{LAST + 1}:1' has no ID, or goes beyond"),
        (["b:7:4294967296:1"], "'b:7:4294967296:1'"),
        (["/proc/1/ns/user"], "'/proc/1/ns/user'"),
        (["u:0:1:1"], "'u:0:1:1' has no groups"),
        (["g:0:1:1", "g:5:6:1"], "'g:0:1:1 g:5:6:1' has no users"),
        (["b:0:10:5", "b:4:20:1"], "'b:0:10:5' and --map 'b:4:20:1' have users in common"),
        (["b:0:10:5", "b:7:14:1"], "'b:0:10:5' and --map 'b:7:14:1' have users in common"),
        (["b:0:10:5", "g:7:14:1"], "'b:0:10:5' and --map 'g:7:14:1' have groups in common"),
        (["b:0:10:5", "b:0:10:5"], "'b:0:10:5' and --map 'b:0:10:5' have users in common"),
        ([f"b:{n}:{n}:1" for n in range(341)], "341 ranges"),
        ([f"b:{2**31 + 2 * n}:{2**31 + 2 * n}:1" for n in range(200)], "200 ranges of users in --map are too long"),
    ],
)
def test_no_map(texts: list[str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_map_arguments(texts)
    assert named in caught.value.message


@pytest.mark.parametrize(
    ("path", "option"),
    [("/a b", "/a b"), ("/a,b", r"/a\,b"), ("/a:b", r"/a\:b"), ("/a\\b", r"/a\\b"), ("/\\,:=", r"/\\\,\:=")],
)
def test_paths_are_options_of_an_overlay(path: str, option: str) -> None:
    assert quoted(path) == option


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("init", ["--check", "--config", "/no/file.yml"], "'/no/file.yml' cannot be read"),
        ("overlay", ["--path", "/no/root"], "--path '/no/root' cannot be used"),
        ("idmap", ["--map", "b:0:1:1", "/no/source", "/"], "SRC '/no/source' cannot be used"),
        ("mount-idmapped", ["--map-mount=b:0:1:1", "/no/source", "/"], "SRC '/no/source' cannot be used"),
        ("initctl", ["one"], "PID 'one' is not a number"),
        ("tolerant", ["/no/part"], "'/no/part' cannot be run"),
        ("bootc-live", ["guest", "overlay", "--path", "/no/root"], "--path '/no/root' cannot be used"),
        ("other.pyz", ["guest", "overlay", "--path", "/no/root"], "--path '/no/root' cannot be used"),
    ],
)
def test_names_of_the_program(zipapp: Path, tmp_path: Path, name: str, words: list[str], said: str) -> None:
    """A link to the program is a tool, or the init of a container."""
    (tmp_path / name).symlink_to(zipapp)
    done = subprocess.run([tmp_path / name, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert said in done.stderr
