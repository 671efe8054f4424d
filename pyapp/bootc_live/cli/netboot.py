"""``bootc-live netboot``: a directory of files for a boot server."""

from __future__ import annotations

import argparse

from bootc_live.artifacts.netboot.directory import write_netboot
from bootc_live.artifacts.node_cmdline import check_base
from bootc_live.artifacts.node_files import ArtifactOptions
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import desk_access, source_argument
from bootc_live.cli.options.node_files import make_node_files, print_report
from bootc_live.system.cleanup.new_results import disk_full_hint, new_directory, write_errors


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    base = None if arguments.url is None else check_base(arguments.url)
    options = ArtifactOptions(
        arguments.initrd, tuple(arguments.add_initrd), " ".join(arguments.append), arguments.rootfs, base
    )
    recorder = Recorder()
    with new_directory(arguments.output) as (result, scratch):
        access = desk_access(arguments, recorder, scratch)
        with disk_full_hint(repr(arguments.output)):
            files = make_node_files(spec, access, scratch, recorder, options)
            with recorder.phase("write", f"writing to {arguments.output}"), write_errors(arguments.output):
                written = write_netboot(result, files, base)
    made = {one.name: {"sha256": one.sha256, "size": one.size} for one in written}
    print_report(spec, files, {"files": made}, as_json=arguments.json)
    recorder.say(f"{len(written)} files, {mib(sum(one.size for one in written))}; the kernel is {files.version}")
    return 0
