"""The guest image: the same bytes from the same packages, and a container's init in all of its forms."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lib.container import control_group
from tests.lib.pages import blocks
from vmkit.paths import OUT, VM

FORMS = ("guest.tar.xz", "guest.ext4", "guest.oci")
LOCK = VM / "guest/packages.lock"
# A container with the file system of the image for its root, read-only, and the next root and its file below /mnt.
BOOT = """
set -e
image=/run/image next=/run/next mnt=/run/mnt
mkdir -p $image $next $mnt/root $mnt/layers/0/etc
mount -o loop,ro "$1" $image
# The next root has programs, and nothing of ours.
mount -t tmpfs next $next
tar -C $image --create --exclude=./usr/lib/python3* --exclude=./usr/lib/bootc-live --exclude=./mnt . |
    tar -C $next --extract
echo "from the layer" >$mnt/layers/0/etc/issue
cat >$mnt/init.yml <<'X'
setup:
  before:
  - [mount-idmapped, "--map-mount=b:0:1000000:65536", /mnt/root, /mnt/root]
  - overlay --volatile -- /mnt/layers/0
exec:
  command: [/bin/sh, -c, "cat /etc/issue /proc/1/comm; stat -c '%u %g' /bin/sh; ls /usr/lib/bootc-live; exit 7"]
X
mount --bind $next $mnt/root
exec unshare --mount --pid --net --fork --kill-child --propagation private sh -ec '
mount --rbind $1 $0/mnt
mount -t proc proc $0/proc
mount --rbind /sys $0/sys
mount --rbind /dev $0/dev
mount -t tmpfs run $0/run
cd $0
pivot_root . .
umount -l .
exec /sbin/init
' $image $mnt
"""


# podman keeps all it needs in RAM, and sees control groups of the second version.
PODMAN = r"""
set -e
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir /run/place
mount -t tmpfs place /run/place
cd /run/place
mkdir -p next/bin next/proc next/sys next/dev next/run cache
cp /usr/bin/busybox next/bin/sh
ldd /usr/bin/busybox | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "next${library%/*}"
    cp "$library" "next$library"
done
cat >init.yml <<'X'
id_map: {users: 0 1000000 65536, groups: 0 1000000 65536}
setup:
  before:
  - mount-idmapped --map-mount=b:0:1000000:65536 /mnt/root /mnt/root
  - overlay
exec:
  command: [/bin/sh, -c, "echo made >/made; read -r inside outside size </proc/self/uid_map; echo $inside $outside"]
X
podman() {
    command podman --root $PWD/root --runroot $PWD/run --storage-driver vfs --cgroup-manager cgroupfs \
        --events-backend none "$@"
}
podman load --quiet --input "$1" >/dev/null
podman run --rm --read-only --network none --cgroups disabled --cap-add SYS_ADMIN,NET_ADMIN,MKNOD \
    --volume $PWD/next:/mnt/root:ro --volume $PWD/cache:/mnt/cache --volume $PWD/init.yml:/mnt/init.yml:ro \
    localhost/bootc-live-guest
