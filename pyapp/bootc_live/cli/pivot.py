"""``bootc-live pivot``: replace the root of this running machine with an image."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from bootc_live.base.errors import BootcLiveError, ConfigError, LandingError
from bootc_live.base.log import Recorder
from bootc_live.base.output import ask, log_messages, print_details, print_json
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import labels_argument, layered_argument, require_root, workspace
from bootc_live.cli.options.cache import cache_argument
from bootc_live.config.cmdline.karg import Kind
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.cmdline.values import parse_value
from bootc_live.config.host.trust import desk_trust
from bootc_live.config.model import Backing, Config, Kexec
from bootc_live.config.next_kernel.handover import LAYOUT
from bootc_live.config.source_spec import AnySpec, Layered
from bootc_live.image.candidate import Candidate
from bootc_live.image.layout_recorder import RecordLimit
from bootc_live.landing.kexec.kexec import running_cmdline
from bootc_live.landing.kexec.next_kernel import plan_handover
from bootc_live.landing.pivot.by_kexec import PivotByKexec, next_kernel_cmdline
from bootc_live.landing.pivot.contain.contain import ContainedLanding
from bootc_live.landing.pivot.first.settings import OnExit
from bootc_live.landing.pivot.machine import Machine, Way, running_machine, ways
from bootc_live.landing.pivot.network import present_network
from bootc_live.landing.pivot.plan import PivotPlan
from bootc_live.landing.pivot.program import ProgramWish
from bootc_live.landing.pivot.soft_reboot import SoftRebootLanding
from bootc_live.landing.pivot.tailscale import read_key
from bootc_live.landing.pivot.takeover.takeover import TakeoverLanding
from bootc_live.pipeline import Run, land_kernel, land_root
from bootc_live.receipt.file import DEFAULT_PATH
from bootc_live.rootfs.boot_files.extract import boot_file_recipe
from bootc_live.rootfs.layouts.mountable import obstacle, require_overlay
from bootc_live.rootfs.memory.host import present_means
from bootc_live.rootfs.plan import RootPlan, check_options
from bootc_live.rootfs.workspace import ram_workspace
from bootc_live.source.access import Access, Traffic, access_for
from bootc_live.system.cleanup.processes import in_foreground
from bootc_live.system.memory import peak_memory, unreclaimable_bytes
from bootc_live.system.run import require_program, run

_UNIT = "bootc-live-pivot"
# In the abstract namespace: it is gone with the process that has it.
_LOCK = "\0bootc-live-pivot"
# /run stays when the root is replaced.
_LOG = "/run/bootc-live-pivot.log"
_INTERVAL = 0.02
# What manifests and the sizes in layers may take.
_MANIFESTS = 2**20
_ABOUT_ROOT = (
    *("--entrypoint", "--command", "--on-exit", "--keep-old-root", "--rollback-after", "--flush-firewall"),
    "--tailscale-authkey-file",
)
# Variables that a service does not have by itself, and that say where something is.
_CARRIED = ("CACHE_DIRECTORY", "TMPDIR", "HOME")


class _OnlyPlannedError(BootcLiveError):
    """What would be done was shown, and nothing more was asked for."""


@dataclass(frozen=True)
class _Pivot:
    """What was asked for, and of which machine."""

    arguments: argparse.Namespace
    spec: AnySpec
    config: Config
    machine: Machine
    way: Way
    recorder: Recorder
    traffic: Traffic = field(default_factory=Traffic)

    def approve(self, found: Candidate, root: RootPlan | None) -> None:
        """Show the plan, and ask; raise LandingError if the answer is no."""
        arguments = self.arguments
        wanted, keep = _wanted(arguments), arguments.keep_old_root
        _approve(
            PivotPlan(
                found.image, root, self.machine, self.way, wanted, keep, _on_exit(arguments), arguments.flush_firewall
            ),
            arguments,
        )


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = layered_argument(arguments)
    config = _config(arguments)
    require_root("pivot")
    if arguments.log:
        log_messages(arguments.log)
    machine = running_machine()
    pivot = _Pivot(arguments, spec, config, machine, _way(arguments, machine), Recorder())
    if not (arguments.yes or arguments.dry_run or pivot.way is Way.CONTAIN or os.isatty(0)):
        raise ConfigError("nobody can be asked here", hint="look at the plan with --dry-run, then use --yes")
    if pivot.way is Way.KEXEC:
        refuse_for_kernel(arguments)
    if arguments.headless and not machine.systemd:
        raise ConfigError(
            f"--headless needs systemd, and the first process is {machine.init}",
            hint="leave it out, and begin the command with: setsid --fork",
        )
    if arguments.headless and not arguments.detached and arguments.yes:
        return _go_on_as_service(arguments)
    with _only_one(pivot.way):
        try:
            return _into_kernel(pivot) if pivot.way is Way.KEXEC else _into_root(pivot)
        except _OnlyPlannedError:
            if not arguments.dry_run:
                return _go_on_as_service(arguments)
            built = " but what the Containerfile needed" if arguments.containerfile else ""
            fetched = pivot.traffic.total
            # A compressed archive says only at its end what it has.
            read = f"; {mib(fetched)} were fetched for the plan" if fetched > _MANIFESTS else ""
            pivot.recorder.say(f"dry run: nothing{built} was changed{read}")
    return 0


def _into_root(pivot: _Pivot) -> int:
    arguments, config, recorder = pivot.arguments, pivot.config, pivot.recorder
    cache = cache_argument(arguments, recorder)
    landing = _landing(pivot.way, arguments, recorder)
    landing.check()
    require_overlay(config)
    means = replace(present_means(), obstacle=obstacle)
    check_options(config, means, recorder)
    with peak_memory() as peak, workspace(arguments.workdir, config.backing) as directory:
        access = _access(arguments, pivot.spec, config, recorder, directory)
        access.cache, access.traffic = cache, pivot.traffic
        job = Run(config, "", [pivot.spec], access, directory, recorder, peak)
        land_root(job, landing, means, ours=arguments.workdir is None, approve=pivot.approve)
    return landing.status if isinstance(landing, ContainedLanding) else 0


def _into_kernel(pivot: _Pivot) -> int:
    arguments, config, recorder, spec = pivot.arguments, pivot.config, pivot.recorder, pivot.spec
    if isinstance(spec, Layered):
        raise LandingError("'--via kexec' takes one image", hint="make one of them: bootc-live build … -o FILE.oci")
    if arguments.cache is not None:
        raise ConfigError(
            f"'--via kexec' uses no cache, but --cache {arguments.cache!r} was given",
            hint="leave it out: the next kernel gets the layers as the source has them",
        )
    cmdline = next_kernel_cmdline(spec.source_text, arguments.cmdline, running_cmdline(), present_network())

    def limit(found: Candidate) -> RecordLimit:
        pivot.approve(found, None)
        return plan_handover(config, found)

    with (
        peak_memory(unreclaimable_bytes, _INTERVAL) as peak,
        ram_workspace(Backing(size=config.backing.size)) as directory,
    ):
        landing = PivotByKexec(Kexec(), [spec], cmdline, directory, recorder)
        landing.check()
        access = _access(arguments, spec, config, recorder, directory)
        job = Run(config, cmdline, [spec], access, directory, recorder, peak)
        land_kernel(job, landing, boot_file_recipe(directory, recorder, LAYOUT.lstrip("/"), limit))
    return 0


def refuse_for_kernel(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for options about a root, which another kernel makes for itself."""
    for option in _ABOUT_ROOT:
        if getattr(arguments, option.strip("-").replace("-", "_")):
            raise ConfigError(f"{option} is not possible with '--via kexec', a boot", hint="leave one of them out")
    if arguments.headless and not arguments.yes_i_have_a_console:
        raise ConfigError(
            "nobody can know whether the system that '--via kexec' boots can be reached",
            hint="use --yes-i-have-a-console if you have one, or leave --via kexec out",
        )


