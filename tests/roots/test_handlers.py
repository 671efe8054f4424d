"""Archives by dracut's own url-lib and curl, as they are packed into an initramfs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.file_servers import ftp_server, tftp_server
from tests.roots.initrd import WITH_HANDLERS, Initrd, embedded, parameters

FETCH = """
COUNT='import sys; print(len({open(name, "rb").read() for name in sys.argv[1:]}))'
mkdir /tmp/into
/usr/lib/bootc-live/fetch-url "$1" /tmp/into >/tmp/path
echo "status=$?"
/usr/lib/bootc-live/python -I -S -c "$COUNT" "$(cat /tmp/path)" /root.oci
cat /tmp/path
ls /tmp/into
"""
BOOT = """
mkdir -p /sysroot
/usr/lib/bootc-live/boot
echo "status=$?"
cat /sysroot/etc/packed
ls /run/bootc-live
umount -R /sysroot
"""
PASSWORD = "s3cret"

pytestmark = pytest.mark.parametrize("initrd", parameters(WITH_HANDLERS), indirect=True)


@pytest.fixture(scope="session")
def served(image: Path, shared: Path) -> Iterator[dict[str, str]]:
    """A directory with the archive, by every server."""
    top = shared / "served"
    top.mkdir()
    os.link(image, top / "root.oci")
    with ftp_server(top) as ftp, ftp_server(top, "me", PASSWORD) as private, tftp_server(top) as tftp:
        yield {
            "ftp": f"ftp://127.0.0.1:{ftp}",
            "login": f"ftp://me:{PASSWORD}@127.0.0.1:{private}",
            "denied": f"ftp://me:{PASSWORD}x@127.0.0.1:{private}",
            "tftp": f"tftp://127.0.0.1:{tftp}",
        }


def fetched(initrd: Initrd, image: Path, url: str) -> list[str]:
    with embedded(initrd, image):
        return initrd.run("/bin/sh", "-c", FETCH, "sh", url, ok=False).splitlines()


@pytest.mark.parametrize("how", ["ftp", "tftp"])
def test_fetch_url(initrd: Initrd, served: dict[str, str], image: Path, how: str) -> None:
    """The path alone on standard output, the whole file there, and nothing said: no progress meter."""
    assert fetched(initrd, image, f"{served[how]}/root.oci") == ["status=0", "1", "/tmp/into/archive", "archive"]


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [("denied", 67, "Access denied"), ("tftp", 68, "curl: (68)")],
)
def test_fetch_url_that_fails(
    initrd: Initrd, served: dict[str, str], image: Path, how: str, status: int, reason: str
) -> None:
    """The status and the reason of curl, and no password."""
    said = fetched(initrd, image, f"{served[how]}/missing.oci")
    assert f"status={status}" in said
    assert reason in "".join(said)
    assert PASSWORD not in "".join(said)


def test_boot(initrd: Initrd, served: dict[str, str]) -> None:
    """From the command line to a mounted root."""
    lines = initrd.run("/bin/sh", "-c", BOOT, cmdline=f"root=bootc-live:{served['login']}/root.oci").splitlines()
    assert "status=0" in lines
    assert "in every way" in lines
    assert not [line for line in lines if "error" in line or "Traceback" in line or PASSWORD in line]


def test_boot_that_fails(initrd: Initrd, served: dict[str, str]) -> None:
    source = f"{served['denied']}/root.oci"
    said = initrd.run("/bin/sh", "-c", BOOT, cmdline=f"root=bootc-live:{source}", ok=False)
    assert "status=1" in said
    assert "Access denied" in said
    assert PASSWORD not in said
