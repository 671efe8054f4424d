"""Which kernel arguments an image may bring along for the kernel that is started next.

An image is chosen and verified by this boot's command line. What it brings along may say how its kernel and its root
are set up, but not where images come from, what is trusted, or how the network is reached.
"""

from __future__ import annotations

import re

from bootc_live.config.tokens import read_word

# Names as `_folded` makes them. Comments say what they are about.
_REFUSED = frozenset(
    {
        # Source: what becomes the root, a part of it, or the initramfs.
        *("root", "netroot", "nfsroot", "nbdroot", "nfsaddrs", "bootclabel", "initrd", "noinitrd", "boot_image"),
        *("live", "ks", "stage2", "repo", "roothash", "usrhash", "systemd.mount_extra", "systemd.swap_extra"),
        *("systemd.pull", "rd.systemd.pull", "rd.systemd.mount_extra", "bootconfig", "rd.live.image", "initrdmem"),
        *("rootfallback", "iso_scan/filename", "iscsiroot", "ignition.config.url"),
        # Network: interfaces, addresses, routes, name servers, where logs go.
        *("ip", "ifname", "nameserver", "bond", "team", "bridge", "vlan", "bootif", "bootdev", "ethtool", "dhcp"),
        *("netdev", "netconsole", "nbd", "fcoe", "rd.neednet", "rd.route", "rd.peerdns", "rd.bootif", "rd.vlan"),
        *("rd.nameserver", "rd.ethtool", "rd.bootdev", "rd.bond", "rd.team", "rd.bridge", "rd.ip", "wifi", "ksdevice"),
        *("gateway", "netmask", "syslog.server", "rd.nonvmf", "hostaliases", "localdomain", "res_options"),
        # Proxy.
        "proxy",
        # Trust: whose certificates and logins count. The kernel makes variables of names that it does not know.
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
# Of our own arguments, how the root is made; all others are about sources, trust, transfers or kexec.
_OUR_OWN = "bootc."
_ALLOWED = frozenset(
    {
        *("bootc.quiet", "bootc.live.layout", "bootc.live.erofs", "bootc.live.compress", "bootc.live.erofs.times"),
        *("bootc.live.etc.rw", "bootc.live.var.rw", "bootc.live.size", "bootc.live.huge", "bootc.live.mpol"),
        *("bootc.live.root.size", "bootc.live.etc.size", "bootc.live.var.size", "bootc.live.writable"),
        *("bootc.live.selinux", "bootc.live.modules", "bootc.zram", "bootc.zram.algorithm", "bootc.zram.level"),
    }
)
# What separates arguments for one of their readers: dracut knows no quotes.
_SEPARATORS = re.compile(r"[\s\xa0\"'\\]+")


def image_may_ask(word: str) -> bool:
    """Tell whether an image's argument, as it is typed, may stand on the next kernel's command line.

    It may not whichever of its readers would find something refused in it: the kernel, dracut or systemd.
    """
    name = read_word(word).name
    # As it will stand there: see next_cmdline.
    unquoted = _unquoted(word + '"' * (word.count('"') % 2))
    # Everything behind "--" is for init. An open quote or escape takes in what follows.
    if name.startswith("--") or unquoted is None or word.endswith("\\"):
        return False
    names = {name, *(part.partition("=")[0] for part in (*_SEPARATORS.split(word), *unquoted))}
    return not any(_is_refused(_folded(name)) for name in names)


def _unquoted(text: str) -> list[str] | None:
    """Return the arguments that systemd makes of a text: it drops both kinds of quotes wherever they stand.

    None where a quote stays open.
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


def _folded(name: str) -> str:
    """Return a name as its most lenient reader takes it: the kernel takes "-" for "_", others both cases."""
    return name.lower().replace("-", "_")
