"""Decide which of an image's kernel arguments the next kernel gets.

An image may configure its kernel and its root, but not sources, trust or the network: those belong to the command
line that chose and verified the image. Arguments for a root on a disk are dropped: the same image can be installed on
a disk, but here its root is in memory.
"""

from __future__ import annotations

import re
from enum import Enum

from bootc_live.config.cmdline.tokens import Token, read_word

# Names in the form that `_folded` returns.
_REFUSED = frozenset(
    {
        # Sources of the root, of a part of it, or of the initramfs.
        *("root", "netroot", "nfsroot", "nbdroot", "nfsaddrs", "bootclabel", "initrd", "noinitrd", "boot_image"),
        *("live", "ks", "stage2", "repo", "roothash", "usrhash", "systemd.mount_extra", "systemd.swap_extra"),
        *("systemd.pull", "rd.systemd.pull", "rd.systemd.mount_extra", "bootconfig", "rd.live.image", "initrdmem"),
        *("rootfallback", "iso_scan/filename", "iscsiroot", "ignition.config.url"),
        # Network: interfaces, addresses, routes, name servers, remote logs.
        *("ip", "ifname", "nameserver", "bond", "team", "bridge", "vlan", "bootif", "bootdev", "ethtool", "dhcp"),
        *("netdev", "netconsole", "nbd", "fcoe", "rd.neednet", "rd.route", "rd.peerdns", "rd.bootif", "rd.vlan"),
        *("rd.nameserver", "rd.ethtool", "rd.bootdev", "rd.bond", "rd.team", "rd.bridge", "rd.ip", "wifi", "ksdevice"),
        *("gateway", "netmask", "syslog.server", "rd.nonvmf", "hostaliases", "localdomain", "res_options"),
        # Proxy.
        "proxy",
        # Trust: certificates and logins. The kernel turns names that it does not know into environment variables.
        *("rd.noverifyssl", "noverifyssl", "systemd.setenv", "rd.systemd.setenv", "systemd.set_credential"),
        *("systemd.set_credential_binary", "systemd.import_credentials", "ssl_cert_file", "ssl_cert_dir"),
        *("curl_ca_bundle", "requests_ca_bundle", "registry_auth_file", "docker_config", "netrc", "cifsuser"),
        *("cifspass", "cifsdom", "home", "credentials_directory", "path", "env", "bash_env", "sslkeylogfile"),
    }
)
_REFUSED_BELOW = (
    *("inst.", "live.", "rd.live.", "rd.writable.", "mount.", "systemd.verity", "rd.systemd.verity"),
    *("rd.net.", "rd.dhcp.", "rd.iscsi.", "iscsi_", "rd.nvmf", "nvmf.", "rd.fcoe", "rd.nbd", "rd.nfs", "rd.znet"),
    *("rd.zipl", "rd.cifs", "rd.wifi", "rd.virtual_interface", "ld_", "python", "netconsole.", "rd.overlay"),
    *("rd.ntp", "coreos.live.", "openssl_", "xdg_"),
)
_REFUSED_ENDS = ("_proxy",)
# Our own arguments for the root; all others control sources, trust, transfers or kexec.
_OUR_OWN = "bootc."
_ALLOWED = frozenset(
    {
        *("bootc.quiet", "bootc.live.layout", "bootc.live.erofs", "bootc.live.compress", "bootc.live.erofs.times"),
        "bootc.live.verity",
        *("bootc.live.etc.rw", "bootc.live.var.rw", "bootc.live.size", "bootc.live.huge", "bootc.live.mpol"),
        *("bootc.live.root.size", "bootc.live.etc.size", "bootc.live.var.size", "bootc.live.writable"),
        *("bootc.live.selinux", "bootc.live.modules", "bootc.zram", "bootc.zram.algorithm", "bootc.zram.level"),
    }
)
# Values of root= for a root on a disk, by the kernel (device numbers, too), systemd and dracut modules; all
# others are sources: URLs, NFS, NBD.
_DISK_ROOT = re.compile(
    r"(?:block:)?/dev/(?!nfs\b)|(?:block:)?(?:PART)?(?:UUID|LABEL)=|gpt-auto|(?:dissect(?:-force)?|fstab|tmpfs)\Z"
    r"|[0-9]+:[0-9]+(?::[0-9]*)?\Z|[0-9a-f]{1,8}\Z|(?:mtd|ubi)(?:block)?[0-9:_]|zfs[:=]",
    re.IGNORECASE,
)
# Arguments for a root on a disk, by their readers. The kernel ignores rootwait and rootdelay with an initramfs.
_FOR_DISK = frozenset(
    {
        # The kernel, dracut and systemd-fstab-generator: mounts and their options.
        *("rootfstype", "rootflags", "rw", "ro", "boot", "systemd.volatile", "systemd.gpt_auto", "rd.systemd.gpt_auto"),
        # ostree-prepare-root and bootc: the deployment on the disk.
        *("ostree", "composefs"),
        # Encrypted or assembled devices.
        *("luks", "rd.auto", "md", "rd_no_crypttab"),
    }
)
_FOR_DISK_BELOW = (
    *("ostree.", "composefs.", "resume", "luks.", "rd.luks", "rd.lvm", "rd.md", "rd.dm", "rd.multipath"),
    *("dm_mod.", "stratis.rootfs.", "rd.dasd", "rd.zfcp"),
    # Older names that dracut still reads.
    *("rd_luks", "rd_lvm", "rd_md", "rd_dm", "rd_dasd", "rd_zfcp", "rd_no_luks", "rd_no_lvm", "rd_no_md", "rd_no_dm"),
)
# Characters that separate arguments for at least one reader: dracut ignores quotes.
_SEPARATORS = re.compile(r"[\s\xa0\"'\\]+")


