"""What an image may ask of the kernel that is started next, and what never."""

from __future__ import annotations

import pytest

from bootc_live.config.cmdline.table import KARGS
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.cmdline import next_cmdline
from bootc_live.config.next_kernel.image_kargs import Verdict, verdict
from bootc_live.config.next_kernel.kargs_d import printable_words

ALLOWED = (
    *("console=ttyS0,115200n8", "quiet", "nosmt", "mitigations=auto,nosmt", "selinux=0", "enforcing=0", "rhgb"),
    *("net.ifnames=0", "biosdevname=0", "ipv6.disable=1", "iommu=pt", "init=/sbin/init", "noresume"),
    *("systemd.unified_cgroup_hierarchy=1", "modprobe.blacklist=nouveau", 'dyndbg="file a.c +p"'),
    "bootc.live.verity",
    *("bootc.live.layout=erofs", "bootc.live.compress=zstd", "bootc.zram=2G", "bootc.live.var.size=1G", "=x", "a="),
    *("hugepages=16", "crashkernel=256M", "rd.driver.pre=x", "rootwait", "rootdelay=3", "fips=1"),
    *("rwx=1", "rootless=1", "bootcount=1", "rd.memdebug=1", "mdadm=x", "luksus=1", "ostreed=1", "composefsx=1"),
)
# About a root on a disk, by whom it is read.
KERNEL_AND_FSTAB = (
    *("rw", "ro", "rw=1", "RW", "rootflags=noatime", "rootflags", "rootfstype=btrfs", "root=UUID=12-3", "root=LABEL=x"),
    *(
        "root=PARTUUID=1",
        "root=PARTLABEL=x",
        "root=/dev/sda1",
        "root=/dev/mapper/x",
        "root=block:/dev/sda1",
        "boot=UUID=1",
    ),
    *(
        "root=gpt-auto",
        "root=gpt-auto-force",
        "root=dissect",
        "root=dissect-force",
        "root=fstab",
        "root=tmpfs",
        "root=8:1",
        "root=259:3:0",
        "root=0801",
        "root=b301",
        "root=mtdblock3",
        "root=mtd:rootfs",
        "root=ubi0:rootfs",
        "root=zfs:AUTO",
        "root=ZFS=rpool/ROOT/debian",
        "systemd.gpt_auto=0",
        "systemd.gpt-auto",
        "md=0,/dev/sda",
    ),
    *("rd.systemd.gpt_auto=no", "systemd.volatile=state", "resume=UUID=1", "resume_offset=34816", "resumeflags=x"),
    *("resumewait", "resumedelay=5", "dm-mod.create=x", "dm_mod.waitfor=/dev/sda"),
)
OSTREE_AND_BOOTC = (
    *("ostree=/ostree/boot.1/default/0/0", "ostree.prepare-root.composefs=0", "ostree.prepare_root.composefs=1"),
    *("composefs=?00ff", "composefs=0", "composefs.x=1", "Composefs=1"),
)
DRACUT = (
    *("rd.luks=0", "rd.luks", "rd.luks.uuid=luks-1", "rd.luks.name=1=root", "rd.luks.options=discard", "luks.uuid=1"),
    *("luks=no", "rd_LUKS_UUID=1", "rd_NO_LUKS", "rd.lvm=0", "rd.lvm.lv=vg/root", "rd_LVM_LV=vg/root", "rd.md=0"),
    *(
        "rd.md.uuid=1",
        "rd_NO_MD",
        "rd.dm=0",
        "rd.dm.uuid=1",
        "rd_NO_DM",
        "rd.multipath=default",
        "rd.auto",
        "rd.auto=1",
    ),
    *("rd.dasd=0.0.1", "rd.zfcp=0.0.4000", "stratis.rootfs.pool_uuid=1"),
)
# In quotes, and more than one for some reader.
SPELLED = (
    *('"rw"', "'rw'", 'rootflags="subvol=root,compress=zstd:1"', '"rootflags=subvol=a b"', 'root="UUID=1"', "r'w'"),
    *("rd-luks", "rd-luks-uuid=1", 'x="a rw b"', "x='composefs=1'", '"root=/dev/sda1"'),
)
SOURCES = (
    *("root=/dev/nfs", "root=http://h/x", "root=nbd:h:1", "root=", "root=disk", "Root=bootc-live:LABEL=x:/y"),
    *(
        "root=bootc-live:docker://evil.example/os",
        "root=live:http://h/x",
        "root",
        "ROOT=x",
        "root=nfs:h:/x",
        "netroot=nbd:x",
        "nfsroot=h:/x",
    ),
    *("bootc.live.fallback=/x", "bootc.live.digest=sha256:00", "bootc.live.erofs.digest=00", "bootclabel=other"),
    f"bootc.live.verity.roothash={'0' * 64}",
    *("bootc.live.state=LABEL=x", "initrd=x", "BOOT_IMAGE=x", "inst.repo=http://h/", "inst.ks=http://h/", "ks=x"),
    *("systemd.pull=raw:http://h/x", "mount.usr=/dev/sda1", "systemd.mount-extra=a:b", "rd.live.image"),
    *("roothash=00", "bootconfig", "rd.overlay=LABEL=x", "rd.overlay.crypt=x", "initrdmem=0x1000,4096"),
    *("rootfallback=/dev/sda", "iso-scan/filename=/x", "iscsiroot=x", "coreos.live.rootfs_url=http://h/x"),
)
NETWORK = (
    *("ip=dhcp", "ip=192.0.2.1::192.0.2.2:255.255.255.0::eth0:off", "IP=dhcp", "ifname=a:b", "nameserver=192.0.2.1"),
    *("bond=bond0", "team=t:a", "bridge=br0", "vlan=v:a", "rd.neednet=1", "rd.neednet", "rd.route=0.0.0.0/0:192.0.2.1"),
    *("rd.peerdns=0", "rd.net.timeout.dhcp=1", "rd.net.wait-any-if", "BOOTIF=01-aa", "rd.iscsi.initiator=x"),
    *("iscsi_firmware", "rd.nvmf.discover=x", "fcoe=x", "netconsole=@/,@192.0.2.1/", "rd.znet=x", "bootdev=eth0"),
    *("ksdevice=eth0", "gateway=192.0.2.1", "syslog.server=192.0.2.1", "rd.ntp=192.0.2.1", "rd.nonvmf"),
    *("HOSTALIASES=/x", "LOCALDOMAIN=evil.example", "RES_OPTIONS=x"),
)
PROXIES = (
    *("proxy=http://h:1", "http_proxy=http://h", "HTTPS_PROXY=http://h", "all-proxy=http://h", "No_Proxy=*"),
    *("ftp_proxy=http://h", "socks_proxy=h:1"),
    *("bootc.registry.mirror=http://h", "bootc.registry.anything=1"),
)
TRUST = (
    *("bootc.trust.insecure", "bootc.trust.key=/a", "bootc.trust.policy=/a"),
    *("bootc.registry.unsecure", "bootc.registry.unsecure=1", "BOOTC.REGISTRY.UNSECURE", "rd.noverifyssl"),
    *("systemd.setenv=SSL_CERT_FILE=/x", "systemd.set_credential=bootc-live.auth:x", "systemd.set-credential=a:b"),
    *("rd.systemd.setenv=https_proxy=x", "SSL_CERT_FILE=/x", "LD_PRELOAD=/x", "PYTHONPATH=/x", "CURL_CA_BUNDLE=/x"),
    *("bootc.kexec", "bootc.kexec.append=root=x", "bootc.live.retry.total=9999h", "bootc.live.unheard-of=1"),
    *("HOME=/x", "XDG_RUNTIME_DIR=/x", "CREDENTIALS_DIRECTORY=/x", "OPENSSL_CONF=/x", "PATH=/x", "BASH_ENV=/x"),
)
# One argument for the kernel; several, or none, for another reader of the same line.
TWO_READINGS = (
    *("--", '"--"', '"--', "--x", "-- ip=dhcp", '"ip=dhcp"', 'ip="dhcp"', '"ip"', 'x="a ip=dhcp b"', '"x=a ip=dhcp"'),
    *("x='ip=dhcp'", 'x="a\tip=dhcp"', 'x="a\xa0ip=dhcp"', "x='", "it's", "x=\\", 'x="a\\ ip=dhcp"', 'x="root"ip=dhcp'),
    # systemd drops quotes inside of words, and knows one kind inside of the other.
    *('i"p"=dhcp', "i'p'=dhcp", 'ip"="dhcp', "sys'temd.set'env=SSL_CERT_FILE=/x", "x=\"'y\"'", "x='\"'", "'x=\"'"),
)


