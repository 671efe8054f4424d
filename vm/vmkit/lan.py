"""A network that only this machine and a guest are in, for servers of DHCP and TFTP, and firmware that asks them."""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from vmkit.paths import VM

ADDRESS: Final = "192.168.77.1"
"""This machine, as the guest calls it."""
DEVICE: Final = "lan0"
"""The interface that servers listen on."""
_TUNSETIFF: Final = 0x400454CA
_IFF_TAP: Final = 0x0002
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
"""Lets the guest's card take what TCP sends in pieces of 64 KiB: an emulated processor pays for each packet."""


class Lan:
    """A network namespace whose only interface but loopback leads to the guest that has this as its network.

    Nothing else of this machine is reached from in there, and nothing in there from anywhere else. It is gone when
    the context is left, and what runs in it should have ended before. It takes root, and /dev/net/tun.
    """

    def __init__(self) -> None:
        """Entering the context makes it."""
        self._stack = ExitStack()
        self._tap = -1
        self._inside: list[str] = []

    @property
    def forwards(self) -> bool:
        """No way leads in."""
        return False

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The guest's end of the cable."""
        return (self._tap,)

    @property
    def unplugged(self) -> None:
        """The card has a carrier."""

    @property
    def resolver(self) -> None:
        """Nothing in there asks this machine for names."""

    def options(self) -> list[str]:
        """Give QEMU's options for the network and the card, which has a ROM and is what firmware boots first."""
        return ["-netdev", f"tap,id=net,fd={self._tap}", "-device", "virtio-net-pci,netdev=net,bootindex=1"]

    def inside(self, *argv: str | Path) -> list[str]:
        """Give the command line that runs ``argv`` in the namespace.

        Servers that change their user, as dnsmasq does, do not end with vm/enter: let them be started by a shell there.
        """
        return [*self._inside, *map(str, argv)]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            with theirs:
                argv = ["unshare", "--net", "--", sys.executable, "-m", "vmkit.lan", str(theirs.fileno())]
                holder = subprocess.Popen(argv, cwd=VM, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
            stack.callback(holder.wait)
            # The holder ends when it cannot read on.
            stack.callback(ours.close)
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
            if not descriptors:
                raise OSError(f"cannot make a network namespace with a device {DEVICE}: see the lines above")
            (self._tap,) = descriptors
            stack.callback(os.close, self._tap)
            self._inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
            for words in ("link set lo up", f"address add {ADDRESS}/24 dev {DEVICE}", f"link set {DEVICE} up"):
                subprocess.run(self.inside(VM / "enter", "builder", "ip", *words.split()), check=True)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def _hold(peer: socket.socket) -> None:
    """In the namespace: make the device, give its descriptor away, and stay until ``peer`` is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    socket.send_fds(peer, [b"!"], [tap])
    os.close(tap)
    peer.recv(1)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _hold(connection)
