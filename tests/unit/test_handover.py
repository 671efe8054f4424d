"""What one kernel leaves for the next, and an image taken from there."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError, ConfigError, ImageError
from bootc_live.base.log import Recorder
from bootc_live.base.units import MIB
from bootc_live.cli import boot
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Backing, Config, Layout
from bootc_live.config.next_kernel.handover import Handover, read_handover, stage_json
from bootc_live.config.source_spec import ArchiveFile, HandoverImage, parse_source
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.image.recipe import Fetched
from bootc_live.image.trust import TrustVerdict
from bootc_live.receipt.receipt import make_receipt
from bootc_live.receipt.two_kernels import both_stages
from bootc_live.rootfs.memory.host import MemoryRoom
from bootc_live.source import select
from bootc_live.source.access import Access
from bootc_live.source.archive.files import MemoryFiles
from bootc_live.source.archive.layout import LayoutSource
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.handover import HandoverSource
from tests.lib.acquiring import QUICK, contents
from tests.lib.fetching import plain
from tests.lib.oci_writer import Image, Layer, write_archive, write_layout
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer
from tests.unit.test_receipt import figures_of

TARS = [layer(file(name, name * 5000)) for name in ("one", "two", "three")]
IMAGE = Image([Layer(tar) for tar in TARS], architecture=HERE)


def handed(path: Path, rest: Path | None) -> HandoverImage:
    return HandoverImage(str(path), None if rest is None else parse_source(str(rest)), "docker://registry.example/os")


def acquired(where: Path, *specs: HandoverImage, pin: str | None = None) -> Fetched[None]:
    access = Access(lambda _: None, policy=QUICK, pin=pin)
    return plain(specs, access, where / "layers", Recorder(quiet=True))


def layer_files(layout: Path) -> list[Path]:
    """The blobs of layers, the largest first."""
    blobs = sorted((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    return [blob for blob in blobs if blob.read_bytes()[:1] != b"{"]


def test_nothing_was_handed_over(tmp_path: Path) -> None:
    assert read_handover(str(tmp_path / "stage.json")) is None


def test_written_and_read(tmp_path: Path) -> None:
    stage = tmp_path / "stage.json"
    stage.write_bytes(stage_json("sha256:ab", frozenset({"sha256:y", "sha256:x"}), {"kernel": "6.1"}))
    assert read_handover(str(stage)) == Handover("sha256:ab", None, ("sha256:x", "sha256:y"), {"kernel": "6.1"})
    (tmp_path / "image").mkdir()
    before = read_handover(str(stage))
    assert before is not None
    assert before.layout == str(tmp_path / "image")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"digest": null, "missing": 3, "receipt": {}}'])
def test_damaged_ones_are_an_error(content: str, tmp_path: Path) -> None:
    """They must not pass as none: then the kernel would be loaded again, and again."""
    stage = tmp_path / "stage.json"
    stage.write_text(content)
    with pytest.raises(ConfigError, match=r"stage\.json"):
        read_handover(str(stage))


def test_sources() -> None:
    asked = (parse_source("docker://registry.example/os"), parse_source("/x"))
    assert Handover("sha256:ab", None).sources(asked) == asked
    for missing, rest in (((), None), (("sha256:x",), asked[0])):
        first, *others = Handover("sha256:ab", "/layout", missing).sources(asked)
        assert first == HandoverImage("/layout", rest, asked[0].source_text)
        assert tuple(others) == asked


@pytest.mark.parametrize("used", ["docker://mirror.example/os", "/x"])
@pytest.mark.parametrize("layout", [None, "/layout"])
def test_the_source_that_gave_the_image_comes_first(layout: str | None, used: str) -> None:
    """Whatever is left to fetch: those before it failed a moment ago. The next kernel knows it by digest."""
    digest = "sha256:" + "ab" * 32
    pinned = f"{used}@{digest}" if used.startswith("docker") else used
    dead, good, last = (parse_source(text) for text in ("docker://registry.example/os", pinned, "/z"))
    found = Handover(digest, layout, ("sha256:x",), {"source": used}).sources((dead, good, last))
    if layout is not None:
        assert found[0] == HandoverImage(layout, good, good.source_text)
        found = found[1:]
    assert found == (good, dead, last)
    assert Handover(digest, None, (), {"source": "/elsewhere"}).sources((dead, good)) == (dead, good)


def test_all_comes_from_the_layout_and_goes_from_memory(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "image", IMAGE)
    found = acquired(tmp_path, handed(layout, None))
    assert contents(found.image) == TARS
    assert [attempt.error for attempt in found.attempts] == [None]
    assert found.image.resolved.source_text == "docker://registry.example/os"
    assert layer_files(layout) == []


def test_what_is_missing_comes_from_the_other_source(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "image", IMAGE)
    gone = layer_files(layout)[0]
    gone.unlink()
    rest = write_archive(tmp_path / "rest.oci", IMAGE)
    found = acquired(tmp_path, handed(layout, rest))
    assert contents(found.image) == TARS
    assert len(found.attempts) == 1


def test_a_damaged_blob_leads_to_the_next_source(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "image", IMAGE)
    blob = layer_files(layout)[1]
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    rest = write_archive(tmp_path / "rest.oci", IMAGE)
    with pytest.raises(ImageError, match="the previous kernel"):
        acquired(tmp_path, handed(layout, rest))
    access = Access(lambda _: None, policy=QUICK)
    specs = (handed(layout, rest), parse_source(str(rest)))
    found = plain(specs, access, tmp_path / "layers", Recorder(quiet=True))
    assert contents(found.image) == TARS
    assert [attempt.error is None for attempt in found.attempts] == [False, True]


def test_another_image_in_the_layout_is_refused(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "image", IMAGE)
    with pytest.raises(ImageError, match="allows"):
        acquired(tmp_path, handed(layout, layout), pin="sha256:" + "0" * 64)


@contextmanager
def compressed(path: Path) -> Iterator[Path]:
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    yield packed


def test_an_archive_that_is_read_once_cannot_give_the_rest(tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "image", IMAGE)
    layer_files(layout)[0].unlink()
    with (
        compressed(write_archive(tmp_path / "rest.oci", IMAGE)) as packed,
        pytest.raises(BootcLiveError, match="can only be read as a whole"),
    ):
        acquired(tmp_path, handed(layout, packed))


class Other(MemoryFiles):
    """Files that tell whether their reading was ended."""

    ended = False

    def interrupt(self) -> None:
        self.ended = True


@pytest.mark.parametrize("gone", [0, 1])
def test_what_ends_a_fetch_ends_that_of_the_rest(gone: int, tmp_path: Path) -> None:
    """Whether a blob of it has been asked for or not: the other source is open from the beginning."""
    layout = write_layout(tmp_path / "image", IMAGE)
    for blob in layer_files(layout)[:gone]:
        blob.unlink()
    files = Other({})
    source = HandoverSource(str(layout), "source", LayoutSource(files, "rest", None))
    source.interrupt()
    assert files.ended
    HandoverSource(str(layout), "source", None).interrupt()


def test_the_rest_is_opened_where_a_signal_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the main thread, and only where something is missing."""
    threads = []

    @contextmanager
    def opened(spec: ArchiveFile, _access: Access) -> Iterator[LayoutSource]:
        threads.append(threading.current_thread())
        with open_archive(spec.path, spec.source_text, None) as source:
            assert isinstance(source, LayoutSource)
            yield source

    monkeypatch.setattr(select, "open_source", opened)
    rest = write_archive(tmp_path / "rest.oci", IMAGE)
    for number, gone in enumerate((0, 2)):
        where = tmp_path / str(number)
        layout = write_layout(where / "image", IMAGE)
        for blob in layer_files(layout)[:gone]:
            blob.unlink()
        assert contents(acquired(where, handed(layout, rest if gone else None)).image) == TARS
    assert threads == [threading.main_thread()]


