"""All that a source needs to know beside its name."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from bootc_live.config.host.host_config import HostConfig, read_host_config
from bootc_live.config.model import Config, Mirror, Proxies
from bootc_live.source.retry import RetryPolicy


class Traffic:
    """Bytes that came over the network, by the host they came from."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._hosts: Counter[str] = Counter()

    def add(self, host: str, count: int) -> None:
        """Count bytes; may be called from several threads."""
        with self._lock:
            self._hosts[host] += count

    @property
    def hosts(self) -> dict[str, int]:
        """Bytes by ``host[:port]``."""
        with self._lock:
            return dict(self._hosts)

    @property
    def total(self) -> int:
        """All bytes."""
        return sum(self.hosts.values())


@dataclass
class Access:
    """How sources are reached: what the kernel command line says, what lies around, and whom to tell.

    ``label`` names the image in archives, ``pin`` is the only manifest digest that may be used, ``directory`` is a
    private place for mount points and files, None where there is none.
    """

    tell: Callable[[str], None]
    label: str | None = None
    pin: str | None = None
    unsecure: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    mirrors: tuple[Mirror, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    directory: str | None = None
    root: str = "/"
    traffic: Traffic = field(default_factory=Traffic)

    @cached_property
    def host_config(self) -> HostConfig:
        """Logins, mirrors and certificates of this system, read at first use; raise ConfigError."""
        return read_host_config(self.root)


def access_for(config: Config, tell: Callable[[str], None], directory: str | None) -> Access:
    """Return the access that a kernel command line asks for."""
    return Access(
        tell=tell,
        label=config.label,
        pin=config.pin,
        unsecure=config.registry_unsecure,
        policy=RetryPolicy(config.retry),
        mirrors=config.mirrors,
        proxies=config.proxies,
        directory=directory,
    )