def _config(arguments: argparse.Namespace) -> Config:
    """Return the settings of a boot with the arguments of ``--cmdline``; by default, the whole root is writable."""
    config = parse_cmdline(arguments.cmdline, {})
    if config.sources or config.kexec is not None:
        raise ConfigError(f"'--cmdline {arguments.cmdline}' has root= or bootc.kexec", hint="leave these out")
    named = {word.partition("=")[0] for word in arguments.cmdline.split()}
    return config if "rw" in named else replace(config, parts=replace(config.parts, root=True))


def _access(arguments: argparse.Namespace, spec: AnySpec, config: Config, recorder: Recorder, directory: str) -> Access:
    """Return the access of a boot with the arguments of ``--cmdline``, and the options besides; raise ConfigError."""
    access = access_for(config, recorder.warn, directory)
    if access.trust.warning:
        recorder.warn(access.trust.warning)
    label, access.labels = labels_argument(arguments, spec)
    access.label = label or access.label
    access.unsecure = arguments.unsecure or access.unsecure
    asked = desk_trust(arguments.key, arguments.policy).policies
    access.trust = replace(access.trust, policies=(*access.trust.policies, *asked))
    return access


def _way(arguments: argparse.Namespace, machine: Machine) -> Way:
    if arguments.contain:
        about_old = arguments.keep_old_root or arguments.release_old_root
        about_network = arguments.headless or arguments.flush_firewall or arguments.tailscale_authkey_file
        if arguments.via or about_old or about_network or arguments.rollback_after:
            raise ConfigError("--contain replaces nothing", hint="leave out the options about the old root and the way")
        return Way.CONTAIN
    possible = [way for way in ways(machine) if way is not Way.CONTAIN]
    wanted = Way(arguments.via) if arguments.via else None
    if wanted is not None and wanted not in possible:
        raise LandingError(f"'--via {wanted}' is not possible here: {_init(machine, wanted)}", hint=_hint(possible))
    return wanted or possible[0]


