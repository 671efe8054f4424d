"""Boots that go on in the image's own kernel, and one where that kernel is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.lib.fault_files import Files
from tests.lib.fault_proxy import fault_proxy
from tests.lib.fault_server import fault_server
from tests.lib.registry import GUEST
from tests.vm.builder import in_builder, make_uki
from tests.vm.conftest import pack
from tests.vm.inside import connect
from tests.vm.kexec import (
    ARCHIVE,
    MEMORY,
    NAME,
    SMALL,
    Images,
    boot_kernel,
    common,
    fetched,
    guest,
    image_kernel,
    images,
    source,
)
from vmkit.guest import Guest, GuestError
from vmkit.paths import OUT
from vmkit.start import CONSOLE, Kernel

Ask = Callable[[str], str]
"""What runs a command in the guest and gives what it prints."""

BOOT_SECONDS = 900
LITTLE = 560
FAIL_SECONDS = 600


@pytest.fixture
def served() -> Iterator[Images]:
    """The images in a registry."""
    with images() as found:
        yield found


def went_on(running: Guest, *, small: bool = False) -> tuple[dict[str, Any], Ask]:
    """The receipt of a guest that runs under the image's own kernel, with nothing failed, and what asks it.

    A `small` image has nothing but an init, which tells the answers by itself (vm/kexec/init).
    """
    ready = running.wait_ready(BOOT_SECONDS)
    ask = partial(told, running) if small else connect(running, lasting=True).check_output
    receipt, kernel = ready.receipt or {}, ask("uname -r")
    both = receipt["kexec"]
    first = both["first"]
    print(f"ready after {ready.seconds:.0f} s, first {first['phases']}, then {receipt['phases']}, {both['seconds']} s")
    assert (ready.target, ready.failed) == ("init" if small else "multi-user.target", 0)
    assert kernel != boot_kernel()
    assert ask("ls /usr/lib/modules") == kernel
    assert (first["kernel"], both["kernel"]) == (boot_kernel(), kernel)
    assert first["manifest_digest"] == receipt["image"]["manifest_digest"]
    assert running.console().count("Linux version ") == 2
    assert {"resolve", "fetch", "kernel"} <= set(first["phases"])
    return receipt, ask


def told(running: Guest, command: str) -> str:
    """What the small image's init says that a command prints."""
    (answer,) = (line.removeprefix(f"{command}: ") for line in running.lines() if line.startswith(f"{command}: "))
    return answer


def arguments(ask: Ask) -> list[str]:
    """Those of the kernel that runs."""
    return ask("cat /proc/cmdline").split()


def test_image_is_handed_over() -> None:
    """Under Secure Boot, from a UKI that firmware fetches to one whose initramfs asks for kexec once more."""
    with images(SMALL) as served, fault_proxy(served.registry) as server:
        layers = served.layers("uki")
        kargs = f"root=bootc-live:{source(server, 'uki')} bootc.kexec bootc.kexec.append=my.own=1"
        uki = make_uki(served.directory / "uki", f"{CONSOLE} {common(kargs)}", image_kernel())
        with (
            fault_server(Files({"/node.efi": uki.file})) as web,
            Guest(uki.fetched(f"http://{GUEST}:{web.port}/node.efi"), memory=MEMORY) as running,
        ):
            receipt, ask = went_on(running, small=True)
            assert "Start HTTP Boot over IPv4" in running.console()
            assert "secureboot: Secure boot enabled" in running.console()
            assert "(kexec_file_load)" in running.console()
            given = arguments(ask)
            locked = ask("cat /sys/kernel/security/lockdown")
        assert fetched(server, layers) == {1}
    assert receipt["image"]["manifest_digest"] == served.digests["uki"]
    assert receipt["kexec"]["reused"] == sum(layers.values())
    assert receipt["kexec"]["first"]["bytes"]["transferred"] >= sum(layers.values())
    assert sum(receipt["hosts"].values()) == 0
    assert any("bootc.kexec is ignored" in warning for warning in receipt["warnings"])
    assert locked == "none [integrity] confidentiality"
    assert "test.from=uki" in given
    assert given[-1] == "my.own=1" or "my.own=1" in given[-2:]
    refused = ("bootc.kexec", "root=UUID", "rootflags", "rw", "composefs", "rd.luks")
    assert not [word for word in given if word.startswith(refused)]


