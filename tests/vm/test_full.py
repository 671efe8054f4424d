"""What people run on top: containers by podman, and SELinux that enforces; and what a TPM was told of the boot."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.full import Full, full_guest, full_image
from tests.vm.inside import mounts
from vmkit.tpm import tpm

IMAGE = "localhost/busybox:latest"
# Debian's policy does not let it read its own credentials, wherever the root is.
POLICY_GAPS = {"systemd-network-generator.service"}
PCR = 15
# The kernel refuses the other one, and the boot goes on, from the beginning. test_kexec.py of the stages unit and
# integration has all of it but a kernel.
NO_KEXEC = "bootc.kexec bootc.kexec.onfail=boot sysctl.kernel.kexec_load_disabled=1"
LABELLED = "/ /etc /var /usr /etc/shadow /etc/passwd /usr/lib/systemd/systemd /usr/sbin/sshd /var/lib /var/log /var/tmp"


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The image with SELinux."""
    with full_image("live-full.oci") as found:
        yield found


@pytest.fixture(scope="module", params=[pytest.param("", id="podman", marks=pytest.mark.long)])
def plain() -> Iterator[Full]:
    """A guest with podman, and without SELinux."""
    with full_image("live-podman.oci") as image, full_guest(image, "") as booted:
        booted.host.check_output("podman load --quiet --input /usr/share/containers/busybox.oci")
        yield booted


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("erofs bootc.live.compress=lz4 bootc.live.verity bootc.trust.measure=required", id="erofs"),
        pytest.param(f"index rw {NO_KEXEC}", id="index, rw", marks=pytest.mark.long),
    ],
)
def enforcing(request: pytest.FixtureRequest, image: Path) -> Iterator[Full]:
    """A guest whose kernel enforces from the start; the policy comes from the image."""
    kargs = f"bootc.live.layout={request.param} security=selinux enforcing=1"
    with tpm() as options, full_guest(image, kargs, extra=options) as booted:
        yield booted


def test_podman_keeps_images_below_var(plain: Full) -> None:
    assert mounts(plain.host)["/var"]["fstype"] == "tmpfs"
    asked = "podman info --format '{{.Store.GraphDriverName}} {{.Store.GraphRoot}}'"
    assert plain.host.check_output(asked) == "overlay /var/lib/containers/storage"
    # Mounted by the kernel, not by a program in between.
    assert "fuse" not in plain.host.check_output("podman info --format '{{.Store.GraphOptions}}'")
    assert IMAGE in plain.host.check_output("podman images --format '{{.Repository}}:{{.Tag}}'")


def test_podman_runs_a_container(plain: Full) -> None:
    script = "touch /here && ls / && id -u && cat /proc/mounts"
    said = plain.host.check_output(f"podman run --rm --network none {IMAGE} sh -c '{script}'").splitlines()
    assert "here" in said
    assert "0" in said
    assert any(line.startswith("overlay / overlay rw") for line in said)


def test_podman_gives_containers_a_network(plain: Full) -> None:
    shown = plain.host.check_output(f"podman run --rm {IMAGE} busybox ip -4 addr show eth0")
    assert "inet 10.88." in shown


def test_podman_keeps_what_a_container_is_told_to_keep(plain: Full) -> None:
    run = f"podman run --rm --network none --volume kept:/kept {IMAGE} sh -c"
    plain.host.check_output(f"{run} 'echo one >/kept/file'")
    assert plain.host.check_output(f"{run} 'cat /kept/file'") == "one"


def test_podman_runs_the_live_root_itself(plain: Full) -> None:
    said = plain.host.check_output("podman run --rm --network none --rootfs /:O cat /etc/os-release")
    assert "ID=debian" in said


def test_nothing_failed(plain: Full) -> None:
    assert plain.ready.failed == 0
    assert plain.failed() == set()


def test_selinux_enforces(enforcing: Full) -> None:
    assert enforcing.host.check_output("getenforce") == "Enforcing"
    assert enforcing.failed() <= POLICY_GAPS
    # A login over ssh came through: the domain is the one the policy gives it.
    assert ":unconfined_t:" in enforcing.host.check_output("id -Z")
    assert "system_u:system_r:sshd_t:s0" in enforcing.host.check_output("ps -C sshd -o label=").splitlines()[0]


