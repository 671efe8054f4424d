"""The grammar of root=bootc-live:…: every kind of source, and a clear word for what is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.source_spec import (
    ArchiveFile,
    DeploymentRoot,
    DeviceArchive,
    HandlerArchive,
    RegistryImage,
    SourceSpec,
    WebArchive,
    parse_root,
    parse_source,
    written,
)


@pytest.mark.parametrize(
    ("source_text", "spec"),
    [
        ("/root.oci", ArchiveFile("/root.oci", "/root.oci")),
        ("/a b/c:d.oci", ArchiveFile("/a b/c:d.oci", "/a b/c:d.oci")),
        ("/a:/b", ArchiveFile("/a:/b", "/a:/b")),
        ("//double", ArchiveFile("//double", "//double")),
        ("/usr/share/os.oci", ArchiveFile("/usr/share/os.oci", "/usr/share/os.oci")),
        ("/device/x:/y", ArchiveFile("/device/x:/y", "/device/x:/y")),
        ("/dev/shm/os.oci", ArchiveFile("/dev/shm/os.oci", "/dev/shm/os.oci")),
        ("/dev/fd/3", ArchiveFile("/dev/fd/3", "/dev/fd/3")),
        ("/dev/stdin", ArchiveFile("/dev/stdin", "/dev/stdin")),
        ("docker://a.example/os:stable", RegistryImage("a.example/os:stable", "docker://a.example/os:stable")),
        ("docker://os", RegistryImage("os", "docker://os")),
        ("DOCKER://os", RegistryImage("os", "DOCKER://os")),
    ],
)
def test_files_and_registries(source_text: str, spec: SourceSpec) -> None:
    assert parse_source(source_text) == spec
    quoted = f'root="bootc-live:{source_text}"'
    assert parse_cmdline(quoted).sources == (spec,)


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example",
        "http://a.example/os.oci",
        "https://a.example:8443/os.oci",
        "https://[fd00::1]:8443/os.oci",
        "https://[fd00::1]/os.oci",
    ],
)
def test_web(url: str) -> None:
    assert parse_source(url) == WebArchive(url, url)


def test_a_scheme_is_known_in_any_case() -> None:
    """What is compared later, by handlers and libraries, is lower-case; what was typed stays."""
    assert parse_source("HTTPS://A.example/x") == WebArchive("https://A.example/x", "HTTPS://A.example/x")
    assert parse_source("Tftp://a/X") == HandlerArchive("tftp://a/X", "tftp", "Tftp://a/X")
    assert parse_source("NFS4:a:/X") == HandlerArchive("nfs4:a:/X", "nfs4", "NFS4:a:/X")


@pytest.mark.parametrize(
    ("source_text", "shown"),
    [
        ("https://me:pw@a.example/x", "https://***@a.example/x"),
        ("https://a.example/x?X-Amz-Signature=abc&b=1", "https://a.example/x?***"),
        ("ftp://me:pw@a.example/x", "ftp://***@a.example/x"),
        ("torrent://https://me:pw@a.example/x?k=1", "torrent://https://***@a.example/x?***"),
    ],
)
def test_secrets_are_kept_and_not_shown(source_text: str, shown: str) -> None:
    spec = parse_source(source_text)
    assert isinstance(spec, WebArchive | HandlerArchive)
    assert spec.url == source_text
    assert spec.source_text == shown
    assert "pw" not in repr(spec)
    assert "abc" not in repr(spec)


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("ftp://a.example/os.oci", "ftp"),
        ("tftp://10.0.2.2/os.oci", "tftp"),
        ("nfs://a.example/images/os.oci", "nfs"),
        ("nfs://a.example:2049/images/os.oci", "nfs"),
        ("nfs://a.example:/images/os.oci", "nfs"),
        ("nfs:a.example:/images/os.oci", "nfs"),
        ("nfs:ro,soft:a.example:/images/os.oci", "nfs"),
        ("nfs4:a.example:/images/os.oci", "nfs4"),
        ("nfs4:a.example:/images/os.oci:ro,soft", "nfs4"),
        ("torrent://a.example/os.torrent", "torrent"),
        ("torrent://https://a.example/os.torrent", "torrent"),
    ],
)
def test_handlers_of_dracut(url: str, scheme: str) -> None:
    assert parse_source(url) == HandlerArchive(url, scheme, url)


@pytest.mark.parametrize(
    ("source_text", "device", "path"),
    [
        ("LABEL=USB:/images/root.oci", "LABEL=USB", "/images/root.oci"),
        ("LABEL=two words:/x", "LABEL=two words", "/x"),
        ("LABEL=a:b:/x", "LABEL=a:b", "/x"),
        ("LABEL=/:/x", "LABEL=/", "/x"),
        ("LABEL=a=b:/x", "LABEL=a=b", "/x"),
        ("UUID=1234-ABCD:/os.oci", "UUID=1234-ABCD", "/os.oci"),
        ("PARTLABEL=os:/os:1.oci", "PARTLABEL=os", "/os:1.oci"),
        ("PARTUUID=0123-01:/layout/", "PARTUUID=0123-01", "/layout/"),
        ("/dev/sda1:/os.oci", "/dev/sda1", "/os.oci"),
        ("/dev/disk/by-path/pci-0000:00:14.0-part1:/os.oci", "/dev/disk/by-path/pci-0000:00:14.0-part1", "/os.oci"),
    ],
)
def test_block_devices(source_text: str, device: str, path: str) -> None:
    assert parse_source(source_text) == DeviceArchive(device, path, source_text)


@pytest.mark.parametrize(
    ("source_text", "reason"),
    [
        ("LABEL=USB", "needs an absolute path on the block device; write LABEL=USB:/path"),
        ("LABEL=USB:images/root.oci", "needs an absolute path on the block device; write LABEL=USB:/path"),
        ("UUID=1:", "needs an absolute path on the block device; write UUID=1:/path"),
        ("/dev/sda1", "needs an absolute path on the block device; write /dev/sda1:/path"),
        ("/dev/sda1:x", "needs an absolute path on the block device; write /dev/sda1:/path"),
        ("LABEL=USB:/", "needs a file on the block device; write LABEL=USB:/path"),
        ("LABEL=:/x", "needs a block device before the path"),
        ("/dev/:/x", "needs a block device before the path"),
    ],
)
def test_incomplete_block_devices(source_text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cmdline(f"root=bootc-live:{source_text}")
    assert f"'root=bootc-live:{source_text}' needs" in caught.value.message
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "source_text",
    [
        "http://",
        "http:///x",
        "https://:443/x",
        "https://?x",
        "https://me@/x",
        "https://a.example:port/x",
        "https://a.example:443443/x",
        "https://[fd00::1/x",
        "ftp:///x",
        "nfs:///x",
        "nfs://:/x",
        "torrent://https:///x",
    ],
)
def test_a_server_is_needed(source_text: str) -> None:
    with pytest.raises(ValueError, match=r"needs a server with a valid port; write [a-z]+://HOST\[:PORT\]/path"):
        parse_source(source_text)


@pytest.mark.parametrize(
    "source_text", ["ftp://a.example", "tftp://a.example/", "nfs://a.example", "torrent://a.example/"]
)
def test_handlers_need_a_file(source_text: str) -> None:
    with pytest.raises(ValueError, match="needs a file on the server"):
        parse_source(source_text)


@pytest.mark.parametrize(
    "source_text", ["nfs:/x", "nfs:a.example", "nfs4::/x", "nfs4:a.example:/", "nfs:a.example:/x/"]
)
def test_incomplete_nfs(source_text: str) -> None:
    with pytest.raises(ValueError, match=r"needs a server and a file; write nfs4?:SERVER:/path"):
        parse_source(source_text)


def test_nfs4_is_no_url() -> None:
    """The handler of dracut takes the slashes for a part of the server's name."""
    with pytest.raises(ValueError, match="write nfs4:SERVER:/path"):
        parse_source("nfs4://a.example/x")


