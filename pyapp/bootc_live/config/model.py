"""The settings of a boot, as frozen types."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from bootc_live.base.redact import redact_value
from bootc_live.config.source_spec import DeploymentRoot, SourceSpec


@dataclass(frozen=True)
class RetryLimits:
    """Limits of a transfer: ``tries`` in a row without progress; ``stall`` and ``total`` are seconds."""

    tries: int = 6
    stall: float = 30.0
    total: float = 3600.0


@dataclass(frozen=True)
class Mirror:
    """A mirror of a registry: ``location`` is ``host[:port][/path]``.

    ``insecure`` means plain HTTP or unverified TLS. ``pull`` limits the requests: ``all``, ``digest-only`` or
    ``tag-only``. ``token_service`` is the URL of a token service on another host that may get the login.
    """

    location: str
    insecure: bool = False
    pull: str = "all"
    token_service: str | None = None


@dataclass(frozen=True, repr=False)
class Proxies:
    """Proxy URLs for http and https, with their scheme; ``no_proxy`` lists hosts to reach directly.

    The URLs may contain passwords, which ``repr`` hides.
    """

    http: str | None = None
    https: str | None = None
    no_proxy: str = ""

    def __repr__(self) -> str:
        """Return the fields, without secrets."""
        http, https = (value if value is None else redact_value(value) for value in (self.http, self.https))
        return f"Proxies(http={http!r}, https={https!r}, no_proxy={self.no_proxy!r})"


class Layout(StrEnum):
    """The format of the root in RAM; ``auto`` is the fastest one that fits."""

    INDEX = "index"
    EROFS = "erofs"
    TREE = "tree"
    AUTO = "auto"


class DiskState(StrEnum):
    """What a system on a disk keeps over reboots: /etc and /var, /etc alone, or nothing."""

    FULL = "full"
    ETC = "etc"
    VOLATILE = "volatile"


@dataclass(frozen=True)
class InstallWish:
    """The disk that a system in RAM is to be installed on.

    ``disk`` is a path, ``serial:TEXT`` or ``smallest``; ``wipe`` allows to destroy what is on it. ``arguments`` are
    kernel arguments of the installed system. The rest is as the options of ``bootc-live install`` with these names;
    sizes are bytes, None for the default.
    """

    disk: str
    wipe: bool = False
    arguments: tuple[str, ...] = ()
    bootloader: str = "systemd-boot"
    storage: str = "composefs"
    slot_size: int | None = None
    filesystem: str = "ext4"
    xbootldr: int | None = None
    state: DiskState = DiskState.FULL
    hostname: str | None = None
    auto_update: bool = False
    success_units: tuple[str, ...] = ()
    secure_boot: bool = False
    nvram: bool = True


class Compression(StrEnum):
    """The compression of file data in the erofs layout."""

    NONE = "none"
    LZ4 = "lz4"
    ZSTD = "zstd"


@dataclass(frozen=True)
class Zram:
    """A zram device for ``size`` bytes of uncompressed data.

    An empty ``algorithm`` and a ``level`` of None select the kernel's defaults.
    """

    size: int
    algorithm: str = ""
    level: int | None = None


@dataclass(frozen=True)
class Backing:
    """The storage of the image in RAM: a tmpfs, or an ext4 file system on ``zram``.

    ``size`` limits the tmpfs, or the memory of the zram device, in bytes. ``huge`` and ``mpol`` are options of
    tmpfs(5); the empty text selects the kernel's default.
    """

    size: int | None = None
    huge: str = ""
    mpol: str = ""
    zram: Zram | None = None


@dataclass(frozen=True)
class WritableParts:
    """The writable parts of the root, their storage, and their size limits in bytes.

    ``backing`` is ``tmpfs`` or ``zram``; algorithm and level are as in ``Zram``. ``options`` are mount options of the
    root. ``state`` names the device that keeps /var and the changes to /etc, such as ``LABEL=STATE`` or ``/dev/sda1``.
    """

    root: bool = False
    etc: bool = True
    var: bool = True
    root_size: int | None = None
    etc_size: int | None = None
    var_size: int | None = None
    backing: str = "tmpfs"
    options: str = ""
    state: str | None = None
    state_required: bool = False
    zram_algorithm: str = ""
    zram_level: int | None = None


@dataclass(frozen=True)
class Kexec:
    """How to start the image's own kernel.

    ``reuse`` hands over the fetched blobs. Each text of ``append`` holds one or more arguments, each of ``remove`` a
    name or a whole argument. ``boot_on_failure`` continues in the running kernel if kexec fails.
    """

    reuse: bool = True
    append: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    boot_on_failure: bool = False


class Require(StrEnum):
    """What a source must have to be used at all."""

    NONE = "none"
    DIGEST = "digest"
    SIGNATURE = "signature"


class Measure(StrEnum):
    """Whether the boot is measured into a TPM; ``auto`` does it if that is possible."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


@dataclass(frozen=True)
class TrustConfig:
    """What the kernel command line says of signatures: paths of a policy and of keys, and how many must have signed.

    ``insecure`` switches policies off. Images that were made before ``not_before`` are refused.
    """

    policy: str | None = None
    keys: tuple[str, ...] = ()
    threshold: int = 1
    insecure: bool = False
    require: Require = Require.NONE
    not_before: datetime | None = None
    measure: Measure = Measure.AUTO


@dataclass(frozen=True)
class Config:
    """The settings of a boot.

    ``sources`` are tried in order; the tuple is empty only without ``root=bootc-live:``, or with a ``deployment`` in
    their place: a root on a disk. ``disk_state`` is what that keeps, and ``disk_verity`` requires that the kernel
    checks all that is read of it; ``disk_subvolume`` is the one of btrfs that it is on. ``pin`` is the only manifest
    digest that may boot, ``erofs_digest`` the only erofs image. ``install`` is the disk that the image is to be
    installed on. ``verity`` protects that image by dm-verity, and ``root_hash`` is the only root hash, in hexadecimal
    digits. ``selinux`` is None if the image decides, ``kexec`` is None if kexec was not requested. ``modules_required``
    refuses an image without modules for the running kernel.
    """

    sources: tuple[SourceSpec, ...] = ()
    deployment: DeploymentRoot | None = None
    disk_state: DiskState = DiskState.FULL
    disk_verity: bool = True
    disk_subvolume: str | None = None
    install: InstallWish | None = None
    label: str | None = None
    pin: str | None = None
    registry_unsecure: bool = False
    trust: TrustConfig = field(default_factory=TrustConfig)
    retry: RetryLimits = field(default_factory=RetryLimits)
    mirrors: tuple[Mirror, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    layout: Layout = Layout.INDEX
    compress: Compression = Compression.NONE
    erofs_times: str = "epoch"
    erofs_digest: str | None = None
    verity: bool = False
    root_hash: str | None = None
    selinux: bool | None = None
    backing: Backing = field(default_factory=Backing)
    parts: WritableParts = field(default_factory=WritableParts)
    kexec: Kexec | None = None
    modules_required: bool = False
    quiet: bool = False
