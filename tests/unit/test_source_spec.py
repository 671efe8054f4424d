"""The grammar of root=bootc-live:…, with a clear word for every scheme that is known and not built."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline import parse_cmdline
from bootc_live.config.source_spec import ArchiveFile, RegistryImage, SourceSpec, parse_source


@pytest.mark.parametrize(
    ("typed", "spec"),
    [
        ("/root.oci", ArchiveFile("/root.oci", "/root.oci")),
        ("/a b/c:d.oci", ArchiveFile("/a b/c:d.oci", "/a b/c:d.oci")),
        ("//double", ArchiveFile("//double", "//double")),
        ("/usr/share/os.oci", ArchiveFile("/usr/share/os.oci", "/usr/share/os.oci")),
        ("docker://a.example/os:stable", RegistryImage("a.example/os:stable", "docker://a.example/os:stable")),
        ("docker://os", RegistryImage("os", "docker://os")),
        ("DOCKER://os", RegistryImage("os", "DOCKER://os")),
    ],
)
def test_built(typed: str, spec: SourceSpec) -> None:
    assert parse_source(typed) == spec
    quoted = f'root="bootc-live:{typed}"'
    assert parse_cmdline(quoted).source == spec


@pytest.mark.parametrize("scheme", ["http", "https", "ftp", "tftp", "nfs", "torrent", "HTTP"])
def test_schemes_to_come_are_errors_that_say_so(scheme: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cmdline(f"root=bootc-live:{scheme}://server.example/os.oci")
    assert caught.value.message == (
        f"'root=bootc-live:{scheme}://server.example/os.oci' uses {scheme.lower()}://, which this version cannot "
        "fetch from yet; use docker:// or a path"
    )


@pytest.mark.parametrize(
    "typed",
    [
        "LABEL=data:/os.oci",
        "UUID=1234-ABCD:/os.oci",
        "PARTLABEL=os:/os.oci",
        "PARTUUID=0123:/os.oci",
        "/dev/sda1:/os.oci",
        "/dev/disk/by-label/x:/os.oci",
    ],
)
def test_block_devices_are_errors_that_say_so(typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cmdline(f"root=bootc-live:{typed}")
    assert f"'root=bootc-live:{typed}' names a block device" in caught.value.message
    assert "yet" in caught.value.message


@pytest.mark.parametrize("typed", ["oci://x", "oci-archive://x", "containers-storage://x", "s3://x", "gopher://x/y"])
def test_unknown_schemes(typed: str) -> None:
    with pytest.raises(ValueError, match=r"unknown scheme .*docker:// or an absolute path"):
        parse_source(typed)


@pytest.mark.parametrize("typed", ["", "root.oci", "./root.oci", "docker:os", "docker:/os", "://x", "a.example/os"])
def test_neither_path_nor_url(typed: str) -> None:
    with pytest.raises(ValueError, match="neither an absolute path nor a URL"):
        parse_source(typed)


@pytest.mark.parametrize(
    "text", ["root=/dev/sda1", "root=UUID=1", "root=bootc-live", "root=BOOTC-LIVE:/x", "root", "x"]
)
def test_roots_of_others(text: str) -> None:
    assert parse_cmdline(text).source is None
