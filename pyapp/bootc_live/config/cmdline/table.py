"""The one table of kernel arguments: parser, help text and reference page come from it."""

from __future__ import annotations

from bootc_live.config.cmdline.karg import Karg, Kind, Subject
from bootc_live.config.cmdline.table_disk import DISK
from bootc_live.config.cmdline.table_kexec import KEXEC
from bootc_live.config.cmdline.table_trust import TRUST

_SOURCE = (
    Karg(
        "root",
        Kind.SOURCE,
        "The image's source, after `bootc-live:`. `/path`: an OCI or docker archive in the initramfs, plain or "
        "compressed, or an OCI layout directory. `docker://REGISTRY/NAME[:TAG][@DIGEST]`: an image in a registry. "
        "`http://…`, `https://…`: an archive on a web server, or what `bootc-live publish` wrote, if the path ends in "
        "`.json`: a pointer to one. `ftp://…`, `tftp://…`, `nfs://HOST/PATH`, "
        "`nfs4:HOST:/PATH`, `torrent://…`: an archive that one of dracut's handlers fetches. `LABEL=NAME:/path`, "
        "`UUID=`, `PARTLABEL=`, `PARTUUID=` or `/dev/NAME:/path`: an archive or an OCI layout directory on a block "
        "device. `deployment:UUID=…:NUMBER@DIGEST`: a root on a disk, as `bootc-live install` writes it.",
        "root=bootc-live:docker://registry.example/os:stable",
    ),
    Karg(
        "bootc.live.fallback",
        Kind.SOURCE,
        "A further source, written like `root=` without `bootc-live:`. Fallbacks are tried in the given order if no "
        "source before them can be used.",
        "bootc.live.fallback=LABEL=RESCUE:/images/os.oci",
        many=True,
    ),
    Karg(
        "bootclabel",
        Kind.TEXT,
        "The image to boot from an archive that holds several: a name or tag in the archive's index. If this "
        "argument is not given and no image is called `latest`, the archive's only image is used; of one image for "
        "several platforms, the one for this machine.",
        "bootclabel=stable",
        default="latest",
    ),
    Karg(
        "bootc.registry.mirror",
        Kind.MIRROR,
        "A mirror to ask before the registry, as `HOST[:PORT][/PATH]`. The image's name is added to the path. With "
        "`http://` in front, the mirror is reached over plain HTTP, or over HTTPS without checking its certificate; "
        "it is asked only for digests, and never given a login.",
        "bootc.registry.mirror=cache.example:5000",
        many=True,
    ),
    Karg(
        "bootc.live.retry.tries",
        Kind.NUMBER,
        "Consecutive rounds without progress before a transfer fails. One round asks every mirror, then the registry.",
        "bootc.live.retry.tries=12",
        default="6",
    ),
    Karg(
        "bootc.live.retry.stall",
        Kind.SECONDS,
        "How long a server may send less than 1 KiB/s before the connection is closed and the transfer is tried again.",
        "bootc.live.retry.stall=10s",
        default="30s",
    ),
    Karg(
        "bootc.live.retry.total",
        Kind.SECONDS,
        "Time limit for fetching from one source. After it, the source has failed.",
        "bootc.live.retry.total=20m",
        default="1h",
    ),
)
_ROOT = (
    Karg(
        "bootc.live.layout",
        Kind.CHOICE,
        "How the root is kept in RAM. `index`: the layers' tar streams with an index; the fastest. `erofs`: one "
        "EROFS image; the smallest if compressed. `tree`: real files. `auto`: the fastest of `index` and `erofs` "
        "that fits into memory. If the kernel cannot mount the layout, the next of `index`, `erofs`, `tree` is used "
        "and the boot says why.",
        "bootc.live.layout=auto",
        default="index",
        choices=("index", "erofs", "tree", "auto"),
    ),
    Karg("bootc.live.erofs", Kind.BOOLEAN, "The same as `bootc.live.layout=erofs`.", "bootc.live.erofs", default="0"),
    Karg(
        "bootc.live.compress",
        Kind.CHOICE,
        "Compression of the `erofs` layout. With `bootc.live.layout=auto` it applies if `erofs` is chosen. If the "
        "kernel cannot mount it, the next of `zstd`, `lz4`, `none` is used, with a warning.",
        "bootc.live.layout=erofs bootc.live.compress=lz4",
        default="none",
        choices=("none", "lz4", "zstd"),
    ),
    Karg(
        "bootc.live.erofs.digest",
        Kind.SHA256,
        "The only EROFS image that may boot: the SHA-256 of the whole file, as `bootc-live erofs` prints it. No "
        "other layout or compression is used instead.",
        "bootc.live.erofs "
        "bootc.live.erofs.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
    Karg(
        "bootc.live.verity",
        Kind.BOOLEAN,
        "Protect the EROFS image in RAM by dm-verity: the kernel checks every block when it is read, and a changed one "
        "is an I/O error. The receipt has the root hash. Only with the layout `erofs`; no other is used instead.",
        "bootc.live.erofs bootc.live.verity",
        default="0",
    ),
    Karg(
        "bootc.live.verity.roothash",
        Kind.ROOT_HASH,
        "The only root hash that may boot, as `bootc-live erofs` prints it; switches dm-verity on. No other layout or "
        "compression is used instead.",
        "bootc.live.erofs bootc.live.verity.roothash=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
    Karg(
        "bootc.live.erofs.times",
        Kind.CHOICE,
        "Time stamps of files in the EROFS image. `epoch`: 1970-01-01 for every file. `image`: those of the image.",
        "bootc.live.erofs bootc.live.erofs.times=image",
        default="epoch",
        choices=("epoch", "image"),
    ),
    Karg(
        "bootc.live.selinux",
        Kind.BOOLEAN,
        "Whether files get SELinux labels. Default: what the image's `/etc/selinux/config` says.",
        "bootc.live.selinux=0",
    ),
    Karg("rootflags", Kind.TEXT, "More mount options for `/`, separated by commas.", "rootflags=noatime"),
)
_MEMORY = (
    Karg(
        "bootc.live.size",
        Kind.SIZE,
        "Size limit of the image's file system. Default: available memory minus 64 MiB. With `bootc.zram=`: limit "
        "of the memory that the compressed data uses.",
        "bootc.live.size=60%",
    ),
    Karg(
        "bootc.zram",
        Kind.SIZE,
        "Keep the image on a zram device (a compressed RAM disk) with room for this many bytes of uncompressed "
        "data. Works with every layout. The initramfs needs the dracut module `bootc-live-zram`.",
        "bootc.zram=8G",
    ),
    Karg(
        "bootc.zram.algorithm",
        Kind.TEXT,
        "Compression algorithm of zram devices, one that the kernel lists. Default: the kernel's.",
        "bootc.zram=8G bootc.zram.algorithm=zstd",
    ),
    Karg(
        "bootc.zram.level",
        Kind.LEVEL,
        "Level of that algorithm, if it has levels. Default: the kernel's.",
        "bootc.zram=8G bootc.zram.algorithm=zstd bootc.zram.level=3",
    ),
    Karg(
        "bootc.live.huge",
        Kind.CHOICE,
        "Huge pages for the image's tmpfs: its mount option `huge=` (tmpfs(5)). Default: the kernel's.",
        "bootc.live.huge=within.size",
        choices=("never", "always", "within.size", "advise"),
    ),
    Karg(
        "bootc.live.mpol",
        Kind.MPOL,
        "NUMA policy of the image's tmpfs: its mount option `mpol=` (tmpfs(5)).",
        "bootc.live.mpol=interleave",
    ),
)
_WRITABLE = (
    Karg(
        "rw",
        Kind.BOOLEAN,
        "Make all of `/` writable. Changes are kept in RAM. `rw=0` cancels an earlier `rw`.",
        "rw",
        default="0",
    ),
    Karg("ro", Kind.BOOLEAN, "Ignored. The root is read-only unless `rw` is given.", "ro", default="1"),
    Karg(
        "bootc.live.etc.rw",
        Kind.BOOLEAN,
        "Make `/etc` writable, by an overlay in RAM.",
        "bootc.live.etc.rw=0",
        default="1",
    ),
    Karg(
        "bootc.live.var.rw",
        Kind.BOOLEAN,
        "Make `/var` writable: a file system in RAM that starts as a copy of the image's `/var`. With `0`, services "
        "that write below `/var` fail.",
        "bootc.live.var.rw=0",
        default="1",
    ),
    Karg(
        "bootc.live.root.size",
        Kind.SIZE,
        "Limit of the changes to `/` with `rw`. Default: half of the RAM.",
        "rw bootc.live.root.size=1G",
    ),
    Karg(
        "bootc.live.etc.size",
        Kind.SIZE,
        "Limit of the changes to `/etc`. Default: half of the RAM.",
        "bootc.live.etc.size=64M",
    ),
    Karg(
        "bootc.live.var.size",
        Kind.SIZE,
        "Limit of `/var`, including the copy of the image's `/var`. Default: half of the RAM.",
        "bootc.live.var.size=2G",
    ),
    Karg(
        "bootc.live.writable",
        Kind.CHOICE,
        "File system of the writable parts in RAM: a tmpfs, or ext4 on a zram device, which compresses it. zram "
        "needs the dracut module `bootc-live-zram`.",
        "bootc.live.writable=zram",
        default="tmpfs",
        choices=("tmpfs", "zram"),
    ),
    Karg(
        "bootc.live.state",
        Kind.BLOCK_DEVICE,
        "A partition that keeps `/var` and the changes to `/etc` across reboots: `LABEL=NAME`, `UUID=`, "
        "`PARTLABEL=`, `PARTUUID=` or `/dev/NAME`. It must already hold a file system. If it cannot be used, both "
        "are kept in RAM, with a warning.",
        "bootc.live.state=LABEL=STATE",
    ),
    Karg(
        "bootc.live.state.required",
        Kind.BOOLEAN,
        "Stop the boot if that partition is missing or cannot be used.",
        "bootc.live.state=LABEL=STATE bootc.live.state.required",
        default="0",
    ),
)
_NETWORK = (
    Karg(
        "rd.net.wait-any-if",
        Kind.BOOLEAN,
        "Continue as soon as one network interface is online. Without it, all of them are waited for.",
        "rd.net.wait-any-if",
        default="0",
    ),
    Karg(
        "proxy",
        Kind.PROXY,
        "The proxy for http and https, as dracut's own downloads use it: `[http://][USER:PASSWORD@]HOST[:PORT]`.",
        "proxy=http://proxy.example:3128",
    ),
    Karg(
        "http_proxy",
        Kind.PROXY,
        "The proxy for http; it overrides `proxy=`. This argument and the next three may be upper case and are also "
        "read from the environment; the kernel command line overrides the environment.",
        "http_proxy=http://proxy.example:3128",
    ),
    Karg(
        "https_proxy",
        Kind.PROXY,
        "The proxy for https; it overrides `proxy=`.",
        "https_proxy=http://proxy.example:3128",
    ),
    Karg(
        "all_proxy",
        Kind.PROXY,
        "The proxy for everything that the three arguments above name none for.",
        "all_proxy=http://proxy.example:3128",
    ),
    Karg(
        "no_proxy",
        Kind.TEXT,
        "Hosts and domains to reach without a proxy, separated by commas; `*` means all.",
        "no_proxy=registry.example,.internal.example",
    ),
)
_FAILURE = (
    Karg(
        "bootc.kexec.onfail",
        Kind.CHOICE,
        "If the image's kernel cannot be started: `stop` ends the boot, `boot` continues in this kernel if the "
        "image has modules for it.",
        "bootc.kexec bootc.kexec.onfail=boot",
        default="stop",
        choices=("stop", "boot"),
    ),
    Karg(
        "bootc.live.modules",
        Kind.CHOICE,
        "If the image has no modules for the running kernel: `warn` continues with a warning, `required` stops the "
        "boot.",
        "bootc.live.modules=required",
        default="warn",
        choices=("warn", "required"),
    ),
    Karg(
        "bootc.quiet",
        Kind.BOOLEAN,
        "No progress on the console. Warnings and errors are still shown.",
        "bootc.quiet",
        default="0",
    ),
)

SUBJECTS: tuple[Subject, ...] = (
    Subject(
        "Source",
        "Where the image comes from.",
        _SOURCE,
    ),
    Subject(
        "Trust",
        "Which image may boot, and which servers are trusted. Signatures: see docs/signing.md. Logins and certificates "
        "are files of the initramfs or systemd credentials: see docs/fleets.md.",
        TRUST,
    ),
    Subject(
        "Root",
        "How the root file system is made and mounted.",
        _ROOT,
    ),
    Subject(
        "Memory",
        "How much RAM the image may use, and where it is kept. See docs/memory.md.",
        _MEMORY,
    ),
    Subject(
        "Writable parts",
        "What can be written, and where the changes are kept. See docs/state.md.",
        _WRITABLE,
    ),
    Subject(
        "Network",
        "Proxies and waiting. Addresses and name servers are dracut's arguments: `ip=`, `nameserver=` "
        "(dracut.cmdline(7)).",
        _NETWORK,
    ),
    Subject(
        "Disk",
        "A root that `bootc-live install` wrote to a disk. See docs/disk.md.",
        DISK,
    ),
    Subject(
        "Kexec",
        "Continue in the image's own kernel. See docs/kexec.md.",
        KEXEC,
    ),
    Subject(
        "Failure and output",
        "What happens if something cannot be done, and what the console shows. What follows a failed boot is "
        "dracut's `rd.shell` and `rd.emergency`: see docs/troubleshooting.md.",
        _FAILURE,
    ),
)

KARGS: tuple[Karg, ...] = tuple(karg for subject in SUBJECTS for karg in subject.kargs)

BY_NAME: dict[str, Karg] = {karg.name: karg for karg in KARGS}

# Unknown names with these prefixes are typing errors.
OWN_PREFIXES = ("bootc.",)

# Every program accepts these variables in both cases.
EITHER_CASE = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})


def is_about_kexec(name: str) -> bool:
    """Return whether an argument controls kexec: the next kernel must not get it, or it would start another one."""
    return name == "bootc.kexec" or name.startswith("bootc.kexec.")