def _init(machine: Machine, wanted: Way) -> str:
    needed = "systemd" if wanted is Way.KEXEC else "systemd 254 or later"
    version = f" {machine.systemd}" if machine.systemd else ""
    return f"the first process is {machine.init}{version}, and that way needs {needed}"


def _hint(possible: Sequence[Way]) -> str:
    return f"leave --via out for {possible[0]}, or use --contain to run the root in namespaces"


def _landing(
    way: Way, arguments: argparse.Namespace, recorder: Recorder
) -> ContainedLanding | SoftRebootLanding | TakeoverLanding:
    wanted = _wanted(arguments)
    if way is Way.CONTAIN:
        return ContainedLanding(wanted, host_network=arguments.network == "host", on_exit=_on_exit(arguments))
    way_back = arguments.headless and not arguments.yes_i_have_a_console
    kept, seconds = arguments.keep_old_root, _seconds(arguments.rollback_after)
    key = read_key(arguments.tailscale_authkey_file) if arguments.tailscale_authkey_file else None
    options = kept, way_back, seconds, _on_exit(arguments), arguments.flush_firewall, key
    if way is Way.TAKEOVER:
        return TakeoverLanding(wanted, DEFAULT_PATH, *options, say=recorder.say)
    return SoftRebootLanding(wanted, DEFAULT_PATH, *options)


def _on_exit(arguments: argparse.Namespace) -> OnExit | None:
    return OnExit(arguments.on_exit) if arguments.on_exit else None


def _seconds(text: str | None) -> int | None:
    try:
        found = None if text is None else parse_value(Kind.SECONDS, text)
    except ValueError as error:
        raise ConfigError(f"'--rollback-after {text}' {error}", hint="write it as 300, 5m or 1h") from error
    return int(found) if isinstance(found, float) else None


def _wanted(arguments: argparse.Namespace) -> ProgramWish:
    return ProgramWish(arguments.entrypoint, tuple(arguments.command) if arguments.command else None)


@contextmanager
def _only_one(way: Way) -> Iterator[None]:
    """Raise LandingError if another pivot is on its way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as lock:
        if way is not Way.CONTAIN:
            try:
                lock.bind(_LOCK)
            except OSError as error:
                raise LandingError(
                    "another pivot is under way", hint=f"wait for it, or look at 'journalctl --unit {_UNIT}'"
                ) from error
        yield


def _go_on_as_service(arguments: argparse.Namespace) -> int:
    """Start this command again as a service, which no session takes with it."""
    program = require_program("systemd-run", "go on as a service", "systemd")
    log = arguments.log or _LOG
    words = [word for word in sys.argv[1:] if word != "--yes"]
    place = words.index("--") if "--" in words else len(words)
    words[place:place] = ["--yes", "--detached", *([] if arguments.log else ["--log", log])]
    options = [f"--unit={_UNIT}", "--collect", "--quiet", "--same-dir", "--description=Pivot into another root"]
    # Without this, an ordinary stop of its scope would be allowed to end it in the middle.
    options += ["--property=KillMode=process", "--property=RefuseManualStop=yes"]
    options += [f"--setenv={name}={os.environ[name]}" for name in _CARRIED if name in os.environ]
    run([program, *options, "--", sys.executable, os.path.abspath(sys.argv[0]), *words])
    print_details([f"it goes on as {_UNIT}.service: journalctl --follow --unit {_UNIT}", f"log: {log}"])
    return 0


def _approve(plan: PivotPlan, arguments: argparse.Namespace) -> None:
    """Show the plan, and ask; raise LandingError if the answer is no."""
    if arguments.dry_run and arguments.json:
        print_json(plan.data())
    elif plan.way is not Way.CONTAIN or arguments.dry_run:
        print_details(plan.text())
    if arguments.dry_run:
        raise _OnlyPlannedError("dry run", hint="-")
    if plan.way is Way.CONTAIN or arguments.yes:
        return
    if not _agreed():
        raise LandingError("the pivot was not confirmed", hint="nothing was changed")
    if arguments.headless:
        raise _OnlyPlannedError("confirmed", hint="-")


def _agreed() -> bool:
    # The parent is in the foreground of the terminal; this process reads, so that signals end it as ever.
    with in_foreground():
        return ask("Replace the running system? [y/N]").lower() in ("y", "yes")
