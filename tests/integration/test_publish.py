"""``bootc-live publish``: archives under names that never mean another image, and a pointer that comes last."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.lib.archive_servers import Files, archive_server
from tests.lib.boot_images import boot_image, kernel_layer
from tests.lib.disks import run
from tests.lib.oci_writer import Image, Layer, sha256, write_archive, write_layout
from tests.lib.program import ERROR, Program
from tests.lib.signing import Key
from tests.lib.small_image import BASE, HERE, small_image
from tests.lib.tar_writer import file, layer


def pointer(directory: Path) -> dict[str, Any]:
    """What the pointer in a directory says."""
    found: dict[str, Any] = json.loads((directory / "latest.json").read_text())
    return found


def whole(directory: Path) -> dict[str, Any]:
    """The pointer in a directory, whose archive other programs can read, and is the one that it says."""
    found = pointer(directory)
    archive = directory / found["file"]
    assert found["file"] == f"{found['digest'].removeprefix('sha256:')}.oci"
    assert found["size"] == archive.stat().st_size
    manifest = run("skopeo", "inspect", "--raw", f"oci-archive:{archive}")
    assert sha256(manifest.encode()) == found["digest"]
    assert archive.stat().st_mode & 0o777 == 0o644
    return found


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Archives of several images."""
    where = tmp_path_factory.mktemp("archives")
    images = (boot_image(layer(file("etc/number", str(number)))) for number in range(4))
    return [write_archive(where / f"{number}.oci", image) for number, image in enumerate(images)]