@pytest.mark.long
def test_what_memory_does_not_do_for_is_fetched_again() -> None:
    """The largest layer, in a machine where two times all of them would not fit; no systemd in the first initramfs.

    It comes from the source that had the image, by the same digest, though the tag names another image by then.
    """
    asked = "bootc.kexec bootc.live.layout=erofs bootc.live.compress=lz4 my.own=1 bootc.kexec.remove=my.own"
    dead = f"docker://{GUEST}:1/{NAME}:latest"
    with images(changing=True) as served, fault_proxy(served.registry) as server:
        layers = served.layers("latest")
        left_out = max(layers.values())
        served.registry.push(f"oci-archive:{OUT / ARCHIVE}:latest", f"{NAME}:moving")
        sources = f"root=bootc-live:{dead} bootc.live.fallback={source(server, 'moving')}"
        kargs = common(f"{sources} bootc.live.retry.tries=1 {asked}")
        with Guest(Kernel(initrds=[OUT / "initrd-nosystemd.img"], append=kargs), memory=LITTLE) as running:
            running.wait_console("Starting new kernel", FAIL_SECONDS)
            served.registry.push(f"oci-archive:{OUT / ARCHIVE}:plain", f"{NAME}:moving")
            receipt, ask = went_on(running)
            given = arguments(ask)
        assert fetched(server, layers) == {1, 2}
    assert receipt["image"]["manifest_digest"] == served.digests["latest"]
    assert [attempt["used"] for attempt in receipt["kexec"]["first"]["sources"]] == [False, True]
    assert receipt["kexec"]["reused"] == sum(layers.values()) - left_out
    assert receipt["bytes"]["transferred"] == left_out
    assert [attempt["used"] for attempt in receipt["sources"]] == [True]
    assert receipt["warnings"] == []
    assert [said for said in receipt["kexec"]["first"]["warnings"] if "rd.luks.uuid" in said]
    assert "test.from=image" in given
    assert not [word for word in given if word.startswith(("root=UUID", "rootf", "rw", "ostree", "rd.luks", "resume"))]
    assert not {"test.from=elsewhere", "my.own=1"} & set(given)
    pinned = f"{source(server, 'moving')}@{served.digests['latest']}"
    assert [word for word in given if word.endswith((f"={pinned}", f":{pinned}"))], given


@pytest.mark.long
def test_image_is_fetched_again(served: Images) -> None:
    """All of it, as asked for; what the next kernel is given then is tested without a machine, too."""
    layers = served.layers("latest")
    with fault_proxy(served.registry) as server:
        kargs = f"root=bootc-live:{source(server, 'latest')} bootc.kexec bootc.kexec.reuse-image=0"
        with guest(kargs) as running:
            receipt, _ = went_on(running)
        assert fetched(server, layers) == {2}
    assert receipt["image"]["manifest_digest"] == served.digests["latest"]
    assert receipt["kexec"]["reused"] == 0
    assert sum(receipt["hosts"].values()) >= sum(layers.values())


@pytest.mark.long
def test_appended_archive_is_handed_over_by_the_older_call(served: Images) -> None:
    """Debian's kernel has both calls; a filter of system calls answers that there is no such call as the newer one."""
    archive, appended = served.directory / "root.oci", served.directory / "root.cpio"
    one = (f"oci-archive:{OUT / ARCHIVE}:latest", f"oci-archive:{archive}:latest")
    in_builder("skopeo", "copy", "--quiet", "--insecure-policy", *one)
    pack(served.directory, appended.name, "root.oci", archive)
    name = "etc/systemd/system/bootc-live.service.d/no-new-call.conf"
    filtered = served.directory / "no-new-call.conf"
    filtered.write_text("[Service]\nSystemCallFilter=~kexec_file_load\nSystemCallErrorNumber=ENOSYS\n")
    pack(served.directory, "filter.cpio", name, filtered)
    initrds = (OUT / "initrd.img", appended, served.directory / "filter.cpio")
    with guest("root=bootc-live:/root.oci bootc.kexec", *initrds) as running:
        receipt, ask = went_on(running)
        assert "(kexec_load)" in running.console()
        assert "test.from=image" in arguments(ask)
    assert receipt["image"]["manifest_digest"] == served.digests["latest"]
    assert receipt["kexec"]["reused"] == sum(served.layers("latest").values())
    assert receipt["hosts"] == {}


@pytest.mark.long
def test_unsigned_kernel_under_lockdown_is_refused(served: Images) -> None:
    kargs = f"root=bootc-live:{source(served.registry, 'unsigned')} bootc.kexec lockdown=integrity"
    with guest(kargs) as running:
        running.wait_exit(FAIL_SECONDS)
        console = running.console()
        with pytest.raises(GuestError):
            running.wait_ready(1)
        for part in ("refuses", "not signed", "lockdown=integrity", "what to do: "):
            assert part in console
        assert console.count("Linux version ") == 1
        assert "Switching root" not in console
        assert "Traceback" not in console