stat -c '%u %g %n' cache/overlay/upper/made
"""
# An Incus of its own, with a guest whose init is busybox. Its arguments: a control group, this repository, the
# configuration and the commands of the page.
INCUS = r"""
set -e
echo 0 >"$1/cgroup.procs"
umount --recursive /sys/fs/cgroup
mount -t sysfs sysfs /sys
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=755 incus /var/lib/incus
mkdir -p /srv/guest
mount -t tmpfs -o mode=755 guest /srv/guest
cd /srv/guest
mkdir -p root/bin root/sbin root/etc root/srv root/proc root/sys root/dev root/run cache
for name in bin/sh bin/mv bin/echo sbin/init; do cp "$(command -v busybox)" root/$name; done
echo "::sysinit:/bin/sh /report" >root/etc/inittab
cat >root/report <<'X'
read -r inside outside size </proc/self/uid_map
echo "$inside $outside" /sys/class/net/* >/srv/report.new
mv /srv/report.new /srv/report
X
ln -s "$2/vm" vm
echo "$3" >init.yml
PATH=$PATH:/usr/libexec/incus
ip link set lo up
incusd --group root >/run/incusd.log 2>&1 &
incusd waitready
incus admin init --minimal
sh -ec "$4" >&2
until test -e cache/overlay/upper/srv/report; do
    incus list --format csv --columns s | grep RUNNING >&2 || { incus console --show-log guest >&2; exit 1; }
    sleep 0.2
done
cat cache/overlay/upper/srv/report
incus stop guest
incus list --format csv --columns ns
"""


def build(out: Path, lock: Path | str = LOCK, root: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Make the image once more, with little compression."""
    argv: list[str | Path] = [VM / "enter", "builder", VM / "guest/build", root or OUT / "roots/guest", lock, out, "-0"]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.fixture
def place(repo: Path) -> Iterator[Path]:
    """A directory that all roots see."""
    directory = repo / "build/guest-image"
    directory.mkdir(parents=True)
    yield directory
    for path in sorted(directory.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    directory.rmdir()


def test_other_packages_are_refused(place: Path) -> None:
    """Which ones is shown; nothing is made."""
    done = build(place, root=OUT / "roots/live")
    assert done.returncode == 1
    assert "+linux-image-" in done.stderr
    assert "has other packages than" in done.stderr
    assert "vm/guest/lock" in done.stderr
    assert list(place.iterdir()) == []


@pytest.mark.long
def test_the_image(place: Path) -> None:
    subprocess.run([VM / "build", "guest.oci"], stdin=subprocess.DEVNULL, check=True)
    for name in ("one", "two"):
        done = build(place / name)
        assert done.returncode == 0, done.stderr
    for form in FORMS:
        first = (place / "one" / form).read_bytes()
        assert first == (place / "two" / form).read_bytes(), form
        # Only how it is compressed differs.
        assert form == "guest.tar.xz" or first == (OUT / form).read_bytes(), form
    inner = f"""
    set -e
    cd {OUT}
    skopeo inspect --config oci-archive:guest.oci:bootc-live-guest
    e2fsck -fn guest.ext4 >&2
    xz --decompress --stdout guest.tar.xz | cmp - <(xz --decompress --stdout {place}/one/guest.tar.xz)
    """
    argv: list[str | Path] = [VM / "enter", "builder", "bash", "-c", inner]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["config"]["Cmd"] == ["/sbin/init"]


@pytest.mark.long
def test_it_boots() -> None:
    """With a root that cannot be written to: from its own init to the command of the next root, by its tools' names."""
    subprocess.run([VM / "build", "guest.oci"], stdin=subprocess.DEVNULL, check=True)
    argv: list[str | Path] = [VM / "enter", "builder", "sh", "-c", BOOT, "sh", OUT / "guest.ext4"]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert done.stdout == "from the layer\nsh\n1000000 1000000\n"
    assert "ls: cannot access '/usr/lib/bootc-live'" in done.stderr


@pytest.mark.long
def test_it_runs_in_podman() -> None:
    """Without a command: the image has its init, and changes of the guest belong to its root."""
    subprocess.run([VM / "build", "guest.oci"], stdin=subprocess.DEVNULL, check=True)
    argv: list[str | Path] = [
        VM / "enter",
        "builder",
        "unshare",
        "--mount",
        "sh",
        "-c",
        PODMAN,
        "sh",
        OUT / "guest.oci",
    ]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.stdout == "0 1000000\n1000000 1000000 cache/overlay/upper/made\n", done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_it_runs_in_incus(repo: Path) -> None:
    """By the commands of the page, with a network; busybox halts when Incus asks it."""
    subprocess.run([VM / "build", "guest.oci"], stdin=subprocess.DEVNULL, check=True)
    subprocess.run([VM / "enter", "incus", "true"], stdin=subprocess.DEVNULL, check=True)
    page = {block.heading: block.text for block in blocks((repo / "docs/guest.md").read_text())}
    with control_group("incus") as group:
        if group is None:
            pytest.skip("Incus needs a control group, and none can be made here")
        inside: list[str | Path] = ["unshare", "--mount", "--net", "sh", "-c", INCUS, "sh", group, repo]
        done = subprocess.run(
            [VM / "enter", "incus", *inside, page["Platforms"], page["Incus"]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.stdout == "0 1000000 /sys/class/net/eth0 /sys/class/net/lo\nguest,STOPPED\n", done.stderr
    assert done.returncode == 0, done.stderr
