"""A guest without a machine of its own: its initramfs runs as PID 1 of new namespaces, on the kernel of this machine.

It boots ten times as fast as in emulation. There are no udev, no modules, no disks, no zram and no kexec, and kernel,
clock, memory and loop devices are those of this machine.
"""

import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from vmkit import cgroup, emulator
from vmkit.base import FATE, BaseGuest, GuestError, require
from vmkit.initrd import unpack
from vmkit.network import UserNetwork
from vmkit.paths import VM
from vmkit.start import Kernel
from vmkit.terminal import Terminals

_DROPPED: Final = "sys_module sys_time sys_rawio mknod syslog mac_admin mac_override wake_alarm block_suspend"
"""Capabilities that change this machine, not a namespace. That of kexec is needed to power off, too."""
_DEVICES: Final = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
    ("loop-control", 10, 237),
)
_LOOPS: Final = 256
_INTERFACE: Final = "eth0"
_LEGACY_RULES: Final = "/etc/udev/rules.d/90-net.rules"
"""By these dracut's network-legacy module has udev set up the cards, if the boot needs the network."""
_CREDENTIALS: Final = "run/host/credentials"
_POWEROFF: Final = signal.SIGRTMIN + 4
"""What systemd as PID 1 takes for this (systemd(1))."""


@dataclass(frozen=True)
class Installed:
    """A system that is there already: the trees of its root, the uppermost first, and its first process."""

    trees: tuple[Path, ...]
    init: str


