"""The frozen result of reading a kernel command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from bootc_live.base.redact import redact_value
from bootc_live.config.source_spec import SourceSpec


@dataclass(frozen=True)
class RetryLimits:
    """When to stop trying: attempts in a row without progress, seconds without a byte, seconds altogether."""

    tries: int = 6
    stall: float = 30.0
    total: float = 3600.0


@dataclass(frozen=True)
class Mirror:
    """A place to ask before the registry: ``location`` is ``host[:port][/path]``.

    ``insecure`` is plain HTTP or unverified TLS. ``pull`` says what it is asked
    for: ``all``, ``digest-only`` or ``tag-only``.
    """

    location: str
    insecure: bool = False
    pull: str = "all"


@dataclass(frozen=True, repr=False)
class Proxies:
    """URLs of the proxies for http and https, with a scheme; ``no_proxy`` lists hosts to reach without.

    The URLs may hold passwords, so ``repr`` hides those.
    """

    http: str | None = None
    https: str | None = None
    no_proxy: str = ""

    def __repr__(self) -> str:
        """Give the fields without secrets."""
        http, https = (value if value is None else redact_value(value) for value in (self.http, self.https))
        return f"Proxies(http={http!r}, https={https!r}, no_proxy={self.no_proxy!r})"


class Layout(StrEnum):
    """How the root lies in RAM; ``auto`` is the fastest one that fits."""

    INDEX = "index"
    EROFS = "erofs"
    TREE = "tree"
    AUTO = "auto"


class Compression(StrEnum):
    """How the erofs layout stores file data."""

    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"


@dataclass(frozen=True)
class Zram:
    """A zram device: ``size`` bytes of uncompressed data; an empty ``algorithm`` and no ``level`` are the kernel's."""

    size: int
    algorithm: str = ""
    level: int | None = None


@dataclass(frozen=True)
class Backing:
    """What holds the image's part of RAM: a tmpfs, or an ext4 on ``zram``.

    ``size`` limits the tmpfs, or the memory the zram device may take, in bytes. ``huge`` and ``mpol`` are options of
    tmpfs(5); empty ones are left to the kernel.
    """

    size: int | None = None
    huge: str = ""
    mpol: str = ""
    zram: Zram | None = None


@dataclass(frozen=True)
class Parts:
    """Which parts of the root can be written, where what is written goes, and how much of it there may be.

    Sizes are bytes. ``on`` is ``tmpfs`` or ``zram``; the latter's algorithm and level are as in ``Zram``. ``options``
    are mount options for the root's own mount. ``state`` is a device as written, ``LABEL=STATE`` or ``/dev/sda1``,
    that keeps /var and the changes to /etc.
    """

    root: bool = False
    etc: bool = True
    var: bool = True
    root_size: int | None = None
    etc_size: int | None = None
    var_size: int | None = None
    on: str = "tmpfs"
    options: str = ""
    state: str | None = None
    state_required: bool = False
    zram_algorithm: str = ""
    zram_level: int | None = None


@dataclass(frozen=True)
class Kexec:
    """How to go on in the image's own kernel.

    ``reuse`` hands the fetched blobs over. ``append`` holds texts of one or more arguments each, ``remove`` names or
    whole arguments. ``boot_on_failure`` goes on in the running kernel where it cannot be done.
    """

    reuse: bool = True
    append: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    boot_on_failure: bool = False


@dataclass(frozen=True)
class Config:
    """What was asked for.

    ``sources`` are tried in order; it is empty only where no ``root=bootc-live:``
    was given. ``pin`` is the only manifest digest that may boot, ``erofs_digest``
    the only erofs image. ``selinux`` is None where the image decides, ``kexec``
    where it was not asked for. ``modules_required`` refuses an image without
    modules for the running kernel.
    """

    sources: tuple[SourceSpec, ...] = ()
    label: str | None = None
    pin: str | None = None
    registry_unsecure: bool = False
    retry: RetryLimits = field(default_factory=RetryLimits)
    mirrors: tuple[Mirror, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    layout: Layout = Layout.INDEX
    compress: Compression = Compression.NONE
    erofs_times: str = "epoch"
    erofs_digest: str | None = None
    selinux: bool | None = None
    backing: Backing = field(default_factory=Backing)
    parts: Parts = field(default_factory=Parts)
    kexec: Kexec | None = None
    modules_required: bool = False
    quiet: bool = False