class Verdict(Enum):
    """The decision about an image's argument."""

    KEPT = "it is allowed on the next kernel's command line"
    FOR_DISK = "it is for a root on a disk"
    REFUSED = "it is about sources, the network, proxies or trust"


def verdict(word: str) -> Verdict:
    """Return the decision about an image's argument as typed.

    The kernel, dracut and systemd parse arguments differently; the strictest decision applies.
    """
    token = read_word(word)
    # next_cmdline closes open quotes in the same way.
    unquoted = _unquoted(word + '"' * (word.count('"') % 2))
    # The arguments after "--" are for init. An open quote or escape would include the following arguments.
    if token.name.startswith("--") or unquoted is None or word.endswith("\\"):
        return Verdict.REFUSED
    names = {_folded(part.partition("=")[0]) for part in (*_SEPARATORS.split(word), *unquoted)} | {_folded(token.name)}
    refused = {name for name in names if _is_refused(name)}
    if refused - {"root"} or (refused and not _is_disk_root(token)):
        return Verdict.REFUSED
    return Verdict.FOR_DISK if refused or any(_is_for_disk(name) for name in names) else Verdict.KEPT


def _unquoted(text: str) -> list[str] | None:
    """Return the arguments in a text as systemd splits it: it removes both kinds of quotes everywhere.

    Return None for an open quote.
    """
    found, quote = [""], ""
    for character in text:
        if character in (quote or "\"'"):
            quote = "" if quote else character
        elif character.isspace() and not quote:
            found.append("")
        else:
            found[-1] += character
    return None if quote else found


def _is_refused(name: str) -> bool:
    if name.startswith(_OUR_OWN):
        return name not in _ALLOWED
    return name in _REFUSED or name.startswith(_REFUSED_BELOW) or name.endswith(_REFUSED_ENDS)


def _is_for_disk(name: str) -> bool:
    return name in _FOR_DISK or name.startswith(_FOR_DISK_BELOW)


def _is_disk_root(token: Token) -> bool:
    return _folded(token.name) == "root" and _DISK_ROOT.match(token.value or "") is not None


def _folded(name: str) -> str:
    """Return a name as its most lenient readers compare it: the kernel treats "-" as "_", others ignore case."""
    return name.lower().replace("-", "_")
