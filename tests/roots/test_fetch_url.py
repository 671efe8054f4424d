"""fetch-url: dracut's own handlers, and a clear word where an initramfs has none."""

from __future__ import annotations

import pytest

from tests.roots.root import Root

ASK = """
url=$1
for file in $2; do
    set -- "$dracut"/[0-9][0-9]*/"$file"
    cp "$1" /lib/ || exit 99
done
mkdir /tmp/into
/usr/lib/bootc-live/fetch-url "$url" /tmp/into
echo "status=$?"
ls /tmp/into
"""
URL_LIB = "the dracut module url-lib"
UNHANDLED = (
    ("ftp://h.example/root.oci", "", URL_LIB),
    ("nfs://h.example/srv/root.oci", "", "the dracut modules url-lib and nfs"),
    ("nfs://h.example/srv/root.oci", "url-lib.sh", "the dracut modules url-lib and nfs"),
    ("torrent://h.example/root.torrent", "url-lib.sh", "the dracut module url-lib and the program ctorrent"),
    ("gopher://h.example/root.oci", "url-lib.sh", URL_LIB),
)
ASKED = tuple(("", url, libraries) for url, libraries, _ in UNHANDLED)


@pytest.mark.parametrize(("url", "libraries", "needs"), UNHANDLED)
def test_no_handler(root: Root, url: str, libraries: str, needs: str) -> None:
    done = root.stage(ASK, "", (url, libraries), among=ASKED)
    assert done.stdout == "status=254\n"
    scheme = url.partition(":")[0]
    assert done.stderr == f"this initramfs has no handler for {scheme}: URLs; build it with {needs}\n"


# The real libraries of dracut; only the kernel's part is not here: what mount is asked for is what counts.
MOUNT = r"""
cp "$dracut"/[0-9][0-9]*/url-lib.sh "$dracut"/[0-9][0-9]*/nfs-lib.sh "$dracut"/[0-9][0-9]*/net-lib.sh /lib/
mkdir /tmp/bin /tmp/into
cat >/tmp/bin/mount <<'END'
#!/bin/sh
echo "mount $*" >&2
for last; do :; done
[ -n "$NO_FILE" ] || echo >"$last/root.oci"
END
printf '#!/bin/sh\necho "umount $*" >/tmp/into/umounted\n' >/tmp/bin/umount
chmod 755 /tmp/bin/*
mkdir -p "/var/lib/dracut/hooks/pre-pivot"
NO_FILE="$2" PATH=/tmp/bin:$PATH /usr/lib/bootc-live/fetch-url "$1" /tmp/into
echo "status=$?"
for hook in /var/lib/dracut/hooks/pre-pivot/*; do
    [ ! -e "$hook" ] || grep -o 'umount .*' "$hook"
done
cat /tmp/into/umounted 2>/dev/null || :
"""
SOFT = "ro,soft,timeo=100,retrans=2,retry=1"
NFS = (
    ("nfs://h.example/srv/a/root.oci", f"-t nfs -o{SOFT},nolock h.example:/srv/a"),
    ("nfs://h.example:2050/srv/root.oci", f"-t nfs -o{SOFT},port=2050,nolock h.example:/srv"),
    ("nfs://h.example/root.oci", f"-t nfs -o{SOFT},nolock h.example:/"),
    ("nfs://[fd00::2]:2050/srv/root.oci", f"-t nfs -o{SOFT},port=2050,nolock [fd00::2]:/srv"),
    ("nfs:h.example:/srv/root.oci", f"-t nfs -o{SOFT},nolock h.example:/srv"),
    ("nfs:h.example:/srv/root.oci:vers=4.1", "-t nfs -oro,vers=4.1,nolock h.example:/srv"),
    ("nfs:vers=3,tcp:h.example:/srv/root.oci", "-t nfs -oro,vers=3,tcp,nolock h.example:/srv"),
    ("nfs:[fd00::2]:/srv/root.oci:vers=3", "-t nfs -oro,vers=3,nolock [fd00::2]:/srv"),
    ("nfs4:h.example:/srv/root.oci", f"-t nfs4 -o{SOFT} h.example:/srv"),
)
MISSING = "nfs://h.example/srv/missing.oci"
MOUNTED = (*(("", url, "") for url, _ in NFS), ("", MISSING, "1"))


def mounted(root: Root, url: str, no_file: str = "") -> tuple[list[str], list[str]]:
    """What fetch-url printed and what is left for later, and what mount was asked for."""
    done = root.stage(MOUNT, "", (url, no_file), among=MOUNTED)
    return done.stdout.splitlines(), done.stderr.splitlines()


@pytest.mark.parametrize(("url", "asked"), NFS)
def test_nfs(root: Root, url: str, asked: str) -> None:
    """Every form that can be typed: what is mounted, where the file is, and who unmounts it when."""
    said, mounts = mounted(root, url)
    assert mounts == [f"mount {asked} /run/nfs_mnt0"]
    assert said[:2] == ["/run/nfs_mnt0/root.oci", "status=0"]
    assert [line.replace("-l -- ", "-l ") for line in said[2:]] == ["umount -l /run/nfs_mnt0"]


def test_nfs_without_the_file(root: Root) -> None:
    said, errors = mounted(root, MISSING, no_file="1")
    assert said == ["status=253", "umount /run/nfs_mnt0"]
    assert errors[-1] == "the directory exists, but it has no such file"


# A swarm without a peer, where ctorrent makes the file it wants to fill and waits for ever; or ends well.
SWARM = r"""
cp "$dracut"/[0-9][0-9]*/url-lib.sh /lib/
mkdir /tmp/bin /tmp/into
printf '#!/bin/sh\nwhile [ "$1" != --output ]; do shift; done\n: >"$2"\n' >/tmp/bin/curl
printf '#!/bin/sh\necho progress\n: >"$6"\nexec sleep %s\n' "$1" >/tmp/bin/ctorrent
chmod 755 /tmp/bin/*
BOOTC_LIVE_TOTAL=$2 PATH=/tmp/bin:$PATH /usr/lib/bootc-live/fetch-url torrent://h.example/root.torrent /tmp/into
echo "status=$?"
ls /tmp/into
"""


@pytest.mark.parametrize(
    ("seconds", "total", "said"),
    [
        ("0", "600", ["/tmp/into/archive", "status=0", "archive", "archive.torrent"]),
        ("600", "1", ["status=253", "archive.torrent"]),
    ],
)
def test_torrent_ends(root: Root, seconds: str, total: str, said: list[str]) -> None:
    done = root.stage(SWARM, "", (seconds, total))
    assert done.stdout.splitlines() == said
    assert done.stderr in ("", "Terminated\n")
