"""``bootc-live uki``: a unified kernel image that boots an image; it can be signed for Secure Boot."""

from __future__ import annotations

import argparse
import os
from contextlib import AbstractContextManager

from bootc_live.artifacts.node_files import ArtifactOptions
from bootc_live.artifacts.uki import check_tools, make_uki
from bootc_live.base.log import Recorder
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import desk_access, signing_arguments, source_argument
from bootc_live.cli.options.node_files import make_node_files, print_report
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.new_results import disk_full_hint, publish_file, staging_directory, write_errors


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    signing = signing_arguments("--sign-key", arguments.sign_key, "--sign-cert", arguments.sign_cert)
    ukify = check_tools(signing)
    options = ArtifactOptions(
        arguments.initrd, tuple(arguments.add_initrd), " ".join(arguments.append), arguments.rootfs
    )
    recorder = Recorder()
    with staging_directory(arguments.output) as beside, _scratch() as scratch:
        made = os.path.join(beside, "made.efi")
        access = desk_access(arguments, recorder, scratch)
        with disk_full_hint(f"{scratch!r} (the environment variable TMPDIR names its parent)"):
            files = make_node_files(spec, access, scratch, recorder, options)
            with recorder.phase("uki", f"making {arguments.output}"), write_errors(arguments.output):
                make_uki(ukify, made, files, scratch, signing)
        size = os.path.getsize(made)
        publish_file(made, arguments.output)
    print_report(spec, files, {"size": size, "signed": signing is not None}, as_json=arguments.json)
    recorder.say(f"{mib(size)}, {'signed' if signing else 'not signed'}; the kernel is {files.version}")
    return 0


def _scratch() -> AbstractContextManager[str]:
    """Make a directory for temporary files, which are too large for an EFI system partition."""
    parent = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 (a private directory is made below it; /tmp may be in RAM)
    return private_directory(parent, "bootc-live.", hint="set the environment variable TMPDIR to a writable directory")
