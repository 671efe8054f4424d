"""Boots that go on in the image's own kernel, boots where that cannot be, and images without modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from testinfra.host import Host

from tests.lib.fault_proxy import fault_proxy
from tests.lib.registry import GUEST
from tests.vm.builder import in_builder, make_uki
from tests.vm.conftest import Stage, pack
from tests.vm.inside import connect
from tests.vm.kexec import (
    ARCHIVE,
    MEMORY,
    NAME,
    Images,
    boot_kernel,
    common,
    fetched,
    guest,
    image_kernel,
    images,
    source,
)
from vmkit.guest import Guest, GuestError, Ready
from vmkit.paths import OUT
from vmkit.start import Kernel

BOOT_SECONDS = 600
SMALL = 560
FAIL_SECONDS = 300


@pytest.fixture(scope="module")
def served() -> Iterator[Images]:
    """The images in a registry."""
    with images() as found:
        yield found


def went_on(running: Guest) -> tuple[dict[str, Any], Host]:
    """The receipt of a guest that runs under the image's own kernel, with nothing failed, and the way in."""
    ready = running.wait_ready(BOOT_SECONDS)
    host = connect(running)
    receipt, kernel = ready.receipt or {}, host.check_output("uname -r")
    both = receipt["kexec"]
    first = both["first"]
    print(f"ready after {ready.seconds:.0f} s, first {first['phases']}, then {receipt['phases']}, {both['seconds']} s")
    assert (ready.target, ready.failed) == ("multi-user.target", 0)
    assert kernel != boot_kernel()
    assert host.check_output("ls /usr/lib/modules") == kernel
    assert (first["kernel"], both["kernel"]) == (boot_kernel(), kernel)
    assert first["manifest_digest"] == receipt["image"]["manifest_digest"]
    assert running.console().count("Linux version ") == 2
    assert {"resolve", "fetch", "kernel"} <= set(first["phases"])
    return receipt, host


def arguments(host: Host) -> list[str]:
    """Those of the kernel that runs."""
    return str(host.file("/proc/cmdline").content_string).split()


def test_image_is_handed_over(served: Images) -> None:
    """Under Secure Boot, from a UKI to one whose initramfs asks for kexec once more."""
    layers = served.layers("uki")
    with fault_proxy(served.registry) as server:
        kargs = f"root=bootc-live:{source(server, 'uki')} bootc.kexec bootc.kexec.append=my.own=1"
        uki = make_uki(served.directory / "uki", f"console=ttyS0 panic=-1 {common(kargs)}", image_kernel())
        with Guest(uki.machine(), memory=MEMORY) as running:
            receipt, host = went_on(running)
            assert "(kexec_file_load)" in running.console()
            given = arguments(host)
            locked = host.file("/sys/kernel/security/lockdown").content_string.strip()
        assert fetched(server, layers) == {1}
    assert receipt["image"]["manifest_digest"] == served.digests["uki"]
    assert receipt["kexec"]["reused"] == sum(layers.values())
    assert receipt["kexec"]["first"]["bytes"]["transferred"] >= sum(layers.values())
    assert sum(receipt["hosts"].values()) == 0
    assert any("bootc.kexec is ignored" in warning for warning in receipt["warnings"])
    assert locked == "none [integrity] confidentiality"
    assert "test.from=uki" in given
    assert given[-1] == "my.own=1" or "my.own=1" in given[-2:]
    assert not [word for word in given if word.startswith("bootc.kexec")]


def test_image_is_fetched_again(served: Images) -> None:
    """By the same digest, though the tag names another image by then."""
    layers = served.layers("latest")
    with fault_proxy(served.registry) as server:
        kargs = f"root=bootc-live:{source(server, 'moving')} bootc.kexec bootc.kexec.reuse-image=0 my.own=1"
        served.registry.push(f"oci-archive:{OUT / ARCHIVE}:latest", f"{NAME}:moving")
        with guest(f"{kargs} bootc.kexec.remove=my.own") as running:
            running.wait_console("Starting new kernel", FAIL_SECONDS)
            served.registry.push(f"oci-archive:{OUT / ARCHIVE}:plain", f"{NAME}:moving")
            receipt, host = went_on(running)
            given = arguments(host)
        assert fetched(server, layers) == {2}
    assert receipt["image"]["manifest_digest"] == served.digests["latest"]
    assert receipt["kexec"]["reused"] == 0
    assert sum(receipt["hosts"].values()) >= sum(layers.values())
    assert "test.from=image" in given
    assert not {"test.from=elsewhere", "my.own=1"} & set(given)
    assert f"root=bootc-live:{source(server, 'moving')}@{served.digests['latest']}" in given


