"""dm-verity as the kernel does it: what is read is checked, and devices go away. tests/vm/test_own_kernel.py runs this.

All devices of the kernel that it runs on must be ours.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bootc_live.base.errors import RunError
from bootc_live.config.model import Compression
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.system.cleanup.guard import EndedError, run_in_child
from bootc_live.system.devices import verity
from tests.lib.booted import booted
from tests.lib.building import Building
from tests.lib.leaks import SETTLE_SECONDS
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE
from tests.lib.tar_writer import file, layer
from tests.lib.tree_list import differences, tree_list

BLOCK: Final = 4096
CONTENT: Final = random.Random(1).randbytes(100 * BLOCK)
NOUGHT: Final = "0" * 64


@pytest.fixture(autouse=True)
def no_devices() -> Iterator[None]:
    """Fails a test that leaves a device."""
    assert _devices() == []
    yield
    deadline = time.monotonic() + SETTLE_SECONDS
    while _devices() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _devices() == []


def _devices() -> list[str]:
    return [path.name for path in Path("/sys/block").glob("dm-*")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with a file that nothing makes smaller."""
    layers = [Layer(BASE), Layer(layer(file("large", CONTENT)))]
    return write_archive(tmp_path_factory.mktemp("verity") / "image.oci", Image(layers, architecture=HERE))


@pytest.mark.parametrize("more", ["", "bootc.live.compress=lz4", "rw"])
def test_boot(more: str, program: Program, archive: Path, tmp_path: Path) -> None:
    kargs = f"root=bootc-live:{archive} bootc.live.layout=erofs {more}"
    with booted(program, kargs, tmp_path / "plain") as plain:
        assert (plain.receipt["root"]["root_hash"], _devices()) == (None, [])
        want = tree_list(plain.root)
    with booted(program, f"{kargs} bootc.live.verity", tmp_path / "checked") as made:
        (name,) = _devices()
        assert Path(f"/sys/block/{name}/ro").read_text() == "1\n"
        if more != "rw":
            assert made.mounts["/"].source == f"/dev/{name}"
        assert len(made.receipt["root"]["root_hash"]) == 64
        assert not differences(want, tree_list(made.root))


def test_root_hash_can_be_pinned(program: Program, archive: Path, tmp_path: Path) -> None:
    """The verb that makes the file tells what a boot has; another root hash is refused."""
    told = program.run("erofs", archive, tmp_path / "made").good().stderr
    (argument,) = [word for word in told.split() if word.startswith("bootc.live.verity.roothash=")]
    kargs = f"root=bootc-live:{archive} bootc.live.erofs"
    with booted(program, f"{kargs} {argument}", tmp_path / "right") as made:
        assert made.receipt["root"]["root_hash"] == argument.partition("=")[2]
        assert len(_devices()) == 1
    wrong = f"bootc.live.verity.roothash={NOUGHT}"
    (tmp_path / "root").mkdir()
    target = ("--sysroot", tmp_path / "root", "--receipt", tmp_path / "receipt.json")
    ended = program.run("boot", "--cmdline", f"{kargs} {wrong}", *target)
    ended.error(archive, f"has the root hash {argument.partition('=')[2]}, but '{wrong}' is required")
    assert list((tmp_path / "root").iterdir()) == []


@pytest.fixture(params=[Compression.NONE, pytest.param(Compression.LZ4, marks=pytest.mark.long)])
def built(request: pytest.FixtureRequest, archive: Path, tmp_path: Path) -> tuple[BuiltRoot, Path]:
    """A root that was not mounted yet, and its file."""
    building = Building(tmp_path, request.param, verity=True)
    return building.make(archive), building.image


def change(image: Path, offset: int) -> None:
    """Change one bit of a file."""
    with image.open("r+b") as opened:
        byte = os.pread(opened.fileno(), 1, offset)[0]
        os.pwrite(opened.fileno(), bytes([byte ^ 1]), offset)


def whole(built: BuiltRoot, place: Path) -> None:
    """Mount a root, and read all of it; raises OSError and RunError."""
    place.mkdir(exist_ok=True)
    with built.mount(str(place), ""):
        for path in sorted(place.rglob("*")):
            if path.is_file() and not path.is_symlink():
                path.read_bytes()
        assert (place / "large").read_bytes() == CONTENT


@pytest.mark.parametrize("where", ["super block", "data", "metadata", "leaves", "top"])
def test_a_changed_bit_is_an_error(where: str, built: tuple[BuiltRoot, Path], tmp_path: Path) -> None:
    made, image = built
    content = image.read_bytes()
    assert len(content) > made.size
    offsets = {
        "super block": 1024 + 64,
        "data": content.index(CONTENT[50 * BLOCK : 50 * BLOCK + 64]),
        "metadata": made.size - made.metadata + 32,
        "leaves": len(content) - BLOCK,
        "top": made.size,
    }
    whole(made, tmp_path / "root")
    change(image, offsets[where])
    with pytest.raises((OSError, RunError)) as caught:
        whole(made, tmp_path / "root")
    assert not isinstance(caught.value, OSError) or caught.value.errno == errno.EIO
    change(image, offsets[where])
    whole(made, tmp_path / "root")


def test_a_bit_that_changes_later_is_an_error(built: tuple[BuiltRoot, Path], tmp_path: Path) -> None:
    """In the memory of a root that is mounted, and was not read yet."""
    made, image = built
    offset = image.read_bytes().index(CONTENT[50 * BLOCK : 50 * BLOCK + 64])
    (tmp_path / "root").mkdir()
    with made.mount(str(tmp_path / "root"), ""):
        change(image, offset)
        with pytest.raises(OSError, match="Input/output error"):
            (tmp_path / "root/large").read_bytes()


# What the child does with a device, once its parent has made it.
STEPS: Final = (verity._LOAD, verity._RESUME, verity._REMOVE)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=["load", "resume", "remove"])
def test_killed_at_each_step(
    step: int, after: bool, built: tuple[BuiltRoot, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No device stays, as the fixture above sees."""
    control, parent = verity._control, os.getpid()

    def dying(command: int, *rest: Any) -> int:
        ending = command == step and os.getpid() != parent
        if ending and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = control(command, *rest)
        if ending:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def work() -> int:
        with built[0].mount(str(tmp_path / "root"), ""):
            return 0

    (tmp_path / "root").mkdir()
    monkeypatch.setattr(verity, "_control", dying)
    with pytest.raises(EndedError, match="SIGKILL"):
        run_in_child(work)
