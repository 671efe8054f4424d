"""What becomes of the arguments that public images really have in kargs.d.

Each row has what one string of ``kargs`` says in a repository of that name, as read there; a UKI gets the same.
"""

from __future__ import annotations

import pytest

from bootc_live.config.next_kernel.image_kargs import Verdict, verdict
from bootc_live.config.next_kernel.kargs_d import image_arguments

KEPT = {
    "bootc-dev/bootc": ("mitigations=auto,nosmt", "console=ttyS0,114800n8", "console=ttyS0,115200n8", "kargsd-test=1"),
    "ublue-os/bluefin-lts": ("rd.driver.blacklist=nouveau", "modprobe.blacklist=nouveau", "nvidia-drm.modeset=1"),
    "projectbluefin/common": ("module_blacklist=hid_sensor_hub",),
    "secureblue/secureblue": (
        *("init_on_alloc=1", "init_on_free=1", "slab_nomerge", "page_alloc.shuffle=1", "randomize_kstack_offset=on"),
        *("vsyscall=none", "lockdown=confidentiality", "random.trust_cpu=off", "random.trust_bootloader=off"),
        *("iommu=force", "intel_iommu=on", "iommu.passthrough=0", "iommu.strict=1", "pti=on", "vdso32=0"),
        *("module.sig_enforce=1", "mitigations=auto,nosmt", "spectre_v2=on", "spec_store_bypass_disable=on"),
        *("l1d_flush=on", "l1tf=full,force", "kvm-intel.vmentry_l1d_flush=always", "loglevel=0", "rd.shell=0"),
        *("rd.emergency=halt", "nvidia-drm.fbdev=1", "quiet", "rhgb"),
    ),
    "travier/fedora-atomic-desktops-sealed": (
        *("rd.systemd.debug_shell", "systemd.debug_shell", "systemd.mask=systemd-tpm2-setup.service"),
        *("rd.systemd.mask=systemd-tpm2-setup-early.service", "systemd.mask=systemd-pcrphase.service"),
        *("systemd.mask=systemd-tpm2-setup-early.service", "systemd.mask=systemd-pcrproduct.service"),
    ),
    "mrguitar/rhel-bootc-workstation": (
        "nvidia-drm.modeset=1 nouveau.modeset=0 rd.driver.blacklist=nouveau modprobe.blacklist=nouveau",
    ),
    "ComplianceAsCode/content": ("fips=1",),
    "shapebit-software/image": ("console=tty0", "console=ttyS0,115200n8"),
    "echocat/bluecat": ("rd.driver.blacklist=nouveau", "modprobe.blacklist=nouveau", "nvidia-drm.modeset=1"),
    "B-Woody/woodys-custom-ublue": ("proc_mem.force_override=ptrace", "ssbd=force-on", "kvm.mitigate_smt_rsb=1"),
    "mios-dev/MiOS": (
        *("iommu=pt", "amd_iommu=on", "systemd.show-status=true", "systemd.log_level=info", "mios.blade=hybrid"),
        *("crashkernel=256M", "ramoops.mem_address=0x1f0000000", "ramoops.mem_size=0x1000000", "page_poison=1"),
        *("ramoops.record_size=262144", "ramoops.console_size=262144", "slub_debug=FZ", "debugfs=off", "oops=panic"),
        *("efi=disable_early_pci_dma", "itlb_multihit=flush,force", "tsx_async_abort=full,force", "mds=full,force"),
    ),
}
FOR_DISK = {
    "travier/fedora-atomic-desktops-sealed": (
        "rw",
        "rootflags=compress=zstd:1,subvol=root",
        "rootflags=compress=zstd:1",
    ),
    "secureblue/secureblue": ("rw", "rootflags=compress=zstd:1"),
    "ublue-os/bazzite": ("rootflags=subvol=root,noatime,lazytime,discard=sync,compress-force=zstd:3,space_cache=v2",),
    "shapebit-software/image": ("rw", "rootflags=subvol=@base"),
    "mios-dev/MiOS": (
        *("rootflags=discard=async,noatime", "ostree.composefs=1"),
        "ostree.composefs.digest=753ed211bf767cdbbfb7ca35330601fc742d15482ea3a8fd2df31f8017945343",
    ),
    # What install adds to those of the image: read in the documentation of the program and in its issues.
    "bootc-dev/bootc": (
        *("root=UUID=2e9f4241-229b-4202-8429-62d2302382e1", "boot=UUID=25f24bf6-0000-0000-0000-000000000000"),
        "composefs=4fa664fc",
    ),
    "ostreedev/ostree": ("root=UUID=cafebabe", "ostree=/boot/ostree.0"),
    "coreos/custom-coreos-disk-images": ("ostree.prepare-root.composefs=0",),
    # Files whose repository the index that they were read in does not name.
    "unnamed": (
        *("rootflags=noatime", "rootflags=subvol=root,compress-force=zstd:3", "rd.luks.options=x-initrd.attach"),
        *("systemd.volatile=state", "root=dissect"),
    ),
}
REFUSED = {
    "mios-dev/MiOS": ("systemd.mount-extra=/var/lib/containers:none:bind,rw,x-systemd.makefs",),
    "unnamed": (
        *("rd.neednet=1", "ip=dhcp", "mount.usr=dissect"),
        "systemd.mount-extra=/sysroot/state/os/default/var/log:/var/log:none:bind,nofail",
    ),
}
KEPT["unnamed"] = (
    *("splash quiet", "quiet splash zswap.enabled=0", "rootwait", "init=/nix/store/x/init", "systemd.firstboot=no"),
    *("acpi_osi=!Darwin", "mem_sleep_default=s2idle", "rd.udev.log_level=3", "vt.global_cursor_default=0", "audit=0"),
    *("initcall_blacklist=simpledrm_platform_driver_init", "nvidia.NVreg_TemporaryFilePath=/var/tmp", "console=null"),
    *("kvm.ignore_msrs=1", "amdgpu.ppfeaturemask=0xffffffff", "systemd.zram=0", "vconsole.keymap=br", "preempt=full"),
    *("systemd.unit=graphical.target", "isolcpus=nohz,domain,managed_irq:2-3", "devicetree=/dtb/qcom/x13s.dtb"),
    *("systemd.unified_cgroup_hierarchy=0", "panic=0", "plymouth.ignore-serial-consoles", "usbcore.autosuspend=-1"),
    *("rd.plymouth=0", "arm64.nopauth", "clk_ignore_unused", "threadirqs", "boot.shell_on_fail", "consoleblank=1200"),
)
ROWS = [
    pytest.param(text, wanted, id=f"{repository}: {text}")
    for wanted, rows in ((Verdict.KEPT, KEPT), (Verdict.FOR_DISK, FOR_DISK), (Verdict.REFUSED, REFUSED))
    for repository, texts in rows.items()
    for text in texts
]


@pytest.mark.parametrize(("text", "wanted"), ROWS)
def test_public_arguments(text: str, wanted: Verdict) -> None:
    words = image_arguments({"10-x.toml": f'kargs = ["{text}"]\n'.encode()}, "x86_64")
    assert words
    assert {verdict(word) for word in words} == {wanted}


# The one file there with a blank inside of an argument: bootc, too, makes two of it.
def test_a_blank_inside_of_an_argument() -> None:
    words = image_arguments({"10-x.toml": b'kargs = ["acpi_osi=!Windows 2012"]\n'}, "x86_64")
    assert [verdict(word) for word in words] == [Verdict.KEPT] * 2
