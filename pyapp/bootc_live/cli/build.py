"""``bootc-live build``: the root that ``pivot`` would land in: an OCI image, a tar, or only layers in the cache."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from bootc_live.artifacts.oci_image import archive, oci_image, write_layout
from bootc_live.artifacts.rootfs_tar import compression_for, tar_of
from bootc_live.base.errors import ConfigError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import desk_access, labels_argument, layered_argument, workspace
from bootc_live.cli.options.cache import cache_argument
from bootc_live.config.source_spec import AnySpec, Containerfile, Layered, RootfsDirectory, RootfsTar
from bootc_live.image.recipe import IntoSink
from bootc_live.image.sink import DataFile
from bootc_live.image.verified import VerifiedImage
from bootc_live.pipeline import fetch
from bootc_live.receipt.two_kernels import trust_parts
from bootc_live.rootfs.tree.merge import merge
from bootc_live.source.cache import DiskCache
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.new_results import (
    disk_full_hint,
    new_directory,
    publish_file,
    staging_directory,
    write_errors,
)

_RESULTS = "name a result: --output DIR|FILE.oci, --rootfs-output FILE"
# None of these has layers that somebody else names.
_LOCAL = (RootfsTar, RootfsDirectory, Containerfile)
_ARCHIVES = (".oci", ".ociarchive", ".tar")
_COMPRESSED = (".gz", ".tgz", ".zst", ".xz", ".txz", ".bz2")


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = layered_argument(arguments)
    label, labels = labels_argument(arguments, spec)
    output: str | None = arguments.output
    tar: str | None = arguments.rootfs_output
    compress = compression_for(tar) if tar else None
    if output and output.endswith(_COMPRESSED):
        raise ConfigError(f"{output!r} names a compressed archive", hint="name a FILE.oci, or a DIR for an OCI layout")
    if output and tar and os.path.abspath(output) == os.path.abspath(tar):
        raise ConfigError(f"{output!r} is named for both results", hint="name two")
    recorder = Recorder()
    cache = _cache(arguments, spec, recorder)
    with ExitStack() as stack:
        # All places are checked before anything is fetched.
        tar_stage = stack.enter_context(staging_directory(tar)) if tar else None
        file_stage = stack.enter_context(staging_directory(output)) if output and _is_file(output) else None
        filled = stack.enter_context(new_directory(output))[0] if output and not _is_file(output) else None
        place, work = stack.enter_context(_workspace(arguments, cache))
        access = replace(desk_access(arguments, recorder, work, cache), label=label, labels=labels)
        with disk_full_hint(repr(place)):
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
    _report(arguments, image, made.digest, {**trust_parts(fetched.verdict), **_cached(arguments, spec, cache)})
    recorder.say(f"{mib(image.size)} in {len(image.layers)} layer{'s' if len(image.layers) > 1 else ''}")
    return 0


def _cache(arguments: argparse.Namespace, spec: AnySpec, recorder: Recorder) -> DiskCache | None:
    """Return the cache, None if there is none; raise ConfigError if there is no result at all."""
    warm = _only_warm(arguments)
    cache = cache_argument(arguments, recorder, required=warm)
    if warm and cache is None:
        raise ConfigError("nothing is to be made", hint=f"{_RESULTS}, or leave out --no-cache")
    if warm and isinstance(spec, Layered) and all(isinstance(part, _LOCAL) for part in spec.parts):
        raise ConfigError("nothing is to be made: what is made of files of this machine is not cached", hint=_RESULTS)
    return cache


def _cached(arguments: argparse.Namespace, spec: AnySpec, cache: DiskCache | None) -> dict[str, object]:
    """Return what the cache did; raise SourceError if that should have been the result, and is nothing."""
    if cache is None:
        return {}
    if _only_warm(arguments) and not cache.used | cache.added:
        raise SourceError(
            f"no layer of {spec.source_text!r} is in the cache {cache.path!r}",
            hint="an archive that is compressed as a whole is fetched anew each time; --max-size may be too small",
        )
    return {"cache": {"directory": cache.path, "used": len(cache.used), "added": len(cache.added)}}


def _only_warm(arguments: argparse.Namespace) -> bool:
    return arguments.output is None and arguments.rootfs_output is None


def _report(arguments: argparse.Namespace, image: VerifiedImage, digest: str, more: dict[str, object]) -> None:
    if arguments.json:
        report = {"source": image.resolved.source_text, "manifest_digest": digest, "layers": len(image.layers)}
        print_json({**report, "size": image.size, **more})
    elif arguments.output is None and arguments.rootfs_output is not None:
        print_results([arguments.rootfs_output])
    else:
        print_results([f"{digest}  {arguments.output or image.resolved.source_text}"])


@contextmanager
def _workspace(arguments: argparse.Namespace, cache: DiskCache | None) -> Iterator[tuple[str, str]]:
    """Make the directory for the layers: a private part of --workdir, or of where the result will be.

    Yield where that is, as people know it, and the directory.
    """
    result = arguments.output or arguments.rootfs_output
    if arguments.workdir is not None:
        place, made = arguments.workdir, workspace(arguments.workdir)
    elif result is not None:
        parent = os.path.dirname(os.path.abspath(result))
        place, made = result, private_directory(parent, ".bootc-live.", purpose=repr(result))
    else:
        assert cache is not None, "the only result"
        place, made = cache.path, cache.workspace()
    with made as directory:
        yield place, directory


def _is_file(path: str) -> bool:
    return path.endswith(_ARCHIVES)


def _write(pieces: Iterator[bytes], stage: str, path: str) -> None:
    finished = os.path.join(stage, "finished")
    with write_errors(path), open(finished, "xb") as file:
        file.writelines(pieces)
    publish_file(finished, path)
