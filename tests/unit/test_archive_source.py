"""OCI archives: which image a label means, and every way in which a file is not one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.formats.oci.manifest import MANIFEST_LIMIT, parse_index
from bootc_live.source.archive.layout import LayoutSource
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.interface import StreamSource, TopManifest
from tests.lib.oci_writer import REF_NAME, Image, Index, Layer, sha256, write_archive
from tests.lib.tar_writer import file, layer

CONTAINERD_NAME = "io.containerd.image.name"


def image(ref: str | None, content: str = "", architecture: str = "amd64") -> Image:
    """A one-file image; what differs in content differs in digest."""
    return Image([Layer(layer(file("which", content or str(ref))))], ref=ref, architecture=architecture)


@contextlib.contextmanager
def opened(path: Path, source_text: str) -> Iterator[LayoutSource]:
    with open_archive(str(path), source_text, None) as source:
        assert isinstance(source, LayoutSource)
        yield source


def top(path: Path, label: str | None = None) -> TopManifest:
    with open_archive(str(path), str(path), label) as source:
        assert not isinstance(source, StreamSource)
        return source.top()


def failure(path: Path, label: str | None = None) -> SourceError:
    with pytest.raises(SourceError) as caught:
        top(path, label)
    assert repr(str(path)) in caught.value.message
    assert caught.value.hint
    return caught.value


def digest_by_ref(path: Path) -> dict[str | None, str]:
    """What index.json says, read by another reader."""
    with tarfile.open(path) as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        entries = json.load(index)["manifests"]
    return {entry.get("annotations", {}).get(REF_NAME): entry["digest"] for entry in entries}


def write_index(path: Path, index: bytes, prefix: str = "") -> Path:
    """An archive with nothing but this index.json."""
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(f"{prefix}index.json")
        info.size = len(index)
        tar.addfile(info, io.BytesIO(index))
    return path


@pytest.mark.parametrize(
    ("refs", "label", "chosen"),
    [
        (["latest"], None, "latest"),
        (["latest"], "latest", "latest"),
        (["stable", "latest", "testing"], None, "latest"),
        (["stable", "latest", "testing"], "testing", "testing"),
        (["stable"], None, "stable"),
        ([None], None, None),
        (["stable"], "stable", "stable"),
        (["registry.example/os:stable"], "stable", "registry.example/os:stable"),
        (["registry.example:5000/os:stable"], "stable", "registry.example:5000/os:stable"),
        (["registry.example/os:stable"], "registry.example/os:stable", "registry.example/os:stable"),
        (["localhost/os:latest", "localhost/os:old"], None, "localhost/os:latest"),
        (["a.b/os:latest", "latest"], None, "latest"),
        (["a.b/os:v1", "a.b/other:v1"], "a.b/other:v1", "a.b/other:v1"),
        (["registry.example:5000/os"], None, "registry.example:5000/os"),
        (["", "latest"], None, "latest"),
    ],
)
def test_label(tmp_path: Path, refs: list[str | None], label: str | None, chosen: str | None) -> None:
    path = write_archive(tmp_path / "a.oci", *(image(ref, f"{number}") for number, ref in enumerate(refs)))
    found = top(path, label)
    assert found.digest == digest_by_ref(path)[chosen]
    assert sha256(found.content) == found.digest
    assert found.media_type == "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("refs", "label", "wanted", "have"),
    [
        (["stable"], "latest", "latest", "stable"),
        (["stable"], "5000", "5000", "stable"),
        (["a", "b"], None, "latest", "a, b"),
        (["registry.example:5000/os"], "5000/os", "5000/os", "registry.example:5000/os"),
        (["STABLE"], "stable", "stable", "STABLE"),
    ],
)
def test_no_such_label(tmp_path: Path, refs: list[str | None], label: str | None, wanted: str, have: str) -> None:
    path = write_archive(tmp_path / "a.oci", *(image(ref, f"{number}") for number, ref in enumerate(refs)))
    error = failure(path, label)
    assert f"no image called {wanted!r} (it contains: {have})" in error.message
    assert "bootclabel=" in error.hint


def followed(error: SourceError) -> str:
    """The label that the hint gives for an example."""
    return error.hint.rpartition("bootclabel=")[2]


@pytest.mark.parametrize(
    ("refs", "label"),
    [
        (["a", "b"], None),
        (["a", None], None),
        (["a", "b"], "x"),
        (["a.b/one:v1", "a.b/two:v1"], "v1"),
        (["a.b:5000/one:v1", "a.b:5000/two:v1", "v2"], "v1"),
    ],
)
def test_the_advice_can_be_followed(refs: list[str | None], label: str | None, tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", *(image(ref, f"{number}") for number, ref in enumerate(refs)))
    given = followed(failure(path, label))
    assert given in refs
    assert top(path, given).digest == digest_by_ref(path)[given]


def test_advice_where_nothing_has_a_name(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", image(None, "one"), image(None, "two"))
    error = failure(path, "x")
    assert "contains no image called 'x' (it contains: no names)" in error.message
    assert "leave out bootclabel=" in error.hint
    assert len(parse_index(top(path).content)) == 2


def test_advice_where_there_is_nothing(tmp_path: Path) -> None:
    for label in (None, "x"):
        assert "make the archive again" in failure(write_archive(tmp_path / "a.oci"), label).hint


def test_two_images_of_one_tag_are_not_guessed_between(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", image("a.b/one:v1"), image("a.b/two:v1"), image("a.b/three:v2"))
    error = failure(path, "v1")
    assert "several images called 'v1' (it contains: a.b/one:v1, a.b/two:v1)" in error.message
    assert "full name" in error.hint


def test_entries_of_one_ref_become_an_index(tmp_path: Path) -> None:
    images = [image("v1", architecture=name) for name in ("amd64", "arm64")]
    path = write_archive(tmp_path / "a.oci", *images, image("other"))
    found = top(path, "v1")
    assert found.digest is None
    assert [str(entry.platform) for entry in parse_index(found.content)] == ["linux/amd64", "linux/arm64"]


def test_a_nested_index_is_given_as_it_is(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", Index([image(None, architecture="amd64")], ref="v1"))
    found = top(path, "v1")
    assert found.media_type == "application/vnd.oci.image.index.v1+json"
    assert found.digest == sha256(found.content)


def test_containerd_names_count(tmp_path: Path) -> None:
    plain = write_archive(tmp_path / "plain.oci", image("latest"))
    with tarfile.open(plain) as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        content = {name: stream.read() for name, stream in members.items() if stream is not None}
    index = json.loads(content["index.json"])
    index["manifests"][0]["annotations"] = {CONTAINERD_NAME: "registry.example/os:v7"}
    content["index.json"] = json.dumps(index).encode()
    path = tmp_path / "a.oci"
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert top(path, "v7").content == top(path, "registry.example/os:v7").content == top(plain).content


def rewritten(source: Path, path: Path, prefix: str, twice: str = "") -> Path:
    """The same archive with another spelling of names; `twice` names a member that a wrong copy precedes."""
    with tarfile.open(source) as old, tarfile.open(path, "w") as new:
        for member in old:
            stream = old.extractfile(member)
            data = stream.read() if stream is not None else b""
            info = tarfile.TarInfo(f"{prefix}{member.name}")
            if member.name == twice:
                info.size = 5
                new.addfile(info, io.BytesIO(b"wrong"))
            info.size = len(data)
            new.addfile(info, io.BytesIO(data))
    return path


def test_names_may_begin_with_a_dot(tmp_path: Path) -> None:
    plain = write_archive(tmp_path / "plain.oci", image("latest"))
    assert top(rewritten(plain, tmp_path / "a.oci", "./")) == top(plain)


@pytest.mark.parametrize("prefix", ["", "./"])
def test_the_last_of_duplicate_members_counts(tmp_path: Path, prefix: str) -> None:
    plain = write_archive(tmp_path / "plain.oci", image("latest"))
    assert top(rewritten(plain, tmp_path / "a.oci", prefix, "index.json")) == top(plain)


def test_blobs_come_in_pieces(tmp_path: Path) -> None:
    data = os.urandom(2_500_000)
    path = write_archive(tmp_path / "a.oci", Image([Layer(layer(file("big", data)), "none")]))
    with tarfile.open(path) as tar:
        (member,) = [entry for entry in tar if entry.size > 2_500_000]
        stream = tar.extractfile(member)
        assert stream is not None
        content = stream.read()
    blob = Descriptor("", sha256(content), len(content))
    with opened(path, "source") as source, source.open_blob(blob) as chunks:
        pieces = list(chunks)
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= 2**20
    assert len(pieces) == 3


def test_missing_blobs(tmp_path: Path) -> None:
    missing = "sha256:" + "0" * 64
    path = write_archive(tmp_path / "a.oci", image("latest"))
    with opened(path, "/typed.oci") as source:
        for opener in (source.open_blob, source.open_manifest):
            with pytest.raises(SourceError, match=f"'/typed.oci' does not contain the blob {missing}"):
                opener(Descriptor("", missing, 1)).__enter__()


def test_missing_manifest(tmp_path: Path) -> None:
    plain = write_archive(tmp_path / "plain.oci", image("latest"))
    digest = digest_by_ref(plain)["latest"]
    path = write_archive(tmp_path / "a.oci", image("latest"), without=[f"blobs/sha256/{digest.partition(':')[2]}"])
    assert f"does not contain the blob {digest}" in failure(path).message


def test_missing_file() -> None:
    with pytest.raises(SourceError) as caught:
        top(Path("/nonexistent/root.oci"))
    assert caught.value.message == "cannot open the archive '/nonexistent/root.oci': No such file or directory"
    assert "root=" in caught.value.hint


def test_directory(tmp_path: Path) -> None:
    assert "is not an OCI archive or layout: it has no index.json" in failure(tmp_path).message


@pytest.mark.parametrize("content", [b"", b"x", b"not a tar at all" * 100])
def test_not_a_tar(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.oci"
    path.write_bytes(content)
    assert "cannot be read as an OCI archive" in failure(path).message


def test_truncated_anywhere(tmp_path: Path) -> None:
    """Without its end the archive is refused; nothing wrong is ever given."""
    whole = write_archive(tmp_path / "whole.oci", image("latest", "x" * 3000))
    content, expected = whole.read_bytes(), top(whole)
    with tarfile.open(whole) as tar:
        index = tar.getmember("index.json")
    path = tmp_path / "a.oci"
    for size in range(0, len(content), 128):
        path.write_bytes(content[:size])
        if size < index.offset_data + index.size:
            failure(path)
        else:
            with contextlib.suppress(SourceError):
                assert top(path) == expected


def test_cut_while_it_is_read(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", image("latest"))
    with opened(path, "/typed.oci") as source:
        os.truncate(path, 700)
        with pytest.raises(SourceError, match=r"'/typed\.oci' is truncated"):
            source.top()


def test_another_tar(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("etc"))
    error = failure(path)
    assert "is a tar file, but neither an OCI archive nor a docker-archive: it has no index.json" in error.message
    assert "oci-archive:" in error.hint


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"manifests": 7}',
        b'{"manifests": null}',
        b'{"manifests": [{"digest": "sha256:x", "size": 1}]}',
        b'{"manifests": [{}]}',
        b"\xff\xfe",
        b'{"manifests":' * 100_000,
        b"[" * 100_000,
    ],
)
def test_damaged_index(tmp_path: Path, index: bytes) -> None:
    assert "has a damaged index.json" in failure(write_index(tmp_path / "a.oci", index)).message


@pytest.mark.parametrize("index", [b'{"manifests": []}', b'{"manifests": ["x", 7, null]}'])
def test_empty_index(tmp_path: Path, index: bytes) -> None:
    assert "it contains: no names" in failure(write_index(tmp_path / "a.oci", index)).message


def test_huge_index(tmp_path: Path) -> None:
    path = write_index(tmp_path / "a.oci", b" " * (MANIFEST_LIMIT + 1))
    assert "more than 4194304" in failure(path).message


def test_only_regular_members_count(tmp_path: Path) -> None:
    path = tmp_path / "a.oci"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("index.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    assert "it has no index.json" in failure(path).message


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.oci", image("stable"))
    before = os.listdir("/proc/self/fd")
    top(path)
    failure(path, "latest")
    failure(tmp_path / "missing")
    assert os.listdir("/proc/self/fd") == before