def test_copies_and_points(program: Program, archives: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new/os"
    ended = program.run("publish", archives[0], out, "--json").good()
    first = whole(out)
    assert json.loads(ended.stdout) == {name: value for name, value in first.items() if name != "version"}
    assert (out / first["file"]).read_bytes() == archives[0].read_bytes(), "it is copied as it is"
    assert sorted(path.name for path in out.iterdir()) == sorted([first["file"], "latest.json"])
    program.run("publish", archives[1], out).good()
    second = whole(out)
    assert second["digest"] != first["digest"]
    assert (out / first["file"]).exists(), "machines may be fetching it"
    inode = (out / first["file"]).stat().st_ino
    program.run("publish", archives[0], out).good()
    assert whole(out)["digest"] == first["digest"], "it points back"
    assert (out / first["file"]).stat().st_ino == inode, "a name is never written again"


@pytest.mark.parametrize("kind", ["layout", "docker-archive", "compressed", "one of several", "a pointer"])
def test_other_sources(kind: str, program: Program, archives: list[Path], tmp_path: Path) -> None:
    """What is no archive of one image becomes one."""
    out, options = tmp_path / "out", list[str]()
    source: str | Path = tmp_path / "source"
    if kind == "layout":
        write_layout(tmp_path / "source", small_image())
    elif kind == "docker-archive":
        run("skopeo", "copy", "-q", f"oci-archive:{archives[0]}", f"docker-archive:{source}:os:1")
    elif kind == "compressed":
        run("sh", "-c", f"gzip -1 <{archives[0]} >{source}")
    elif kind == "one of several":
        images = (Image([Layer(layer(file("a", name)))], name, HERE) for name in ("one", "two"))
        write_archive(tmp_path / "source", *images)
        options = ["--label", "two"]
    if kind != "a pointer":
        program.run("publish", source, out, *options).good()
        found = pointer(out) if kind == "compressed" else whole(out)
        assert [path.name for path in out.iterdir() if path.name != "latest.json"] == [found["file"]]
        return
    program.run("publish", archives[0], tmp_path / "first").good()
    with archive_server(Files(tmp_path / "first")) as server:
        program.run("publish", server.url("/latest.json"), out).good()
    whole(out)


def test_signatures_come_along(program: Program, archives: list[Path], tmp_path: Path) -> None:
    """They are those beside the archive, and machines find them there."""
    archive, out, key, another = (
        tmp_path / "os.oci",
        tmp_path / "out",
        *(Key(tmp_path, kind) for kind in ("p256", "p384")),
    )
    signer, other = (tmp_path / "signer.pub", tmp_path / "other.pub")
    signer.write_bytes(key.public.pem)
    other.write_bytes(another.public.pem)
    shutil.copy(archives[0], archive)
    (tmp_path / "os.oci.sigstore.json").write_bytes(key.bundle(archive.read_bytes()))
    program.run("publish", archive, out, "--key", signer).good()
    assert whole(out)["signatures"] == [f"{pointer(out)['file']}.sigstore.json"]
    with archive_server(Files(out)) as server:
        ended = program.run("inspect", server.url("/latest.json"), "--key", signer, "--json").good()
        assert json.loads(ended.stdout)["manifest_digest"] == pointer(out)["digest"]
        program.run("inspect", server.url("/latest.json"), "--key", other).error(
            "/latest.json", "has no valid signature"
        )
    before = (out / "latest.json").read_bytes()
    program.run("publish", archive, out, "--key", other).error(str(archive), "has no valid signature")
    assert (out / "latest.json").read_bytes() == before


def test_boots_from_a_pointer(program: Program, tmp_path: Path) -> None:
    """A boot from RAM follows it; machines that boot from a server get the archive that it names, with its digest."""
    archive = write_archive(tmp_path / "os.oci", boot_image(BASE, kernel_layer()))
    digest = json.loads(program.run("publish", archive, tmp_path / "out", "--json").good().stdout)["digest"]
    (tmp_path / "root").mkdir()
    with archive_server(Files(tmp_path / "out")) as server:
        cmdline = f"root=bootc-live:{server.url('/latest.json')}"
        ended = program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", tmp_path / "root").good()
        assert f"image {digest}" in ended.stderr
        ended = program.run("netboot", server.url("/latest.json"), "--output", tmp_path / "netboot").good()
        assert f"root=bootc-live:{server.url()}".replace("/images/root.oci", f"/{digest[7:]}.oci") in ended.stdout
        assert f"bootc.live.digest={digest}" in ended.stdout


def test_keeps_as_many(program: Program, archives: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    foreign = ("notes.oci", "0" * 63 + ".oci", "1" * 64 + ".txt")
    digests = []
    for archive in archives[:3]:
        program.run("publish", archive, out).good()
        digests.append(whole(out)["digest"])
    for name in foreign:
        (out / name).touch()
    (out / f"{digests[1].removeprefix('sha256:')}.oci.sig").touch()
    program.run("publish", archives[0], out).good()
    program.run("publish", archives[3], out, "--keep", "2").good()
    kept = {digests[0], whole(out)["digest"]}
    names = {f"{digest.removeprefix('sha256:')}.oci" for digest in kept}
    assert {path.name for path in out.iterdir()} == {*names, *foreign, "latest.json"}, "the two published last"


def test_mistakes(program: Program, archives: list[Path], tmp_path: Path) -> None:
    """Nothing changes then."""
    out = tmp_path / "out"
    program.run("publish", archives[0], out).good()
    found = whole(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    program.run("publish", archives[1], out, "--keep", "1").error("--keep 1")
    cut, padded = tmp_path / "cut.oci", tmp_path / "padded.oci"
    content = archives[1].read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    program.run("publish", cut, out).error(str(cut))
    padded.write_bytes(archives[0].read_bytes() + bytes(512))
    program.run("publish", padded, out).error(found["file"], "is another archive of the image")
    (tmp_path / "file").touch()
    program.run("publish", archives[0], tmp_path / "file").error("'" + str(tmp_path / "file"))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("times", [6, pytest.param(60, marks=pytest.mark.long)])
def test_killed(times: int, spawned: Program, archives: list[Path], tmp_path: Path) -> None:
    """Whenever it ends: there is a pointer, and what it points to is whole."""
    out, log = tmp_path / "out", tmp_path / "log"
    began = time.monotonic()
    spawned.run("publish", archives[0], out).good()
    spent, dice = time.monotonic() - began, random.Random(18)
    for number in range(times):
        with spawned.started("publish", archives[number % 4], out, log=log) as process:
            time.sleep(dice.uniform(0.2, 1.1) * spent)
            process.kill()
            process.wait()
        whole(out)
        assert ERROR not in log.read_text()
    program = spawned.run("publish", archives[0], out).good()
    assert not [path for path in out.iterdir() if path.name.startswith(".")], program.stderr