def obstacle() -> str | None:
    """Tell why this machine cannot run such guests; None if it can."""
    if os.geteuid() != 0:
        return "this takes root"
    known = {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}
    for kind in ("erofs", "overlay"):
        if kind not in known and subprocess.run(["modprobe", "-q", kind], check=False).returncode:
            return f"its kernel has no {kind}"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    try:
        cgroup.parent()
    except OSError as error:
        return str(error)
    unshare = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "true"]
    done = subprocess.run(unshare, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return done.stderr.strip() if done.returncode else None


class NamespaceGuest(BaseGuest):
    """One boot of the initrds and kernel arguments of ``start``; its kernel is not used.

    With ``installed``, that system starts, as after an initrd; what it writes is gone when it ends. ``credentials``
    are those of the system (systemd.system-credentials(7)). When the context is left, its processes, mounts and
    network are gone, and so are loop devices that detach themselves.
    """

    engine = "namespaces"

    def __init__(
        self,
        start: Kernel,
        *,
        network: UserNetwork | None = None,
        credentials: dict[str, bytes] | None = None,
        installed: Installed | None = None,
        console_log: Path | None = None,
        echo: Callable[[bytes], object] | None = None,
    ) -> None:
        """Describe the guest. Entering the context starts it."""
        super().__init__(console_log, echo)
        self._initrds = start.initrds
        self._words = ["panic=-1", *shlex.split(start.append)]
        self._network = network or UserNetwork()
        self._credentials = credentials or {}
        self._installed = installed
        self._pidfd: int | None = None
        self.init = 0
        """The guest's first process, as this machine numbers it."""

    def _start(self, stack: ExitStack, work: Path) -> None:
        require([*self._initrds])
        if not emulator.installed():
            raise GuestError("slirp4netns is missing; vm/build makes the root it runs from")
        if self._network.tftp:
            raise GuestError("a guest in namespaces has no firmware that could boot from the network")
        self._ready.touch()
        stage = work / "rootfs"
        stage.mkdir()
        try:
            own = cgroup.make()
            stack.callback(cgroup.remove, own)
            self._terminals = Terminals(self._console, loglevel=4 if "quiet" in self._words else 7)
            stack.callback(self._terminals.close)
            with ExitStack() as pipes:
                go = self._launch(stack, pipes, own, stage)
                self._plug(stack)
                self._fill(Path(f"/proc/{self.init}/root{stage}"))
                go.write(b"go\n")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise GuestError(f"cannot start the guest: {error}") from error

    def _launch(self, stack: ExitStack, pipes: ExitStack, own: Path, stage: Path) -> IO[bytes]:
        """Start what waits in the new namespaces for a rootfs; returns what to write a line to when it is filled."""
        terminals = self._terminals
        dropped = ",".join(f"-{name}" for name in _DROPPED.split())
        argv = [*FATE[:-1], f"--bounding-set={dropped}", "--", sys.executable, "-IS", str(VM / "vmkit/nokexec.py")]
        # Whoever writes to kmsg would get a terminal that no session has as its own, and hang it up at the end.
        argv += ["sh", "-c", 'exec 3<>"$0" && exec "$@" 3>&-', terminals.kmsg]
        argv += ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--propagation=private"]
        argv += ["--fork", "--kill-child", "--"]
        argv += ["sh", "-c", 'echo 0 >"$0/cgroup.procs" && exec unshare --cgroup -- "$@"', str(own)]
        argv += [str(VM / "namespaces/inside"), str(stage), terminals.console, terminals.kmsg, str(self._ready)]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [*argv, *self._words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment(),
                start_new_session=True,
            )
        stack.callback(self._kill)
        assert self._process.stdin
        assert self._process.stdout
        go = pipes.enter_context(self._process.stdin)
        answer = pipes.enter_context(self._process.stdout).readline().strip()
        if not answer:
            raise GuestError(f"the guest did not start: {self._errors.read_text().strip()}")
        self.init = int(answer)
        self._pidfd = os.pidfd_open(self.init)
        return go

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM": "vt220",
            "container": "bootc-live",
        }
        if self._installed:
            environment["GUEST_TREES"] = ":".join(map(str, self._installed.trees))
            environment["GUEST_INIT"] = self._installed.init
        if self._credentials:
            environment["CREDENTIALS_DIRECTORY"] = f"/{_CREDENTIALS}"
        return environment

    def _plug(self, stack: ExitStack) -> None:
        """Connect the guest's network."""
        network = f"/proc/{self.init}/ns/net"
        reading, writing = os.pipe()
        said = self._errors.with_name("network-errors")
        with open(reading, "rb") as ready, said.open("wb") as errors:
            options = (f"--ready-fd={writing}", "--netns-type=path", network, _INTERFACE)
            argv = [*FATE, *emulator.slirp(*options, resolver=self._network.resolver)]
            slirp = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, pass_fds=[writing], start_new_session=True
            )
            stack.callback(slirp.wait)
            stack.callback(slirp.kill)
            os.close(writing)
            if not ready.read(1):
                raise GuestError(f"slirp4netns did not start: {said.read_text().strip()}")
        if self._network.unplugged:
            # Nobody holds the other end.
            words = ("ip", "tuntap", "add", "mode", "tap", "name", "eth1")
            subprocess.run(["nsenter", f"--net={network}", VM / "enter", "builder", *words], check=True)

    def _fill(self, root: Path) -> None:
        """Unpack the initrds, and add what udev, the firmware and the names of real cards would give."""
        for file in self._initrds:
            unpack(file, root)
        for name, major, minor in _DEVICES:
            _make_node(root / "dev" / name, stat.S_IFCHR, major, minor)
        for number in range(_LOOPS):
            _make_node(root / f"dev/loop{number}", stat.S_IFBLK, 7, number)
        if self._credentials:
            (root / _CREDENTIALS).mkdir(parents=True)
            for name, content in self._credentials.items():
                (root / _CREDENTIALS / name).write_bytes(content)
        self._configure_network(root)

    def _configure_network(self, root: Path) -> None:
        """Let what is for cards be for a tap device too, and for one that is there before anybody listens."""
        for file in (root / "etc/systemd/network").glob("*.network"):
            file.write_text(file.read_text().replace("Kind=!*\n", ""))
        hooks = root / "var/lib/dracut/hooks/pre-trigger"
        if (root / "usr/sbin/ifup").exists() and hooks.is_dir():
            (hooks / "99-vm.sh").write_text(
                f"[ ! -e {_LEGACY_RULES} ] || /sbin/initqueue --settled --onetime /sbin/ifup {_INTERFACE}\n"
            )

    def _kill(self) -> None:
        """End the guest, and with its first process all others and its mounts."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
        else:
            self._process.kill()
        self._process.wait()

    def powerdown(self) -> None:
        """Press the guest's power button; it takes its own time (see ``wait_exit``)."""
        assert self._pidfd is not None
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, _POWEROFF)

    def ssh_options(self) -> list[str]:
        """Return the options by which ssh(1) reaches the guest, whatever host name it is given."""
        dial = ["nsenter", f"--net=/proc/{self.init}/ns/net", "--", sys.executable, str(VM / "vmkit/dial.py"), "22"]
        return ["-o", f"ProxyCommand={shlex.join(dial)}", "-o", "ProxyUseFdpass=yes"]

    def _ended(self) -> bool:
        if self._process.poll() is None:
            return False
        self._terminals.finish()
        return True

    def _end(self) -> str:
        told = self._errors.read_text().strip()
        return f"ended ({told})" if told else "powered off or restarted"


def _make_node(path: Path, kind: int, major: int, minor: int) -> None:
    path.unlink(missing_ok=True)
    os.mknod(path, kind | 0o600, os.makedev(major, minor))
    path.chmod(0o600 if kind == stat.S_IFBLK else 0o666)
