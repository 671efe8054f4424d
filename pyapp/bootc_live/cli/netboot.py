"""``bootc-live netboot``: a directory of files for a boot server."""

from __future__ import annotations

import argparse

from bootc_live.artifacts.netboot.directory import Written, write_netboot
from bootc_live.artifacts.node_cmdline import check_base
from bootc_live.artifacts.node_files import ArtifactOptions, NodeFiles
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.arguments import desk_access, source_argument
from bootc_live.cli.node_files import make_node_files
from bootc_live.config.cmdline.tokens import redact_cmdline
from bootc_live.receipt.two_kernels import trust_parts
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
    report = _report(spec.source_text, files, written)
    if arguments.json:
        print_json(report)
    else:
        print_results([str(report["cmdline"])])
    recorder.say(f"{len(written)} files, {mib(sum(one.size for one in written))}; the kernel is {files.version}")
    return 0


def _report(source_text: str, files: NodeFiles, written: list[Written]) -> dict[str, object]:
    return {
        "source": source_text,
        "digest": files.identity,
        **trust_parts(files.verdict),
        "kernel": files.version,
        "cmdline": redact_cmdline(files.cmdline),
        "files": {one.name: {"sha256": one.sha256, "size": one.size} for one in written},
    }