@pytest.mark.parametrize("word", ALLOWED)
def test_allowed(word: str) -> None:
    assert verdict(word) is Verdict.KEPT


@pytest.mark.parametrize("word", [*KERNEL_AND_FSTAB, *OSTREE_AND_BOOTC, *DRACUT, *SPELLED])
def test_for_a_disk(word: str) -> None:
    assert verdict(word) is Verdict.FOR_DISK
    assert next_cmdline("root=bootc-live:/x", [word], Kexec(), None, "") == "root=bootc-live:/x"


@pytest.mark.parametrize("word", ["rw", "rootflags=noatime", "rd.luks.uuid=1", "resume=UUID=1"])
def test_who_boots_may_ask_for_it(word: str) -> None:
    """What an image may not pass on, the command line of this boot may say, and what is appended."""
    assert next_cmdline(f"root=bootc-live:/x {word}", [], Kexec(), None, "") == f"root=bootc-live:/x {word}"
    assert next_cmdline("root=bootc-live:/x", [], Kexec(append=(word,)), None, "") == f"root=bootc-live:/x {word}"


@pytest.mark.parametrize("word", ["rw=bootc.kexec", 'rw="x ip=dhcp"', 'root="UUID=1 ip=dhcp"', "root=UUID=1'ip=dhcp'"])
def test_the_worst_reading_counts(word: str) -> None:
    assert verdict(word) is (Verdict.FOR_DISK if "ip" not in word else Verdict.REFUSED)


@pytest.mark.parametrize("word", [*SOURCES, *NETWORK, *PROXIES, *TRUST, *TWO_READINGS])
def test_refused(word: str) -> None:
    assert verdict(word) is Verdict.REFUSED
    assert next_cmdline("root=bootc-live:/x", [word], Kexec(), None, "") == "root=bootc-live:/x"


@pytest.mark.parametrize("karg", [karg.name for karg in KARGS])
def test_every_argument_of_ours_was_thought_of(karg: str) -> None:
    """A new one is refused until it is put into the list of those that only say how the root is made."""
    about = ("registry.", "trust.", "fallback", "digest", "roothash", "retry.", "state", "kexec", "label", "net.")
    disks = ("disk.", "install")
    asks = verdict(f"{karg}=x") is Verdict.KEPT
    of_disks = {"root", "rw", "ro", "rootflags"}
    assert asks == (karg not in of_disks and not any(part in karg for part in (*about, *disks, "proxy")))


def test_what_is_for_init_never_gets_there() -> None:
    """Neither as an argument of init nor by hiding what follows from the kernel."""
    words = printable_words('quiet -- single "--" x')
    assert next_cmdline("root=bootc-live:/x rw", words, Kexec(), None, "") == "quiet root=bootc-live:/x rw"
    assert verdict("bootc.kexec.onfail=boot") is Verdict.REFUSED
