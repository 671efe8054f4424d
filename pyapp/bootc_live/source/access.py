"""The settings for opening a source, besides its name."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from bootc_live.config.host.host_config import HostConfig, read_host_config
from bootc_live.config.host.trust import Trust, read_trust
from bootc_live.config.model import Config, Mirror, Proxies
from bootc_live.source.interface import LayerCache
from bootc_live.source.retry import RetryPolicy


class Traffic:
    """The bytes received from each host; can be used by several threads."""

    def __init__(self) -> None:
        """Start with no bytes."""
        self._lock = threading.Lock()
        self._hosts: Counter[str] = Counter()

    def add(self, host: str, count: int) -> None:
        """Count bytes from a host."""
        with self._lock:
            self._hosts[host] += count

    @property
    def hosts(self) -> dict[str, int]:
        """Return the bytes by ``host[:port]``."""
        with self._lock:
            return dict(self._hosts)

    @property
    def total(self) -> int:
        """Return the bytes from all hosts."""
        return sum(self.hosts.values())


@dataclass
class Access:
    """The settings for opening sources, from the kernel command line and the host.

    ``tell`` reports warnings. ``label`` names the image in archives, ``labels`` that in an archive by its text; ``pin``
    is the only manifest digest allowed.
    ``directory`` is a private directory for mount points and files, or None. ``cache`` has layers of earlier runs.
    """

    tell: Callable[[str], None]
    label: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    pin: str | None = None
    unsecure: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    mirrors: tuple[Mirror, ...] = ()
    proxies: Proxies = field(default_factory=Proxies)
    trust: Trust = field(default_factory=Trust)
    directory: str | None = None
    root: str = "/"
    traffic: Traffic = field(default_factory=Traffic)
    cache: LayerCache | None = None

    def label_of(self, source_text: str) -> str | None:
        """Return the label for an archive; None selects its default."""
        return self.labels.get(source_text, self.label)

    @cached_property
    def host_config(self) -> HostConfig:
        """Return the logins, mirrors and certificates of this host, read at first use; raise ConfigError."""
        return read_host_config(self.root)


def access_for(
    config: Config, tell: Callable[[str], None], directory: str | None, *, check_signatures: bool = True
) -> Access:
    """Return the access with the settings of a kernel command line; raise ConfigError for a policy or a key."""
    return Access(
        tell=tell,
        label=config.label,
        pin=config.pin,
        unsecure=config.registry_unsecure,
        policy=RetryPolicy(config.retry),
        mirrors=config.mirrors,
        proxies=config.proxies,
        directory=directory,
        trust=read_trust(config.trust) if check_signatures else Trust(),
    )