def test_labels_are_those_of_the_policy(enforcing: Full) -> None:
    verified = enforcing.host.check_output(f"matchpathcon -V {LABELLED}").splitlines()
    assert [line for line in verified if not line.endswith(" verified.")] == []
    # Every file of the image's; -x keeps out what is mounted on them.
    shown = mounts(enforcing.host)
    tops = [where for where, mount in shown.items() if where in ("/", "/var") or mount["fstype"] == "overlay"]
    assert {"/", "/etc", "/var"} <= set(tops)
    for top in tops:
        assert enforcing.host.check_output(f"restorecon -nvRx {top} 2>&1") == ""


def test_labels_cost_no_memory(enforcing: Full) -> None:
    """To set a label on an overlay copies the file: systemd sets those alone that were lost."""
    used = {
        where: int(enforcing.host.check_output(f"df --block-size=1K --output=used {where}").splitlines()[1])
        for where in ("/usr", "/etc")
        if mounts(enforcing.host).get(where, {}).get("fstype") == "overlay"
    }
    assert "/etc" in used
    assert max(used.values()) < 4096


def test_root_is_as_installing_would_make_it(enforcing: Full) -> None:
    """The image has each file as an object of a repository, and /etc in /usr/etc."""
    host = enforcing.host
    assert host.check_output("ls -A /sysroot/ostree/repo/objects") == ""
    assert host.check_output("readlink /home /root /usr/local").split() == [
        "var/home",
        "var/roothome",
        "../var/usrlocal",
    ]
    assert host.check_output("getfattr --only-values --name=user.component /usr/lib/systemd/systemd") == "debian/system"
    assert host.check_output("cmp /etc/ssh/sshd_config /usr/etc/ssh/sshd_config") == ""
    assert host.check_output("systemctl get-default") == "multi-user.target"


def test_event_log_replays_to_the_pcr(enforcing: Full) -> None:
    host, receipt = enforcing.host, enforcing.ready.receipt or {}
    log = host.file("/run/log/systemd/tpm2-measure.log").content
    value, told = bytes(32), []
    for record in (json.loads(text) for text in log.split(b"\x1e") if text):
        (digest,) = (each["digest"] for each in record["digests"] if each["hashAlg"] == "sha256")
        if record["pcr"] == PCR:
            value = hashlib.sha256(value + bytes.fromhex(digest)).digest()
            text = record["content"]["string"]
            assert hashlib.sha256(text.encode()).hexdigest() == digest
            told.append(text)
    assert host.check_output(f"cat /sys/class/tpm/tpm0/pcr-sha256/{PCR}").lower() == value.hex()
    assert receipt["measured"] == {"pcr": PCR, "events": told}
    image, trust, cmdline = told
    assert image == f"bootc-live:image:{receipt['image']['manifest_digest']}"
    assert trust == f"bootc-live:trust:{receipt['policy']['signatures']}"
    assert cmdline.removeprefix("bootc-live:cmdline:").split() == host.file("/proc/cmdline").content_string.split()


def test_kexec_that_cannot_be_done_is_a_warning_where_the_boot_may_go_on(enforcing: Full) -> None:
    receipt = enforcing.ready.receipt or {}
    assert receipt["kexec"] is None
    told = [warning for warning in receipt["warnings"] if "kexec is disabled (kernel.kexec_load_disabled)" in warning]
    assert len(told) == (NO_KEXEC in enforcing.host.file("/proc/cmdline").content_string)


def test_verity_checks_the_root(enforcing: Full) -> None:
    root = mounts(enforcing.host)["/"]
    checked = (enforcing.ready.receipt or {})["root"]["root_hash"] is not None
    assert root["source"].startswith("/dev/dm-") == checked == (root["fstype"] == "erofs")


def test_new_files_are_labelled(enforcing: Full) -> None:
    enforcing.host.check_output("touch /etc/new /var/lib/new /var/log/new")
    assert enforcing.host.check_output("stat -c %C /etc/new") == "unconfined_u:object_r:etc_t:s0"
    assert ":var_lib_t:" in enforcing.host.check_output("stat -c %C /var/lib/new")
    assert ":var_log_t:" in enforcing.host.check_output("stat -c %C /var/log/new")


def test_nothing_is_denied_for_want_of_a_label(enforcing: Full) -> None:
    # The policy denies a thing or two wherever the root is; never because a file has no label or that of its tmpfs.
    unlabelled = re.compile(r"tcontext=\S+:(unlabeled_t|default_t):|dev=\"overlay\".*:tmpfs_t:")
    assert [line for line in enforcing.denials() if unlabelled.search(line)] == []
