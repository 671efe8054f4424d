"""The frozen result of reading a kernel command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from bootc_live.base.redact import redact
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
        http, https = (value if value is None else redact(value) for value in (self.http, self.https))
        return f"Proxies(http={http!r}, https={https!r}, no_proxy={self.no_proxy!r})"


@dataclass(frozen=True)
class Config:
    """What was asked for.

    ``sources`` are tried in order; it is empty only where no ``root=bootc-live:``
    was given. ``pin`` is the only manifest digest that may boot.
    """

    sources: tuple[SourceSpec, ...] = ()
    label: str | None = None
    pin: str | None = None
    registry_unsecure: bool = False
    retry: RetryLimits = field(default_factory=RetryLimits)
    mirrors: tuple[Mirror, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    root_rw: bool = False
    etc_rw: bool = True
    var_rw: bool = True
    rootflags: str = ""
    quiet: bool = False
