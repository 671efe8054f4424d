"""The boots: one row, one guest. A row says what is loaded, what is asked for, and what must come of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

# No shell to wait in, and no second try: a failed boot powers off.
FAILING = "rd.shell=0 rd.emergency=poweroff"


class Needs(StrEnum):
    """What a boot needs beside its initrds and its network."""

    NOTHING = "nothing"
    """The kernel of this machine will do."""
    KERNEL = "kernel"
    """A kernel, a memory and a clock of its own, and udev."""
    PC = "pc"
    """A whole machine: drivers, modules of the image, firmware, SMBIOS."""


@dataclass(frozen=True)
class Row:
    """One boot.

    `needs` is what it takes; the cheapest kind of guest that has it is booted (tests/vm/kinds.py).
    `initrds` are names below vm/out, or of archives the fixtures make ("ca.cpio").
    `kargs` may hold `{http}`, `{https}` and `{damaged}` (registries as the guest calls them), `{named}` (the first of
    them by name), `{digest}` (of the image) and `{closed}` (a port nobody listens on). `error` is what a boot that must
    fail says, None for one that must not; `failed` are units of the image that may fail with what the row asks for.
    `disks` are names of what tests/vm/make-disks makes; `unplugged` adds a network interface that nobody is behind.
    `source` is the one that is used, where it is not that of `root=`. `clock` is what the machine's clock says, `login`
    the place it gets a login for as a systemd credential. The names of tests/vm/places.py, in braces, are servers that
    misbehave. `kernel` is the name of a kernel below vm/out, where it is not that of the image.
    """

    name: str
    initrds: tuple[str, ...]
    kargs: str
    error: tuple[str, ...] | None = None
    failed: frozenset[str] = frozenset()
    memory: int = 2048
    disks: tuple[str, ...] = ()
    unplugged: bool = False
    source: str | None = None
    clock: str = ""
    login: str = ""
    kernel: str = "vmlinuz"
    needs: Needs = Needs.NOTHING

    @property
    def layout(self) -> str:
        """The layout the row asks for."""
        if "bootc.live.erofs" in self.kargs.split():
            return "erofs"
        return self.kargs.partition("bootc.live.layout=")[2].split(" ")[0] or "index"

    @property
    def tag(self) -> str:
        """The tag of the image that is booted; what is no registry's is that of "stable"."""
        named = re.match(r"root=bootc-live:docker://\S+:([a-z]+) ", self.kargs)
        return named[1] if named else "stable"

    def __str__(self) -> str:
        """The row's name, which is the test's."""
        return self.name


