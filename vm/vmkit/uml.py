"""A guest in User-mode Linux: a kernel and memory of its own, at a third of what an emulated machine takes.

It has one processor, disks and a network, but no firmware; EROFS is without zstd, and zram has LZO only.
"""

import json
import os
import random
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from vmkit import emulator
from vmkit.base import FATE, BaseGuest, GuestError, require
from vmkit.initrd import concatenate
from vmkit.network import UserNetwork
from vmkit.paths import ROOTS, VM
from vmkit.start import Kernel

_ROOT: Final = ROOTS / "forky"
_LOADER: Final = "/lib64/ld-linux-x86-64.so.2"
_PROGRAM: Final = _ROOT / "usr/bin/linux.uml"
_MODULES: Final = _ROOT / "usr/lib/uml/modules"
_WANTED: Final = (
    *("autofs4", "cdrom", "dm-bufio", "dm-mod", "dm-verity", "erofs", "fat", "isofs", "loop", "nls_*", "overlay"),
    *("vfat", "zram"),
)
"""Modules that the initramfs may load; what is loaded there, the final root has too."""
_HOOK: Final = """#!/bin/sh
mkdir -p /dev/virtio-ports /run/systemd/network /run/systemd/system.control/multi-user.target.wants
ln -s /dev/ttyS1 /dev/virtio-ports/org.bootc-live.ready
ln -s /usr/lib/systemd/system/vm-ready.service /run/systemd/system.control/multi-user.target.wants/
modprobe -q autofs4
printf '[Match]\\nName=vec*\\n[Network]\\nDHCP=yes\\n' >/run/systemd/network/80-vm.network
"""
"""No rule of udev knows this terminal, and no configuration of the network this name."""
_CLOCK_HOOK: Final = """#!/bin/sh
for python in /usr/bin/python3*; do
	"$python" -c 'import time; time.clock_settime(time.CLOCK_REALTIME, {seconds})'
done
"""
"""In place of a clock of the machine that is wrong."""
_ADDRESS: Final = "10.0.2.15"
_TAP: Final = "slirp0"
_SILENT: Final = "silent0"
"""Nobody holds the other end: the guest's second card, which always has a carrier, gets no answer."""
_ATTEMPTS: Final = 20
_MCONSOLE: Final = struct.Struct("III512s")
_MCONSOLE_MAGIC, _MCONSOLE_VERSION = 0xCAFEBABE, 2


def installed() -> bool:
    """Tell whether the root it runs from has been made, and has it."""
    return _PROGRAM.exists()


