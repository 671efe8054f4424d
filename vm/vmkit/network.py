"""What a guest's network card is connected to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Network(Protocol):
    """A network, and the card that a guest has in it."""

    @property
    def forwards(self) -> bool:
        """Whether a port of this machine leads to the guest's port 22."""
        ...

    @property
    def descriptors(self) -> tuple[int, ...]:
        """File descriptors that QEMU inherits."""
        ...

    @property
    def unplugged(self) -> str | None:
        """QEMU's name of a card that has no carrier."""
        ...

    @property
    def resolver(self) -> Path | None:
        """What QEMU reads in place of this machine's /etc/resolv.conf."""
        ...

    def options(self) -> list[str]:
        """Give QEMU's options for the network and the card."""
        ...


@dataclass(frozen=True)
class UserNetwork:
    """QEMU's own: this machine's loopback is 10.0.2.2 for the guest.

    With ``tftp``, a directory, DHCP names ``file`` of it as what to boot, and TFTP serves it; the card has iPXE as
    its ROM then. With ``second`` there is another card, which nobody is behind. ``resolver`` is a file that the name
    server, 10.0.2.3, reads in place of this machine's /etc/resolv.conf.
    """

    tftp: Path | None = None
    file: str = ""
    second: bool = False
    resolver: Path | None = None

    @property
    def forwards(self) -> bool:
        """A port of loopback, of QEMU's choice."""
        return True

    @property
    def descriptors(self) -> tuple[int, ...]:
        """None: QEMU opens what it needs."""
        return ()

    @property
    def unplugged(self) -> str | None:
        """The second card."""
        return "unplugged" if self.second else None

    def options(self) -> list[str]:
        """Give QEMU's options for the network and the cards."""
        network, card = "user,id=net,hostfwd=tcp:127.0.0.1:0-:22", "virtio-net-pci,netdev=net"
        if self.tftp:
            network += f",tftp={self.tftp},bootfile={self.file}"
            card += ",bootindex=1"
        else:
            card += ",romfile="
        argv = ["-netdev", network, "-device", card]
        if self.unplugged:
            argv += ["-netdev", "user,id=unplugged", "-device", "virtio-net-pci,netdev=unplugged,romfile="]
        return argv
