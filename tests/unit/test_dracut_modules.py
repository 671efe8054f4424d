"""Which of our dracut modules an initramfs lacks for a source."""

from __future__ import annotations

import pytest

from bootc_live.config.source_spec import SourceSpec, is_remote, parse_source
from bootc_live.rootfs.boot_files.initramfs import lacking_module
from tests.lib.boot_images import BASE, NETWORK, initramfs

LOCAL = ("/root.oci", "LABEL=USB:/os.oci", "/dev/sda1:/os.oci")
FETCHED = (
    *("http://h/os.oci", "https://h/os.oci", "ftp://h/os.oci", "tftp://h/os.oci", "torrent://h/os.torrent"),
    *("nfs://h/os.oci", "nfs:h:/os.oci", "NFS:h:/os.oci", "nfs4:h:/os.oci", "nfs4:vers=4.2:h:/os.oci"),
)
REGISTRY = "docker://registry.example/os"
INITRAMFS = {
    "none": initramfs("init"),
    "base": initramfs(BASE),
    "net": initramfs(BASE, NETWORK, features=("net",)),
    "registry": initramfs(BASE, NETWORK, features=("net", "registry")),
    # Of somebody who packs it otherwise, and does not say for what.
    "unsaid": initramfs(BASE, NETWORK),
}
ROWS = [
    *(("none", text, "bootc-live") for text in (*LOCAL, *FETCHED, REGISTRY, None)),
    *(("base", text, None) for text in (*LOCAL, None)),
    *(("base", text, "bootc-live-net") for text in (*FETCHED, REGISTRY)),
    *(("net", text, None) for text in (*LOCAL, *FETCHED, None)),
    ("net", REGISTRY, "bootc-live-registry"),
    *((kind, text, None) for kind in ("registry", "unsaid") for text in (*LOCAL, *FETCHED, REGISTRY)),
]


def spec(text: str | None) -> SourceSpec | None:
    return None if text is None else parse_source(text)


@pytest.mark.parametrize(("kind", "text", "lacking"), ROWS)
def test_lacking(kind: str, text: str | None, lacking: str | None) -> None:
    assert lacking_module(iter([INITRAMFS[kind]]), spec(text)) == lacking


@pytest.mark.parametrize("text", [*LOCAL, *FETCHED, REGISTRY])
def test_remote(text: str) -> None:
    assert is_remote(parse_source(text)) is (text not in LOCAL)


@pytest.mark.parametrize("text", ["/root.oci", REGISTRY])
def test_what_cannot_be_looked_into(text: str) -> None:
    with pytest.raises(ValueError, match="damaged"):
        lacking_module(iter([INITRAMFS["registry"][:40]]), parse_source(text))
