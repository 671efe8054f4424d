"""Block devices: which one is meant, and what is said where there is none. Mounting them is for tests/integration."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bootc_live.base.errors import SourceError
from bootc_live.config.source_spec import DeviceArchive
from bootc_live.source.device import find_device, mounted_device, udev_name
from tests.lib.acquiring import acquired


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("USB", "USB"),
        ("a1B2", "a1B2"),
        ("#+-.:=@_", "#+-.:=@_"),
        ("MY DISK", r"MY\x20DISK"),
        ("a/b", r"a\x2fb"),
        ("back\\slash", r"back\x5cslash"),
        ("50%", r"50\x25"),
        ("$HOME;'\"", r"\x24HOME\x3b\x27\x22"),
        ("tab\there", r"tab\x09here"),
        ("Größe", "Größe"),
        ("磁盘", "磁盘"),
        ("1234-ABCD", "1234-ABCD"),
        ("", ""),
    ],
)
def test_names_of_links(name: str, link: str) -> None:
    """As udev writes them, see ID_FS_LABEL_ENC."""
    assert udev_name(name) == link


@pytest.mark.parametrize("kind", ["LABEL", "UUID", "PARTLABEL", "PARTUUID"])
@pytest.mark.parametrize(("name", "link"), [("USB", "USB"), ("MY DISK", r"MY\x20DISK"), ("a/b", r"a\x2fb")])
def test_links_are_followed(kind: str, name: str, link: str, tmp_path: Path) -> None:
    path = tmp_path / f"by-{kind.lower()}" / link
    path.parent.mkdir()
    path.symlink_to("../sdx1")
    (tmp_path / "sdx1").touch()
    assert find_device(f"{kind}={name}", str(tmp_path)) == str(path)


def test_devices_by_path(tmp_path: Path) -> None:
    for path in ("/dev/null", "/dev/pts/../zero"):
        assert find_device(path, str(tmp_path)) == path


@pytest.mark.parametrize(
    "name", ["/dev/no-such-device", "LABEL=no such label", "UUID=0-0", "PARTLABEL=$(id)", "PARTUUID=../../null"]
)
def test_no_such_device(name: str, tmp_path: Path) -> None:
    text = f"{name}:/images/root.oci"
    assert find_device(name, str(tmp_path)) is None
    with pytest.raises(SourceError, match=re.escape(f"{text!r}: there is no block device {name}")) as caught:
        acquired(tmp_path / "data", text, directory=str(tmp_path))
    assert "blkid" in caught.value.hint
    assert os.listdir(tmp_path) == []


def test_a_broken_link_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "by-label").mkdir()
    (tmp_path / "by-label/USB").symlink_to("../gone")
    assert find_device("LABEL=USB", str(tmp_path)) is None


@pytest.mark.parametrize("content", [b"", bytes(4096), b"no file system" * 10_000])
def test_not_a_file_system(content: bytes, tmp_path: Path) -> None:
    """Here a file stands for the device."""
    path = tmp_path / "disk"
    path.write_bytes(content)
    spec = DeviceArchive(str(path), "/root.oci", "/dev/sdx1:/root.oci")
    with pytest.raises(SourceError) as caught, mounted_device(spec, str(tmp_path)):
        pytest.fail("it was mounted")
    assert f"'/dev/sdx1:/root.oci': cannot mount {path}" in caught.value.message
    assert os.listdir(tmp_path) == ["disk"]