@pytest.mark.parametrize("here", [True, False])
def test_wrong_bytes_are_asked_for_elsewhere(here: bool, tmp_path: Path) -> None:
    """As of the other source itself, where it has several places; never of the directory."""
    layout = write_layout(tmp_path / "image", IMAGE)
    blob = layer_files(layout)[0]
    if not here:
        blob.unlink()

    class Mirrors(LayoutSource):
        def distrust(self, _descriptor: Descriptor) -> bool:
            return True

    source = HandoverSource(str(layout), "source", Mirrors(MemoryFiles({}), "rest", None))
    descriptor = Descriptor("application/octet-stream", f"sha256:{blob.name}", 1)
    assert source.distrust(descriptor) is not here
    assert (source.served_by(descriptor) is not None) is here


def test_receipt_of_both(tmp_path: Path) -> None:
    resolved = acquired(tmp_path, handed(write_layout(tmp_path / "image", IMAGE), tmp_path)).image.resolved
    assert both_stages(None, resolved) is None
    missing = resolved.manifest.layers[0]
    before = Handover("sha256:ab", "/layout", (missing.digest,), {"kernel": "6.1", "handed_over": 1.5})
    said = both_stages(before, resolved)
    assert said is not None
    assert said["first"] == before.receipt
    assert said["reused"] == resolved.compressed_size - missing.size
    assert json.dumps(said)
    fetched = both_stages(Handover("sha256:ab"), resolved)
    assert fetched is not None
    assert (fetched["reused"], fetched["seconds"]) == (0, None)
    # A clock that was set in between, or is none: it tells nothing.
    later = both_stages(Handover("sha256:ab", None, (), {"handed_over": 2.0**40}), resolved)
    assert later is not None
    assert later["seconds"] is None


@pytest.mark.parametrize("insecure", [False, True])
def test_who_could_choose_the_image_is_told(insecure: bool, tmp_path: Path) -> None:
    """The layout is as the first kernel left it; what that one took it from may have been anybody."""
    found = acquired(tmp_path, handed(write_layout(tmp_path / "image", IMAGE), tmp_path))
    before = Handover("sha256:ab", None, (), {"insecure": insecure})
    figures = figures_of(Layout.INDEX, MemoryRoom(900 * MIB, 1000 * MIB, Backing()), 0, {})
    fetched = Fetched(found.image, figures.plan, TrustVerdict(), found.attempts)
    receipt = make_receipt(Config(), fetched, figures, Recorder(quiet=True), before)
    policy = receipt["policy"]
    assert isinstance(policy, dict)
    assert policy["insecure"] is insecure


@pytest.mark.parametrize(
    ("before", "pin", "checked_again"),
    [
        (None, True, True),
        (Handover("sha256:ab"), False, False),
        # Of a docker-archive: only the first kernel's command line can name its digest.
        (Handover(None), True, False),
        (Handover(None), False, True),
    ],
)
def test_signatures_are_checked_by_one_kernel(
    before: Handover | None, pin: bool, checked_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image's initramfs need not have the key."""
    monkeypatch.setattr(boot, "raise_clock", lambda: None)
    pinned = f" bootc.live.digest=sha256:{'a' * 64}" if pin else ""
    config = parse_cmdline(f"root=bootc-live:/x bootc.trust.key=/nowhere/os.pub{pinned}")
    with pytest.raises(ConfigError, match=r"os\.pub") if checked_again else nullcontext():
        assert boot._access(config, Recorder(quiet=True), "/nowhere", before).trust.policies == ()