@pytest.mark.parametrize(
    "source_text", ["oci://x", "oci-archive://x", "containers-storage://x", "s3://x", "gopher://x/y"]
)
def test_unknown_schemes(source_text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown scheme .*docker://.* or an absolute path"):
        parse_source(source_text)


@pytest.mark.parametrize(
    "source_text",
    ["", "root.oci", "./root.oci", "docker:os", "docker:/os", "://x", "a.example/os", "nfs:", "label=x:/y"],
)
def test_neither_path_nor_url(source_text: str) -> None:
    with pytest.raises(ValueError, match="neither an absolute path nor a URL"):
        parse_source(source_text)


@pytest.mark.parametrize(
    "text", ["root=/dev/sda1", "root=UUID=1", "root=bootc-live", "root=BOOTC-LIVE:/x", "root", "x"]
)
def test_roots_of_others(text: str) -> None:
    assert parse_cmdline(text).sources == ()


def test_a_label_may_hold_what_ends_it() -> None:
    source_text = "LABEL=a:/b:/os.oci"
    assert parse_source(source_text) == DeviceArchive("LABEL=a:/b", "/os.oci", source_text)


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "device", "number"),
    [
        (f"deployment:UUID=1-2:1@{HEX}", "UUID=1-2", 1),
        (f"deployment:LABEL=a:b:23@{HEX}", "LABEL=a:b", 23),
        (f"deployment:/dev/disk/by-path/pci-0:1:999999999@{HEX}", "/dev/disk/by-path/pci-0:1", 999999999),
    ],
)
def test_deployments(text: str, device: str, number: int) -> None:
    assert parse_root(text) == DeploymentRoot(device, number, HEX, text)
    config = parse_cmdline(f"root=bootc-live:{text} bootc.disk.state=volatile")
    assert (config.sources, config.deployment) == ((), parse_root(text))