def test_what_memory_does_not_do_for_is_fetched_again(served: Images) -> None:
    """The largest layer, in a machine where two times all of them would not fit; from the source that had the image."""
    layers = served.layers("latest")
    left_out = max(layers.values())
    asked = "bootc.kexec bootc.live.layout=erofs bootc.live.compress=lz4"
    dead = f"docker://{GUEST}:1/{NAME}:latest"
    sources = f"root=bootc-live:{dead} bootc.live.fallback={source(served.registry, 'latest')}"
    kargs = common(f"{sources} bootc.live.retry.tries=1 {asked}")
    with Guest(Kernel(initrds=[OUT / "initrd.img"], append=kargs), memory=SMALL) as running:
        receipt, _ = went_on(running)
    assert [attempt["used"] for attempt in receipt["kexec"]["first"]["sources"]] == [False, True]
    assert receipt["kexec"]["reused"] == sum(layers.values()) - left_out
    assert receipt["bytes"]["transferred"] == left_out
    assert [attempt["used"] for attempt in receipt["sources"]] == [True]
    assert receipt["warnings"] == []


def test_appended_archive_is_handed_over(served: Images) -> None:
    """Without systemd in the first initramfs."""
    archive, appended = served.directory / "root.oci", served.directory / "root.cpio"
    one = (f"oci-archive:{OUT / ARCHIVE}:latest", f"oci-archive:{archive}:latest")
    in_builder("skopeo", "copy", "--quiet", "--insecure-policy", *one)
    pack(served.directory, appended.name, "root.oci", archive)
    initrds = (OUT / "initrd-nosystemd.img", appended)
    with guest("root=bootc-live:/root.oci bootc.kexec", *initrds) as running:
        receipt, _ = went_on(running)
    assert receipt["image"]["manifest_digest"] == served.digests["latest"]
    assert receipt["kexec"]["reused"] == sum(served.layers("latest").values())
    assert receipt["hosts"] == {}


def test_old_call_where_the_new_one_is_missing(served: Images) -> None:
    """Debian's kernel has both; a filter of system calls answers in its place that there is no such call."""
    name = "etc/systemd/system/bootc-live.service.d/no-new-call.conf"
    filtered = served.directory / "no-new-call.conf"
    filtered.write_text("[Service]\nSystemCallFilter=~kexec_file_load\nSystemCallErrorNumber=ENOSYS\n")
    pack(served.directory, "filter.cpio", name, filtered)
    initrds = (OUT / "initrd.img", served.directory / "filter.cpio")
    with guest(f"root=bootc-live:{source(served.registry, 'latest')} bootc.kexec", *initrds) as running:
        receipt, host = went_on(running)
        assert "(kexec_load)" in running.console()
        assert "test.from=image" in arguments(host)
    assert receipt["kexec"]["reused"] == sum(served.layers("latest").values())


def test_kexec_cannot_be_done_and_the_boot_goes_on(stage: Stage) -> None:
    kargs = f"root=bootc-live:docker://{stage.http}/os/live:stable sysctl.kernel.kexec_load_disabled=1"
    with guest(f"{kargs} bootc.kexec bootc.kexec.onfail=boot") as running:
        ready = running.wait_ready(BOOT_SECONDS)
    receipt = ready.receipt or {}
    assert (ready.target, ready.failed, receipt["kexec"]) == ("multi-user.target", 0, None)
    (warning,) = [text for text in receipt["warnings"] if "kexec" in text]
    assert "kexec is switched off (kernel.kexec_load_disabled)" in warning
    assert not [text for text in receipt["warnings"] if "modules" in text]


def test_image_without_modules_is_a_warning(served: Images) -> None:
    with guest(f"root=bootc-live:{source(served.registry, 'latest')}") as running:
        ready: Ready = running.wait_ready(BOOT_SECONDS)
        console = running.console()
    said = f"has no modules for the running kernel {boot_kernel()}"
    assert said in console
    assert [text for text in (ready.receipt or {})["warnings"] if said in text]


FAILURES = {
    "initramfs without bootc-live, and no modules to go on with": (
        "plain",
        "bootc.kexec bootc.kexec.onfail=boot",
        ("has no bootc-live in it", "the image has no modules for {kernel}"),
    ),
    "unsigned kernel under lockdown": (
        "unsigned",
        "bootc.kexec lockdown=integrity",
        ("refuses", "not signed", "lockdown=integrity"),
    ),
    "modules required": (
        "latest",
        "bootc.live.modules=required",
        ("has no modules for the running kernel {kernel}",),
    ),
}


@pytest.mark.parametrize(("tag", "kargs", "said"), FAILURES.values(), ids=FAILURES)
def test_says_why_it_cannot_go_on_and_powers_off(served: Images, tag: str, kargs: str, said: tuple[str, ...]) -> None:
    with guest(f"root=bootc-live:{source(served.registry, tag)} {kargs}") as running:
        running.wait_exit(FAIL_SECONDS)
        console = running.console()
        with pytest.raises(GuestError):
            running.wait_ready(1)
    for part in (*said, "what to do: "):
        assert part.format(kernel=boot_kernel()) in console
    assert console.count("Linux version ") == 1
    assert "Switching root" not in console
    assert "Traceback" not in console
