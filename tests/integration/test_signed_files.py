"""Archives on a web server that the real cosign signed as files (``cosign sign-blob``)."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lib.archive_servers import PLACE, ArchiveServer, Asked, Reply, Stored, archive_server, flipped
from tests.lib.boot_images import boot_image
from tests.lib.cosign import Cosign, Key, cosigns
from tests.lib.oci_writer import Image, Layer, write_archive
from tests.lib.program import Ended, Program
from tests.lib.small_image import BASE, HERE, UPPER

ENDINGS = {".sigstore.json": "--bundle", ".sig": "--output-signature"}


@dataclass(frozen=True)
class Maker:
    """Both versions of cosign, two keys, and an archive."""

    cosigns: list[Cosign]
    key: Key
    other: Key
    archive: Path

    def beside(self, cosign: Cosign, ending: str, key: Key | None = None) -> bytes:
        """What a version of cosign writes for an ending."""
        made = self.archive.with_name(f"made-{cosign.version}{ending}")
        form = f"--new-bundle-format={str(ending != '.sig').lower()}"
        cosign.sign_file(self.archive, key or self.key, form, ENDINGS[ending], str(made))
        return made.read_bytes()


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    where = tmp_path_factory.mktemp("files")
    both = cosigns(where)
    archive = write_archive(where / "os.oci", Image([Layer(BASE), Layer(UPPER)], architecture=HERE))
    return Maker(both, both[0].key("key"), both[0].key("other"), archive)


def booted(
    program: Program, where: Path, key: Key, archive: bytes, beside: Mapping[str, bytes]
) -> tuple[Ended, ArchiveServer]:
    """A dry run of a boot from a web server that has the archive and files whose names begin with its name."""
    root = where / "root"
    root.mkdir(exist_ok=True)
    stored = Stored(archive)

    def answer(asked: Asked) -> Reply:
        if asked.path == PLACE:
            return stored(asked)
        found = beside.get(asked.path.removeprefix(PLACE))
        return Reply(404) if found is None else Reply(200, found)

    with archive_server(answer) as served:
        cmdline = f"root=bootc-live:{served.url()} bootc.trust.key={key.public}"
        return program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", root), served


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("version", [2, 3])
def test_what_cosign_writes(version: int, ending: str, program: Program, maker: Maker, tmp_path: Path) -> None:
    (cosign,) = (one for one in maker.cosigns if one.version == version)
    archive, beside = maker.archive.read_bytes(), {ending: maker.beside(cosign, ending)}
    ended, served = booted(program, tmp_path, maker.key, archive, beside)
    assert "can be attached" in ended.good().stderr
    assert sum(asked.path == PLACE for asked in served.asked) <= 2, "it is read once"
    booted(program, tmp_path, maker.other, archive, beside)[0].error("by none of the keys")
    changed = flipped(archive, len(archive) - 1)
    booted(program, tmp_path, maker.key, changed, beside)[0].error(
        "by none of the keys" if ending == ".sig" else "that of another file"
    )


@pytest.mark.parametrize("kind", ["p384", "rsa", "ed25519"])
@pytest.mark.parametrize("version", [2, 3])
def test_kinds_of_keys(version: int, kind: str, program: Program, maker: Maker, tmp_path: Path) -> None:
    (cosign,) = (one for one in maker.cosigns if one.version == version)
    key = maker.cosigns[-1].key(f"{kind}-{version}", kind)
    for ending in ENDINGS:
        beside = {ending: maker.beside(cosign, ending, key)}
        ended, _ = booted(program, tmp_path, key, maker.archive.read_bytes(), beside)
        if kind == "ed25519":
            ended.error("Ed25519 keys")
        else:
            ended.good()


def test_the_old_bundle(program: Program, maker: Maker, tmp_path: Path) -> None:
    """The default of cosign 2.5 is not read; the message says how to write the other."""
    made = maker.archive.with_name("old.json")
    maker.cosigns[0].sign_file(maker.archive, maker.key, "--new-bundle-format=false", "--bundle", str(made))
    assert set(json.loads(made.read_bytes())) >= {"base64Signature"}
    beside = {".sigstore.json": made.read_bytes()}
    booted(program, tmp_path, maker.key, maker.archive.read_bytes(), beside)[0].error("--new-bundle-format")


VERBS: dict[str, list[str]] = {
    "inspect": [],
    "inspect --contents": [],
    "estimate": ["--memory", "8G"],
    "erofs": ["OUT"],
    "unpack": ["OUT"],
    "netboot": ["--rootfs", "-o", "OUT"],
    "uki": ["--append", "root=bootc-live:http://boot.example/os.oci", "-o", "OUT"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_at_a_desk(verb: str, program: Program, maker: Maker, tmp_path: Path) -> None:
    """Nothing is made of an image that was not signed as asked; what is made says who signed."""
    archive, out, policy = tmp_path / "boot.oci", tmp_path / "out", tmp_path / "policy.json"
    write_archive(archive, boot_image())
    maker.cosigns[0].sign_file(archive, maker.key, "--new-bundle-format", "--bundle", f"{archive}.sigstore.json")
    policy.write_text(json.dumps({"default": [{"type": "reject"}]}))
    name, *flags = verb.split()
    options = [str(out) if word == "OUT" else word for word in VERBS[verb]]

    def run(*trust: str | Path) -> Ended:
        return program.run(name, archive, *flags, *options, *trust)

    refused: list[tuple[list[str | Path], str]] = [
        (["--key", maker.other.public], "it is by none of the keys"),
        (["--policy", policy], f"the policy rejects it ({policy}: default)"),
        (["--key", maker.key.public, "--policy", policy], "the policy rejects it"),
        (["--key", tmp_path / "no.pub"], "no.pub' cannot be read"),
        (["--key", policy], "no public key in PEM"),
        (["--policy", maker.key.public], "cannot be used"),
    ]
    for trust, said in refused:
        told = run(*trust).error(said)
        assert "bootc.trust" not in told
        assert not out.exists()
    ended = run("--key", maker.other.public, "--key", maker.key.public)
    assert f"signed by {maker.key.public}" in ended.stderr
    # The kernel of this image is none that a UKI can be made of.
    if name != "uki":
        ended.good()
    if name in ("inspect", "erofs", "netboot"):
        if out.exists():
            shutil.rmtree(out) if out.is_dir() else out.unlink()
        told = json.loads(run("--key", maker.key.public, "--json").good().stdout)
        assert (told["signatures"], told["keys"]) == ("verified", [str(maker.key.public)])


@pytest.fixture
def compressed(maker: Maker) -> Iterator[Path]:
    path = maker.archive.with_name("os.oci.gz")
    path.write_bytes(subprocess.run(["gzip", "-c", maker.archive], check=True, capture_output=True).stdout)
    yield path
    path.unlink()


def test_a_compressed_archive(program: Program, maker: Maker, compressed: Path, tmp_path: Path) -> None:
    """The signature is that of the compressed file; it lies beside it, as a file, too."""
    maker.cosigns[0].sign_file(compressed, maker.key, "--new-bundle-format", "--bundle", f"{compressed}.sigstore.json")
    beside = {".sigstore.json": Path(f"{compressed}.sigstore.json").read_bytes()}
    booted(program, tmp_path, maker.key, compressed.read_bytes(), beside)[0].good()
    cmdline = f"root=bootc-live:{compressed} bootc.trust.key={maker.key.public}"
    program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", tmp_path / "root").good()
