"""The contracts of the pipeline: any sink, any landing, and one plan that is planned, built and recorded."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from bootc_live.base.errors import LandingError
from bootc_live.base.log import Recorder
from bootc_live.config.model import Config, Layout
from bootc_live.config.source_spec import parse_source
from bootc_live.image.recipe import IntoSink
from bootc_live.image.sink import DataFile, LayerPlace, LayerProgress
from bootc_live.image.size.unpacked import ANNOTATIONS
from bootc_live.landing.protocol import Receipt
from bootc_live.pipeline import fetch, land
from bootc_live.receipt.receipt import Figures, make_receipt
from bootc_live.rootfs import build
from bootc_live.rootfs.build import root_builder
from bootc_live.rootfs.memory.host import MemoryRoom, present_means
from bootc_live.rootfs.memory.need import RESERVE
from bootc_live.source.access import Access
from tests.lib.acquiring import QUICK
from tests.lib.oci_writer import Compression, Image, Layer, write_archive
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, layer

MIB = 2**20
NOISE = random.Random(13)
TARS = [layer(directory("etc/"), file("etc/one", "1")), layer(file("noise", NOISE.randbytes(300_000)))]


def image(unpacked: int, compression: Compression = "gzip") -> Image:
    """An image whose larger layer says that it unpacks to so many MiB."""
    sized = Layer(TARS[1], compression, annotations={ANNOTATIONS[0]: str(unpacked * MIB)})
    return Image([Layer(TARS[0], compression), sized], architecture=HERE)


# What of this fits into the room below: any layout, only some, none.
SIZES = {"small": 4, "large": 60, "huge": 600}


class Sizes(DataFile):
    """A toy sink: the sizes of layers that were verified."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.now = 0

    @contextmanager
    def layer(self, place: LayerPlace) -> Iterator[LayerProgress]:
        yield self
        self.sizes[place.diff_id] = self.now

    def end(self, size: int) -> None:
        self.now = size


class Aboard:
    """A toy landing: `log` is what was called; one of the steps fails."""

    def __init__(self, fails: str = "") -> None:
        self.log: list[str] = []
        self.fails = fails

    def _step(self, name: str) -> None:
        self.log.append(name)
        if name == self.fails:
            raise LandingError(f"{name} failed", hint="none")

    def check(self) -> None:
        self._step("check")

    def examine(self, made: str) -> list[str]:
        self._step("examine")
        return [f"{made} is old"]

    def prepare(self, made: str, receipt: Receipt) -> str:
        assert receipt == {"of": made, "measured": None}
        self._step("prepare")
        return f"{made} can go up"

    def commit(self) -> str:
        self._step("commit")
        return "it is up"

    def undo(self) -> None:
        self._step("undo")


def access(directory: Path) -> Access:
    return Access(lambda _: None, policy=QUICK, directory=str(directory))


def test_any_sink(tmp_path: Path) -> None:
    sink, recorder = Sizes(), Recorder(quiet=True)
    source = parse_source(str(write_archive(tmp_path / "image.oci", image(4))))
    fetched = fetch([source], access(tmp_path), IntoSink(str(tmp_path / "data"), sink), recorder)
    assert sink.sizes == {made.diff_id: made.size for made in fetched.image.layers}


@pytest.mark.parametrize(
    ("fails", "dry_run", "called"),
    [
        ("", False, "examine prepare commit undo"),
        ("", True, "examine prepare undo"),
        ("examine", False, "examine"),
        ("prepare", False, "examine prepare undo"),
        ("commit", False, "examine prepare commit undo"),
    ],
)
def test_any_landing(fails: str, dry_run: bool, called: str) -> None:
    landing, recorder = Aboard(fails), Recorder(quiet=True)
    with pytest.raises(LandingError, match=fails) if fails else nullcontext():
        land(Config(), recorder, landing, "Titan", [], lambda made: {"of": made}, dry_run=dry_run)
    assert landing.log == called.split()
    assert recorder.warnings == ([] if fails == "examine" else ["Titan is old"])


def broken(where: Path, stage: str, size: str) -> Path:
    """A source that fails at one stage: look-up, planning, amid a layer, or at its digest."""
    if stage == "resolve":
        return where / "missing.oci"
    if stage == "plan":
        return write_archive(where / "plan.oci", image(SIZES["huge"]))
    made = write_archive(where / f"{stage}.oci", image(SIZES[size], "none"))
    content = bytearray(made.read_bytes())
    at = content.index(TARS[1])
    if stage == "digest":
        content[at + len(TARS[1]) - 2000] ^= 1
    else:
        # The header of its only member.
        content[at : at + 512] = b"x" * 512
    made.write_bytes(content)
    return made


# Layers of the last two may have been consumed.
STAGES = ("resolve", "plan", "fetch", "digest")


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("stages", [*((stage,) for stage in STAGES), *itertools.permutations(STAGES, 2)], ids="-".join)
def test_what_is_planned_is_built_and_recorded(
    stages: tuple[str, ...], size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever sources failed before, and whatever was chosen for them: layers may have been consumed for another."""
    config = Config(layout=Layout.AUTO, selinux=False)
    room = MemoryRoom(RESERVE + 50 * MIB, RESERVE + 500 * MIB, config.backing)
    monkeypatch.setattr(build, "present_room", lambda *_: room)
    other = "small" if size == "large" else "large"
    sources = [broken(tmp_path, stage, other) for stage in stages]
    sources.append(write_archive(tmp_path / "good.oci", image(SIZES[size])))
    recorder, where = Recorder(quiet=True), tmp_path / "work"
    where.mkdir()
    with root_builder(config, str(where), recorder, present_means(), ours=True) as builder:
        specs = [parse_source(str(source)) for source in sources]
        fetched = fetch(specs, access(where), builder, recorder)
        built = builder.build(fetched.plan.option, fetched.image)
    receipt = make_receipt(config, fetched, Figures(fetched.plan, built, 0, {}), recorder)
    root = receipt["root"]
    assert isinstance(root, dict)
    assert fetched.plan.option.layout == built.layout == receipt["layout"]
    assert fetched.plan.option.compress == root["compression"]
    assert bool(built.library) is (root["compression"] != "none")
    assert str(fetched.plan.option) in str(root["why"])
    assert [bool(attempt.error) for attempt in fetched.attempts] == [True] * len(stages) + [False]


def test_the_room_above_makes_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the test before this one is about several layouts."""
    config = Config(layout=Layout.AUTO, selinux=False)
    monkeypatch.setattr(
        build, "present_room", lambda *_: MemoryRoom(RESERVE + 50 * MIB, RESERVE + 500 * MIB, config.backing)
    )
    chosen = []
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
        source = write_archive(tmp_path / f"{name}.oci", image(SIZES[name]))
        with root_builder(config, str(tmp_path / name), Recorder(quiet=True), present_means(), ours=True) as builder:
            fetched = fetch([parse_source(str(source))], access(tmp_path), builder, Recorder(quiet=True))
        chosen.append(fetched.plan.option.layout)
    assert chosen == [Layout.INDEX, Layout.EROFS]
