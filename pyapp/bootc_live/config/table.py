"""The one table of kernel arguments: parser, help text and reference page come from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How the value of an argument is read."""

    BOOLEAN = "boolean"
    TEXT = "text"
    SIZE = "size"
    LIST = "list"
    SOURCE = "source"


@dataclass(frozen=True)
class Karg:
    """One kernel argument.

    ``default`` is as a person would type it. ``built`` is false while the
    feature is not there: asking for it is an error then, never silence.
    """

    name: str
    kind: Kind
    default: str
    help: str
    built: bool = True


KARGS: tuple[Karg, ...] = (
    Karg(
        "root",
        Kind.SOURCE,
        "",
        "where the image comes from: `bootc-live:/path/in/the/initramfs` (an OCI archive) or "
        "`bootc-live:docker://REGISTRY/NAME[:TAG][@DIGEST]`. "
        "Sources over http, https, ftp, tftp, nfs, torrent and from block devices are not built yet.",
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
        "bootc.registry.unsecure",
        Kind.BOOLEAN,
        "0",
        "talk to the registry over plain HTTP, or over HTTPS without checking its certificate. Insecure: use only on "
        "a network you trust. Digests are checked all the same.",
    ),
    Karg("bootc.live.erofs", Kind.BOOLEAN, "0", "make one self-contained EROFS image of the root.", built=False),
    Karg("bootc.live.erofs.digest", Kind.TEXT, "", "refuse any EROFS image but the one with this sha256.", built=False),
    Karg("bootc.live.layout", Kind.TEXT, "index", "how the root lies in RAM: index, erofs, tree, auto.", built=False),
    Karg("bootc.live.compress", Kind.TEXT, "none", "compression of the erofs layout.", built=False),
    Karg("bootc.live.size", Kind.SIZE, "", "size limit of the image's part of RAM.", built=False),
    Karg("bootc.live.state", Kind.TEXT, "", "a partition that keeps /var and changes to /etc.", built=False),
    Karg("bootc.live.state.required", Kind.BOOLEAN, "0", "fail where that partition is missing.", built=False),
    Karg("bootc.live.digest", Kind.TEXT, "", "the only manifest digest that may boot.", built=False),
    Karg(
        "bootc.live.fallback", Kind.LIST, "", "a further source, tried when earlier ones cannot be used.", built=False
    ),
    Karg("bootc.live.modules", Kind.TEXT, "", "what to do when the image lacks the kernel's modules.", built=False),
    Karg("bootc.registry.mirror", Kind.LIST, "", "a mirror to ask before the registry.", built=False),
    Karg("bootc.zram", Kind.SIZE, "", "keep the root on a zram device of this size.", built=False),
    Karg("bootc.kexec", Kind.BOOLEAN, "0", "continue in the image's own kernel.", built=False),
    Karg("bootc.kexec.reuse-image", Kind.BOOLEAN, "1", "hand the fetched image to that kernel.", built=False),
    Karg("bootc.kexec.append", Kind.LIST, "", "kernel arguments to add for that kernel.", built=False),
    Karg("bootc.kexec.remove", Kind.LIST, "", "kernel arguments to leave out for that kernel.", built=False),
    Karg("bootc.kexec.onfail", Kind.TEXT, "stop", "what to do when kexec cannot be done.", built=False),
    Karg("rd.net.wait-any-if", Kind.BOOLEAN, "0", "go on as soon as any interface is online.", built=False),
)

BY_NAME: dict[str, Karg] = {karg.name: karg for karg in KARGS}

# Names below this belong to this project: a stranger there is a typing error.
OWN_PREFIXES = ("bootc.",)

# Says something only about a feature that another argument turns on.
MODIFIERS = frozenset({"bootc.kexec.reuse-image", "bootc.live.state.required"})