class UmlGuest(BaseGuest):
    """One boot of the initrds and kernel arguments of ``start``; its kernel is not used.

    ``disks`` are read only, ``kept`` are disks that keep what is written. ``memory`` is in MiB. The initramfs begins
    with the date ``clock``, if there is one.
    """

    engine = "uml"

    def __init__(
        self,
        start: Kernel,
        *,
        network: UserNetwork | None = None,
        memory: int = 2048,
        disks: Sequence[Path] = (),
        kept: Sequence[Path] = (),
        clock: str = "",
        console_log: Path | None = None,
        echo: Callable[[bytes], object] | None = None,
    ) -> None:
        """Describe the guest. Entering the context starts it."""
        super().__init__(console_log, echo)
        self._initrds = start.initrds
        self._append = start.append
        self._network = network or UserNetwork()
        self._memory = memory
        self._hooks = {"pre-pivot": _HOOK}
        if clock:
            seconds = int(datetime.fromisoformat(clock).replace(tzinfo=UTC).timestamp())
            self._hooks["cmdline"] = _CLOCK_HOOK.format(seconds=seconds)
        # "r" is for a disk that is only read.
        self._disks = [*(("r", disk) for disk in disks), *(("", disk) for disk in kept)]
        self._pidfd: int | None = None
        self._port = 0

    def _start(self, stack: ExitStack, work: Path) -> None:
        require([*self._initrds, *(disk for _, disk in self._disks)])
        if not installed() or not emulator.installed():
            raise GuestError("User-mode Linux or slirp4netns is missing; vm/enter forky true, and vm/build, make both")
        if self._network.tftp:
            raise GuestError("a guest in User-mode Linux has no firmware that could boot from the network")
        self._mconsole = work / "mconsole/guest/mconsole"
        (work / "mconsole").mkdir()
        try:
            concatenate([*self._initrds, _additions(work, self._hooks)], work / "initrd")
            self._launch(stack, work)
            self._plug(stack, work)
            self._go.write(b"go\n")
            self._go.close()
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise GuestError(f"cannot start the guest: {error}") from error

    def _launch(self, stack: ExitStack, work: Path) -> None:
        """Start what waits in new namespaces for a network there."""
        # It runs with one processor, and slower when it moves between those of this machine.
        processor = random.choice(sorted(os.sched_getaffinity(0)))  # noqa: S311 # any of them
        argv = [*FATE, "taskset", "--cpu-list", str(processor)]
        argv += ["unshare", "--mount", "--pid", "--net", "--propagation=private", "--fork", "--kill-child", "--"]
        # It does not start where it is named to the loader, and this machine's loader does not do.
        script = 'read -r pid _ </proc/self/stat; echo "$pid"; read -r _; exec >>"$3"; mount --bind "$1" "$2"; shift 3'
        # After a panic it sends itself a signal, which does not end the first process of a namespace.
        script += '; LD_LIBRARY_PATH=$0 "$@" || exit 1'
        argv += ["sh", "-ec", script, f"{_ROOT}/usr/lib/x86_64-linux-gnu", f"{_ROOT}{_LOADER}", _LOADER]
        argv += [str(self._console), str(_PROGRAM), *self._options(work)]
        with self._errors.open("wb") as errors, self._ready.open("wb") as ready:
            argv += [f"ssl1=null,fd:{ready.fileno()}"]
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=[ready.fileno()],
                start_new_session=True,
            )
        stack.callback(self._kill)
        assert self._process.stdin
        assert self._process.stdout
        self._go = stack.enter_context(self._process.stdin)
        with self._process.stdout as stdout:
            answer = stdout.readline().strip()
        if not answer:
            raise GuestError(f"the guest did not start: {self._errors.read_text().strip()}")
        self._pid = int(answer)
        self._pidfd = os.pidfd_open(self._pid)

    def _options(self, work: Path) -> list[str]:
        options = [f"mem={self._memory}M", f"initrd={work}/initrd", "noreboot", "seccomp=on"]
        options += ["con=none", "con0=null", "con1=null", "ssl=none", "ssl0=null,fd:1", "console=ttyS0", "panic=-1"]
        # By default, there are 512 terminals besides, and udev looks at each one twice: a third of the time of a boot.
        options += ["pty.legacy_count=0"]
        options += [f"uml_dir={work}/mconsole", "umid=guest"]
        options += [f"ubd{number}{flag}={disk}" for number, (flag, disk) in enumerate(self._disks)]
        # Without gro, a long download stops for good.
        cards = [_TAP, _SILENT] if self._network.unplugged else [_TAP]
        options += [f"vec{number}:transport=raw,ifname={tap},depth=128,gro=1" for number, tap in enumerate(cards)]
        return [*options, *self._append.split()]

    def _plug(self, stack: ExitStack, work: Path) -> None:
        """Give the guest's namespace QEMU's user network, which the guest listens to."""
        if self._network.unplugged:
            script = 'ip tuntap add mode tap name "$0" && ip link set "$0" up'
            network = f"/proc/{self._pid}/ns/net"
            words = ("nsenter", f"--net={network}", VM / "enter", "builder", "sh", "-c", script, _SILENT)
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        said, api = work / "network-errors", work / "slirp"
        reading, writing = os.pipe()
        options = ["--configure", f"--ready-fd={writing}", f"--api-socket={api}", "--netns-type=path"]
        options += [f"/proc/{self._pid}/ns/net", _TAP]
        argv = [*FATE, *emulator.slirp(*options, resolver=self._network.resolver)]
        with open(reading, "rb") as ready, said.open("wb") as errors:
            slirp = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, pass_fds=[writing], start_new_session=True
            )
            stack.callback(slirp.wait)
            stack.callback(slirp.kill)
            os.close(writing)
            if not ready.read(1):
                raise GuestError(f"slirp4netns did not start: {said.read_text().strip()}")
        self._port = _forward(api)

    def _kill(self) -> None:
        """End the guest, and with its first process all others."""
        if self._pidfd is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
        else:
            self._process.kill()
        self._process.wait()

    def powerdown(self) -> None:
        """Press Ctrl-Alt-Del, which this machine has in place of a power button, and ends at a restart."""
        command = b"cad"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            request = _MCONSOLE.pack(_MCONSOLE_MAGIC, _MCONSOLE_VERSION, len(command), command)
            ours.sendto(request, str(self._mconsole))

    def ssh_options(self) -> list[str]:
        """Return the options by which ssh(1) reaches the guest, whatever host name it is given."""
        return ["-o", "HostName=127.0.0.1", "-o", f"Port={self._port}"]

    def _ended(self) -> bool:
        return self._process.poll() is not None

    def _end(self) -> str:
        if self._process.returncode:
            return f"ended (exit status {self._process.returncode}, {self._errors.read_text().strip()})"
        return "panicked" if "Kernel panic" in self.console() else "powered off or restarted"


def _additions(work: Path, hooks: Mapping[str, str]) -> Path:
    """Make an archive of what other kinds of guests have by their kernel, their clock and udev."""
    top = work / "additions"
    (source,) = _MODULES.iterdir()
    target = top / "usr/lib/modules" / source.name
    lists = source.glob("modules.*")
    for file in [*lists, *(found for name in _WANTED for found in source.rglob(f"{name}.ko"))]:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file)
    for name, script in hooks.items():
        hook = top / f"var/lib/dracut/hooks/{name}/{'00' if name == 'cmdline' else '99'}-vm.sh"
        hook.parent.mkdir(parents=True)
        hook.write_text(script)
        hook.chmod(0o755)
    members = "\n".join(str(path.relative_to(top)) for path in sorted(top.rglob("*")))
    archive = work / "additions.cpio"
    with archive.open("wb") as out:
        argv = ["cpio", "--create", "--format=newc", "--owner=+0:+0", "--dereference", "--quiet"]
        subprocess.run(argv, cwd=top, input=members.encode(), stdout=out, check=True)
    return archive


def _forward(api: Path) -> int:
    """Let a port of this machine's loopback lead to the guest's port 22; returns its number."""
    answer: object = None
    for _ in range(_ATTEMPTS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        where = {"host_addr": "127.0.0.1", "host_port": port, "guest_addr": _ADDRESS, "guest_port": 22}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(api))
            connection.sendall(json.dumps({"execute": "add_hostfwd", "arguments": {"proto": "tcp", **where}}).encode())
            connection.shutdown(socket.SHUT_WR)
            answer = json.loads(connection.makefile("rb").read())
        if isinstance(answer, dict) and "return" in answer:
            return port
    raise GuestError(f"slirp4netns did not forward a port: {answer}")
