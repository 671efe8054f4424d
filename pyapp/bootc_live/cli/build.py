"""``bootc-live build``: the root that ``pivot`` would land in, as files: an OCI image, or a tar."""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

from bootc_live.artifacts.oci_image import archive, oci_image, write_layout
from bootc_live.artifacts.rootfs_tar import compression_for, tar_of
from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import desk_access, layered_argument, workspace
from bootc_live.image.recipe import IntoSink
from bootc_live.image.sink import DataFile
from bootc_live.image.verified import VerifiedImage
from bootc_live.pipeline import fetch
from bootc_live.receipt.two_kernels import trust_parts
from bootc_live.rootfs.tree.merge import merge
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.new_results import (
    disk_full_hint,
    new_directory,
    publish_file,
    staging_directory,
    write_errors,
)

_ARCHIVES = (".oci", ".ociarchive", ".tar")
_COMPRESSED = (".gz", ".tgz", ".zst", ".xz", ".txz", ".bz2")


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = layered_argument(arguments)
    output: str | None = arguments.output
    tar: str | None = arguments.rootfs_output
    if output is None and tar is None:
        raise ConfigError("nothing is to be made", hint="name a result: --output DIR|FILE.oci, --rootfs-output FILE")
    compress = compression_for(tar) if tar else None
    if output and output.endswith(_COMPRESSED):
        raise ConfigError(f"{output!r} names a compressed archive", hint="name a FILE.oci, or a DIR for an OCI layout")
    if output and tar and os.path.abspath(output) == os.path.abspath(tar):
        raise ConfigError(f"{output!r} is named for both results", hint="name two")
    recorder = Recorder()
    gc.disable()
    with ExitStack() as stack:
        # All places are checked before anything is fetched.
        tar_stage = stack.enter_context(staging_directory(tar)) if tar else None
        file_stage = stack.enter_context(staging_directory(output)) if output and _is_file(output) else None
        filled = stack.enter_context(new_directory(output))[0] if output and not _is_file(output) else None
        work = stack.enter_context(_workspace(arguments.workdir, output or tar or "."))
        access = desk_access(arguments, recorder, work)
        with disk_full_hint(repr(arguments.workdir or output or tar)):
            fetched = fetch([spec], access, IntoSink(os.path.join(work, "layers"), DataFile()), recorder)
        image = fetched.image
        data = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, data)
        # Also a check: layers that no tree can be made of are not worth an image.
        root = merge(image, warn=recorder.warn)
        made = oci_image(image, data, arguments.tag)
        if tar and tar_stage and compress:
            with recorder.phase("tar", f"writing {tar}"):
                _write(compress(tar_of(root, data)), tar_stage, tar)
        if output:
            with recorder.phase("image", f"writing {output}"), write_errors(output):
                if file_stage:
                    _write(archive(made), file_stage, output)
                elif filled:
                    write_layout(made, filled)
    _report(image, made.digest, arguments, {**trust_parts(fetched.verdict)}, recorder)
    return 0


def _report(
    image: VerifiedImage, digest: str, arguments: argparse.Namespace, trust: dict[str, object], recorder: Recorder
) -> None:
    if arguments.json:
        report = {"source": image.resolved.source_text, "manifest_digest": digest, "layers": len(image.layers)}
        print_json({**report, "size": image.size, **trust})
    else:
        print_results([f"{digest}  {arguments.output}"] if arguments.output else [arguments.rootfs_output])
    recorder.say(f"{mib(image.size)} in {len(image.layers)} layer{'s' if len(image.layers) > 1 else ''}")


def _workspace(chosen: str | None, result: str) -> AbstractContextManager[str]:
    """Return the directory for the layers: a private part of ``chosen``, or of where the result will be."""
    if chosen is not None:
        return workspace(chosen)
    return private_directory(os.path.dirname(os.path.abspath(result)), ".bootc-live.", purpose=repr(result))


def _is_file(path: str) -> bool:
    return path.endswith(_ARCHIVES)


def _write(pieces: Iterator[bytes], stage: str, path: str) -> None:
    finished = os.path.join(stage, "finished")
    with write_errors(path), open(finished, "xb") as file:
        file.writelines(pieces)
    publish_file(finished, path)
