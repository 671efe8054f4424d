"""The one table of kernel arguments: parser, help text and reference page come from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How the value of an argument is read."""

    BOOLEAN = "boolean"
    TEXT = "text"
    SIZE = "size"
    NUMBER = "number"
    SECONDS = "duration"
    DIGEST = "digest"
    SOURCE = "source"
    MIRROR = "mirror"
    PROXY = "proxy"


@dataclass(frozen=True)
class Karg:
    """One kernel argument.

    ``default`` is as a person would type it. ``built`` is false while the
    feature is not there: asking for it is an error then, never silence.
    Every occurrence of a ``many`` argument counts, in order.
    """

    name: str
    kind: Kind
    default: str
    help: str
    built: bool = True
    many: bool = False


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
        "bootclabel", Kind.TEXT, "latest", "which image of an archive to take: the name it has in the archive's index."
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
        "With `http://` in front it is asked over plain HTTP.",
        many=True,
    ),
    Karg(
        "bootc.registry.unsecure",
        Kind.BOOLEAN,
        "0",
        "talk to the registry over plain HTTP, or over HTTPS without checking its certificate. Insecure: use only on "
        "a network you trust. Digests are checked all the same.",
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
    Karg("bootc.live.erofs", Kind.BOOLEAN, "0", "make one self-contained EROFS image of the root.", built=False),
    Karg("bootc.live.erofs.digest", Kind.TEXT, "", "refuse any EROFS image but the one with this sha256.", built=False),
    Karg("bootc.live.layout", Kind.TEXT, "index", "how the root lies in RAM: index, erofs, tree, auto.", built=False),
    Karg("bootc.live.compress", Kind.TEXT, "none", "compression of the erofs layout.", built=False),
    Karg("bootc.live.size", Kind.SIZE, "", "size limit of the image's part of RAM.", built=False),
    Karg("bootc.live.state", Kind.TEXT, "", "a partition that keeps /var and changes to /etc.", built=False),
    Karg("bootc.live.state.required", Kind.BOOLEAN, "0", "fail where that partition is missing.", built=False),
    Karg("bootc.live.modules", Kind.TEXT, "", "what to do when the image lacks the kernel's modules.", built=False),
    Karg("bootc.zram", Kind.SIZE, "", "keep the root on a zram device of this size.", built=False),
    Karg("bootc.kexec", Kind.BOOLEAN, "0", "continue in the image's own kernel.", built=False),
    Karg("bootc.kexec.reuse-image", Kind.BOOLEAN, "1", "hand the fetched image to that kernel.", built=False),
    Karg("bootc.kexec.append", Kind.TEXT, "", "kernel arguments to add for that kernel.", built=False, many=True),
    Karg("bootc.kexec.remove", Kind.TEXT, "", "kernel arguments to leave out for that kernel.", built=False, many=True),
    Karg("bootc.kexec.onfail", Kind.TEXT, "stop", "what to do when kexec cannot be done.", built=False),
)

BY_NAME: dict[str, Karg] = {karg.name: karg for karg in KARGS}

# Names below this belong to this project: a stranger there is a typing error.
OWN_PREFIXES = ("bootc.",)

# Variables for which every program accepts both cases.
EITHER_CASE = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})

# Says something only about a feature that another argument turns on.
MODIFIERS = frozenset({"bootc.kexec.reuse-image", "bootc.live.state.required"})
