"""``bootc-live install to-filesystem``: install an image on file systems that are mounted."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.cli.install.common import install_with, let_firmware_start, wishes_of
from bootc_live.cli.options.arguments import desk_access, require_root, source_argument, workspace
from bootc_live.landing.disk.deployments import Deployments
from bootc_live.landing.disk.install import check_boot_partitions, check_new, mounted_at
from bootc_live.landing.disk.storage.named_slots import named_slots


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    require_root("install")
    wishes = wishes_of(arguments)
    root, boot = mounted_at(arguments.directory), mounted_at(arguments.boot)
    esp = None if arguments.esp is None else mounted_at(arguments.esp)
    for option, other in (("--boot", boot), ("--esp", esp)):
        if other is not None and other.uuid == root.uuid:
            raise ConfigError(
                f"{option} {other.directory!r} is the same file system as {arguments.directory!r}",
                hint="name where another one is mounted: the root and its boot partition are two",
            )
    check_boot_partitions(boot, esp)
    slots = _slots(arguments.storage, arguments.slot, wipe=arguments.wipe)
    check_new(Deployments(root.directory), arguments.directory)
    recorder = Recorder()
    with workspace(arguments.workdir) as directory:
        access = desk_access(arguments, recorder, directory)
        install_with(spec, wishes, root, boot, access, directory, recorder, slots, esp)
        if wishes.nvram:
            let_firmware_start((esp or boot).path, recorder)
    return 0


def _slots(storage: str, paths: Sequence[str], *, wipe: bool) -> dict[str, str]:
    """Return the partitions for roots, none without slots; raise ConfigError and RunError."""
    if storage == "slots":
        return named_slots(paths, wipe=wipe)
    if paths or wipe:
        raise ConfigError(f"{'--slot' if paths else '--wipe'} is of no use without slots", hint="add --storage slots")
    return {}
