"""The one table of kernel arguments: parser, help text and reference page come from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The type of an argument's value."""

    BOOLEAN = "boolean"
    TEXT = "text"
    SIZE = "size"
    NUMBER = "number"
    SECONDS = "duration"
    DIGEST = "digest"
    SOURCE = "source"
    MIRROR = "mirror"
    PROXY = "proxy"
    CHOICE = "choice"
    LEVEL = "level"
    SHA256 = "sha256"
    BLOCK_DEVICE = "device"
    MPOL = "policy"


@dataclass(frozen=True)
class Karg:
    """One kernel argument.

    ``default`` is written as on a command line. All occurrences of a ``many`` argument count, in order.
    """

    name: str
    kind: Kind
    default: str
    help: str
    many: bool = False
    choices: tuple[str, ...] = ()


KARGS: tuple[Karg, ...] = (
    Karg(
        "root",
        Kind.SOURCE,
        "",
        "where the image comes from, after `bootc-live:`. "
        "`/path` in the initramfs: an OCI or docker archive, plain or compressed, or an OCI layout directory. "
        "`docker://REGISTRY/NAME[:TAG][@DIGEST]`: an image in a registry. "
        "`http://…` or `https://…`: an archive on a web server. "
        "`ftp://…`, `tftp://…`, `nfs://HOST/PATH`, `nfs4:HOST:/PATH`, `torrent://…`: an archive that one of dracut's "
        "own handlers fetches. "
        "`LABEL=NAME:/path`, `UUID=`, `PARTLABEL=`, `PARTUUID=` or `/dev/NAME:/path`: an archive or layout directory "
        "on a block device.",
    ),
    Karg(
        "bootc.live.fallback",
        Kind.SOURCE,
        "",
        "a further source, written like `root=` but without `bootc-live:`. They are tried in the order given when "
        "the earlier ones cannot be used.",
        many=True,
    ),
    Karg(
        "bootc.live.digest",
        Kind.DIGEST,
        "",
        "the only manifest digest that may boot, as `sha256:…`. It holds for every source; an image with another "
        "digest is refused.",
    ),
    Karg(
        "bootclabel",
        Kind.TEXT,
        "latest",
        "which image of an archive to take: the name it has in the archive's index. Without it, the only image will do "
        "as well, or, where none has a name, the first one for this machine.",
    ),
    Karg("rw", Kind.BOOLEAN, "0", "make all of `/` writable; changes live in RAM. `rw=0` takes an earlier `rw` back."),
    Karg("ro", Kind.BOOLEAN, "1", "ignored: the root is read-only unless `rw` is given."),
    Karg("rootflags", Kind.TEXT, "", "mount options added to the mount of `/`, separated by commas."),
    Karg("bootc.quiet", Kind.BOOLEAN, "0", "no progress on the console; warnings and errors stay."),
    Karg("bootc.live.etc.rw", Kind.BOOLEAN, "1", "`/etc` is writable (an overlay in RAM)."),
    Karg(
        "bootc.live.var.rw",
        Kind.BOOLEAN,
        "1",
        "`/var` is writable (a file system in RAM that starts as the image's `/var`). "
        "With `0`, services that keep state there fail.",
    ),
    Karg(
        "bootc.live.retry.tries",
        Kind.NUMBER,
        "6",
        "how many rounds over all places that have it (mirrors, the registry) a transfer is tried in a row "
        "without progress.",
    ),
    Karg(
        "bootc.live.retry.stall",
        Kind.SECONDS,
        "30s",
        "how long a server may send less than 1 KiB/s before the connection is given up and tried again.",
    ),
    Karg(
        "bootc.live.retry.total",
        Kind.SECONDS,
        "1h",
        "how long fetching from one source may take in all; after that it counts as failed.",
    ),
    Karg(
        "bootc.registry.mirror",
        Kind.MIRROR,
        "",
        "a mirror to ask before the registry, as `HOST[:PORT][/PATH]`; the image's name is added to the path. "
        "With `http://` in front it is asked over plain HTTP, for digests only and without a login.",
        many=True,
    ),
    Karg(
        "bootc.registry.unsecure",
        Kind.BOOLEAN,
        "0",
        "talk to the registry over plain HTTP, or over HTTPS without checking its certificate. Mirrors, archives, and "
        "token services or storage on other servers are not meant. Insecure: use only on a network you trust. Digests "
        "are checked all the same.",
    ),
    Karg(
        "proxy",
        Kind.PROXY,
        "",
        "the proxy for http and https, as dracut's own downloads use it: `[http://][USER:PASSWORD@]HOST[:PORT]`.",
    ),
    Karg(
        "http_proxy",
        Kind.PROXY,
        "",
        "the proxy for http alone; comes before `proxy=`. This and the next three may be written in upper case, and "
        "count as variables of the environment too; the command line wins.",
    ),
    Karg("https_proxy", Kind.PROXY, "", "the proxy for https alone; comes before `proxy=`."),
    Karg("all_proxy", Kind.PROXY, "", "the proxy for whatever the other three do not name one for."),
    Karg(
        "no_proxy",
        Kind.TEXT,
        "",
        "hosts and domains to reach without a proxy, separated by commas; `*` means all.",
    ),
    Karg(
        "rd.net.wait-any-if",
        Kind.BOOLEAN,
        "0",
        "go on as soon as any network interface is online, instead of waiting for all of them.",
    ),
    Karg(
        "bootc.live.layout",
        Kind.CHOICE,
        "index",
        "how the root lies in RAM. `index`: the layers' own tar streams with an index in front, the fastest. "
        "`erofs`: one self-contained EROFS image, the smallest when compressed. `tree`: real files. "
        "`auto`: the fastest one that fits into memory. Where the kernel cannot mount it, the next one is taken, in "
        "the order index, erofs, tree; the boot says why.",
        choices=("index", "erofs", "tree", "auto"),
    ),
    Karg("bootc.live.erofs", Kind.BOOLEAN, "0", "the same as `bootc.live.layout=erofs`."),
    Karg(
        "bootc.live.compress",
        Kind.CHOICE,
        "none",
        "compression of the erofs layout; with `bootc.live.layout=auto` it counts where that one is chosen. Where the "
        "kernel cannot mount it, a lighter one is taken, with a warning: `zstd`, `lz4`, `none`.",
        choices=("none", "lz4", "zstd"),
    ),
    Karg(
        "bootc.live.erofs.digest",
        Kind.SHA256,
        "",
        "the only EROFS image that may boot, as `sha256:…` of the whole file, as `bootc-live erofs` makes it. No other "
        "layout or compression is taken then.",
    ),
    Karg(
        "bootc.live.erofs.times",
        Kind.CHOICE,
        "epoch",
        "time stamps in the EROFS image: the start of 1970 for every file, or those of the image.",
        choices=("epoch", "image"),
    ),
    Karg(
        "bootc.live.size",
        Kind.SIZE,
        "",
        "limit of the image's part of RAM; without it, what is available at the time but 64 MiB. "
        "With `bootc.zram=`: how much memory the compressed data may take.",
    ),
    Karg(
        "bootc.live.huge",
        Kind.CHOICE,
        "",
        "huge pages for the image's tmpfs: its option `huge=`, see tmpfs(5). Without it, as the kernel was built.",
        choices=("never", "always", "within.size", "advise"),
    ),
    Karg(
        "bootc.live.mpol",
        Kind.MPOL,
        "",
        "which NUMA nodes hold the image's tmpfs: its option `mpol=`, see tmpfs(5), such as `interleave`.",
    ),
    Karg(
        "bootc.zram",
        Kind.SIZE,
        "",
        "keep the image's part of RAM compressed, on a zram device for so many bytes of uncompressed data. "
        "Works with every layout; the initramfs needs the dracut module `bootc-live-zram`.",
    ),
    Karg(
        "bootc.zram.algorithm",
        Kind.TEXT,
        "",
        "compression algorithm of zram devices, one of those the kernel lists, such as `zstd` or `lz4`. "
        "Without it, the kernel's own choice.",
    ),
    Karg(
        "bootc.zram.level",
        Kind.LEVEL,
        "",
        "level of that algorithm, where it has levels. Without it, the kernel's own choice.",
    ),
    Karg("bootc.live.root.size", Kind.SIZE, "", "limit of what may be written to `/` where `rw` makes it writable."),
    Karg("bootc.live.etc.size", Kind.SIZE, "", "limit of what may be written to `/etc`."),
    Karg("bootc.live.var.size", Kind.SIZE, "", "limit of what `/var` may hold, what the image has there included."),
    Karg(
        "bootc.live.writable",
        Kind.CHOICE,
        "tmpfs",
        "what holds the writable parts: a tmpfs, or a zram device, which compresses them.",
        choices=("tmpfs", "zram"),
    ),
    Karg(
        "bootc.live.state",
        Kind.BLOCK_DEVICE,
        "",
        "a partition that keeps `/var` and the changes to `/etc` over reboots, as `LABEL=NAME`, `UUID=`, "
        "`PARTLABEL=`, `PARTUUID=` or `/dev/NAME`. It has to be there with a file system on it; where it is missing, "
        "both live in RAM as without it.",
    ),
    Karg("bootc.live.state.required", Kind.BOOLEAN, "0", "fail where that partition is missing or cannot be used."),
    Karg(
        "bootc.live.selinux",
        Kind.BOOLEAN,
        "",
        "whether the root needs SELinux labels. Without it, as the image's own `/etc/selinux/config` says.",
    ),
    Karg(
        "bootc.live.modules",
        Kind.CHOICE,
        "warn",
        "what to do with an image that has no modules for the kernel that runs: `warn` says so and goes on, `required` "
        "ends the boot before the root is handed over.",
        choices=("warn", "required"),
    ),
    Karg(
        "bootc.kexec",
        Kind.BOOLEAN,
        "0",
        "go on in the image's own kernel and initramfs: once the image is verified, they are taken out of it and "
        "started, and the root is made there. The initramfs has to hold bootc-live. The next command line: "
        "the image's own arguments (`/usr/lib/bootc/kargs.d`), this one without `bootc.kexec*`, then what is appended.",
    ),
    Karg(
        "bootc.kexec.reuse-image",
        Kind.BOOLEAN,
        "1",
        "hand the fetched image over in memory. With `0`, it is fetched again, by the same digest.",
    ),
    Karg(
        "bootc.kexec.append",
        Kind.TEXT,
        "",
        "kernel arguments for the next kernel alone, several in double quotes. They come last, so they win over the "
        "same ones before.",
        many=True,
    ),
    Karg(
        "bootc.kexec.remove",
        Kind.TEXT,
        "",
        "a kernel argument that the next kernel does not get, be it the image's or this boot's: `NAME` for every one "
        "of that name, `NAME=VALUE` for that one.",
        many=True,
    ),
    Karg(
        "bootc.kexec.onfail",
        Kind.CHOICE,
        "stop",
        "what to do where the image's kernel cannot be started: `stop` ends the boot, `boot` goes on in this kernel "
        "if the image has modules for it.",
        choices=("stop", "boot"),
    ),
)

BY_NAME: dict[str, Karg] = {karg.name: karg for karg in KARGS}

# Unknown names with these prefixes are typing errors.
OWN_PREFIXES = ("bootc.",)

# Every program accepts these variables in both cases.
EITHER_CASE = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def is_about_kexec(name: str) -> bool:
    """Return whether an argument controls kexec: the next kernel must not get it, or it would start another one."""
    return name == "bootc.kexec" or name.startswith("bootc.kexec.")