@pytest.mark.parametrize(
    "text",
    [
        "deployment:",
        f"deployment:UUID=x@{HEX}",
        f"deployment:UUID=x:0@{HEX}",
        f"deployment:UUID=x:-1@{HEX}",
        f"deployment:UUID=x:1@{HEX}0",
        f"deployment:UUID=x:1@{HEX[:-1]}",
        f"deployment:UUID=x:1@{HEX.upper()}",
        f"deployment:UUID=:1@{HEX}",
        f"deployment:x:1@{HEX}",
        "deployment:UUID=x:1",
    ],
)
def test_no_deployments(text: str) -> None:
    with pytest.raises(ConfigError, match="is not deployment:DEVICE:NUMBER@DIGEST"):
        parse_cmdline(f"root=bootc-live:{text}")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("bootc.live.fallback=/x.oci", "'bootc.live.fallback' applies only to an image that is fetched"),
        (f"bootc.live.digest=sha256:{HEX}", "'bootc.live.digest' applies only to"),
        ("bootc.live.state=LABEL=x", "'bootc.live.state' applies only to"),
        ("bootc.kexec", "'bootc.kexec' applies only to"),
    ],
)
def test_what_no_deployment_has(more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_cmdline(f"root=bootc-live:deployment:UUID=x:1@{HEX} {more}")


@pytest.mark.parametrize("more", ["bootc.disk.state=etc", "bootc.disk.verity=0"])
def test_what_only_deployments_have(more: str) -> None:
    with pytest.raises(ConfigError, match=f"'{more.partition('=')[0]}' applies only to a root on a disk"):
        parse_cmdline(f"root=bootc-live:/x.oci {more}")


@pytest.mark.parametrize(
    "text",
    [
        "/os.oci",
        "docker://me:mine@registry.example:5000/os:1",
        "https://me:mine@files.example/os.oci?token=x",
        "HTTPS://me:mine@files.example/latest.json?token=x",
        "ftp://me:mine@files.example/os.oci",
        "nfs:files.example:/os.oci",
        "LABEL=USB:/os.oci",
    ],
)
def test_written_with_secrets(text: str) -> None:
    """What is written leads to the same source again."""
    spec = parse_source(text)
    again = parse_source(written(spec))
    assert replace(again, source_text="") == replace(spec, source_text="")
    assert written(again) == written(spec)