BOOTS = (
    Row("embedded", ("initrd-embedded.img",), "root=bootc-live:/root.oci", needs=Needs.KERNEL),
    Row(
        "appended to an initrd with the base module only, signed as a file, a locked key, tree, etc.rw=0",
        ("initrd-base.img", "rootfs.cpio", "bundle.cpio", "locked.cpio"),
        "root=bootc-live:/root.oci bootc.live.layout=tree bootc.live.etc.rw=0",
    ),
    Row(
        "registry by tag over HTTP, with a login and tokens that run out, every blob broken off, rw",
        ("initrd.img",),
        "root=bootc-live:docker://{dropping}/os/live:stable bootc.registry.unsecure rw bootc.quiet=1",
        login="dropping",
    ),
    Row(
        "registry by digest over HTTPS with a private CA, TLS cut in every blob, signed, a locked key, var.rw=0",
        ("initrd.img", "ca.cpio", "locked.cpio"),
        "root=bootc-live:docker://{cutting}/os/live@{digest} bootc.live.var.rw=0 bootc.trust.insecure",
        # Both keep state in /var/lib/systemd; the second does not fail in every boot.
        failed=frozenset({"systemd-logind.service", "systemd-networkd-persistent-storage.service"}),
    ),
    Row(
        "without systemd in the initrd, erofs with LZ4",
        ("initrd-nosystemd.img", "rootfs.cpio"),
        "root=bootc-live:/root.oci bootc.live.layout=erofs bootc.live.compress=lz4 bootc.live.erofs.times=image",
    ),
    Row(
        "without systemd in the initrd, busy registry over HTTPS with blobs on another host",
        ("initrd-nosystemd.img", "ca.cpio"),
        "root=bootc-live:docker://{moving}/os/live:stable",
    ),
    Row(
        "wrong bytes in the registry, archive over HTTP as the fallback, erofs with zstd",
        ("initrd.img",),
        "root=bootc-live:docker://{damaged}/os/live:stable bootc.live.fallback=http://{files}/images/live.oci "
        "bootc.registry.unsecure bootc.live.digest={digest} "
        "bootc.live.erofs bootc.live.compress=zstd bootc.live.erofs.times=image",
        source="http://{files}/images/live.oci",
    ),
    Row(
        "vfat stick by label, all on zram",
        ("initrd.img",),
        "root=bootc-live:LABEL=STICK:/images/root.oci bootc.zram=384M bootc.live.writable=zram",
        disks=("stick.vfat",),
        needs=Needs.KERNEL,
    ),
    Row(
        "without systemd in the initrd, clock of 2001, missing stick, empty ext4 disk, disc as the fallback",
        ("initrd-nosystemd.img", "built.cpio"),
        "root=bootc-live:LABEL=MISSING:/images/root.oci bootc.live.fallback=LABEL=EMPTY:/images/root.oci "
        "bootc.live.fallback=LABEL=DISC:/images/root.oci rd.retry=6",
        disks=("empty.ext4", "disc.iso"),
        clock="2001-01-01",
        needs=Needs.KERNEL,
        source="LABEL=DISC:/images/root.oci",
    ),
    Row(
        "hostile layers behind a mirror that accepts and says nothing, one interface of two without a carrier",
        ("initrd.img",),
        "root=bootc-live:docker://{http}/os/live:hostile bootc.registry.unsecure rd.net.wait-any-if "
        "bootc.registry.mirror=http://{silent} bootc.live.retry.stall=4s",
        unplugged=True,
    ),
    Row(
        "kernel 6.1 and dracut 059 of Debian 12, registry by tag over HTTP, with a login by SMBIOS, erofs with verity",
        ("initrd-bookworm.img",),
        # An emulated machine takes a second for each MiB of a layer: without the kernel that it does not boot.
        "root=bootc-live:docker://{dropping}/os/live:bare bootc.registry.unsecure ip=dhcp bootc.live.layout=erofs "
        "bootc.live.verity",
        login="dropping",
        kernel="vmlinuz-bookworm",
        needs=Needs.PC,
    ),
    Row(
        "NetworkManager in an initramfs made in a container, registry by name, one interface of two gets no answer",
        ("initrd-container.img",),
        # Who waits for the second interface waits longer than the test.
        "root=bootc-live:docker://{named}/os/live:bare bootc.registry.unsecure rd.net.wait-any-if "
        "rd.net.timeout.dhcp=3600",
        unplugged=True,
        needs=Needs.KERNEL,
    ),
    Row(
        "NetworkManager with an address and a name server of the command line, registry by name, erofs with zstd",
        ("initrd-container.img",),
        "root=bootc-live:docker://{named}/os/live:bare bootc.registry.unsecure "
        "ip=10.0.2.15::10.0.2.2:255.255.255.0:::none nameserver=10.0.2.3 "
        # User-mode Linux has no EROFS with zstd.
        "bootc.live.erofs bootc.live.compress=zstd",
        needs=Needs.KERNEL,
    ),
)

FAILURES = (
    Row(
        "memory for no layout",
        ("initrd.img",),
        "root=bootc-live:docker://{http}/os/live:stable bootc.registry.unsecure bootc.live.layout=auto",
        # User-mode Linux has no EROFS with zstd.
        error=("does not fit into memory: layout erofs ", " MiB are available", "no other layout would fit"),
        memory=300,
        needs=Needs.KERNEL,
    ),
    Row(
        "wrong bytes in the registry",
        ("initrd.img",),
        "root=bootc-live:docker://{damaged}/os/live:stable bootc.registry.unsecure",
        error=("has the digest sha256:", "it must be sha256:", "docker://{damaged}/os/live:stable", "what to do: "),
    ),
    Row(
        "no signature, one by another key, one of another image, a locked key",
        ("initrd.img", "locked.cpio"),
        "root=bootc-live:docker://{http}/os/live:hostile bootc.live.fallback=docker://{http}/os/live:foreign "
        "bootc.live.fallback=docker://{http}/os/live:changed bootc.registry.unsecure bootc.trust.insecure",
        error=(
            "bootc.trust.insecure is ignored: /etc/bootc-live/keys/os.pub is locked",
            "has no valid signature that /etc/bootc-live/keys/os.pub wants: there is none beside it",
            "has no valid signature that /etc/bootc-live/keys/os.pub wants: a signature is by none of the keys",
            "has no valid signature that /etc/bootc-live/keys/os.pub wants: a signature names another image, {digest}",
            "what to do: ",
        ),
    ),
    Row(
        "unreachable registry",
        ("initrd-nosystemd.img",),
        "root=bootc-live:docker://10.0.2.2:{closed}/os/live:stable bootc.registry.unsecure",
        error=("cannot reach http://10.0.2.2:{closed}/v2/os/live/manifests/stable", "refused", "what to do: "),
    ),
    Row(
        "missing device",
        ("initrd.img",),
        "root=bootc-live:LABEL=MISSING:/images/root.oci rd.retry=6",
        error=("'LABEL=MISSING:/images/root.oci': there is no block device LABEL=MISSING", "what to do: "),
    ),
)
