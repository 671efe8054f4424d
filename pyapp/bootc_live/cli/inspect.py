"""``bootc-live inspect``: what an image is; with ``--contents``, also whether a machine can boot from it."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from bootc_live.base.errors import ImageError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import desk_access, source_argument
from bootc_live.config.source_spec import SourceSpec
from bootc_live.image.candidate import looked_up
from bootc_live.image.recipe import IntoSink
from bootc_live.image.trust import TrustVerdict
from bootc_live.image.verified import ResolvedImage
from bootc_live.pipeline import fetch
from bootc_live.receipt.two_kernels import trust_parts
from bootc_live.rootfs.boot_files.files import boot_files
from bootc_live.rootfs.boot_files.filter import BootFileFilter
from bootc_live.rootfs.boot_files.initramfs import unfit
from bootc_live.rootfs.boot_files.kernel_choice import choose_kernel
from bootc_live.rootfs.disk_units import DiskUnit, ImageTree, enabled_disk_units, mask_arguments
from bootc_live.rootfs.tree.data import content_reader
from bootc_live.rootfs.tree.merge import merge
from bootc_live.rootfs.tree.node import Node
from bootc_live.source.access import Access
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.new_results import disk_full_hint


@dataclass(frozen=True)
class _BootFiles:
    """The release of the image's kernel, and why the image's own kernel and initramfs cannot boot it from this source.

    ``kernel`` is None if there is no kernel to boot. ``bootable`` is None if the initramfs cannot be read here.
    """

    kernel: str | None
    bootable: bool | None
    problem: str | None


@dataclass(frozen=True)
class _Contents:
    boot: _BootFiles
    units: list[DiskUnit]


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    recorder = Recorder()
    access = desk_access(arguments, recorder)
    contents: _Contents | None = None
    if arguments.contents:
        image, verdict, contents = _read_contents(spec, access, recorder)
    else:
        with looked_up(spec, access, recorder) as (_, image, verdict):
            pass
    if arguments.json:
        print_json({**_data(image, contents), **trust_parts(verdict)})
    else:
        print_results(list(_text(image, verdict, contents)))
    return 0


def _read_contents(
    spec: SourceSpec, access: Access, recorder: Recorder
) -> tuple[ResolvedImage, TrustVerdict, _Contents]:
    """Fetch and verify an image, and keep nothing of it."""
    with private_directory(tempfile.gettempdir(), "bootc-live.") as directory, disk_full_hint(repr(directory)):
        access.directory = directory
        path = os.path.join(directory, "layers")
        kept = BootFileFilter(path)
        fetched = fetch([spec], access, IntoSink(path, kept), recorder)
        image = fetched.image
        root = merge(image, kept)
        boot = _read_boot_files(root, spec, path, directory)
        with content_reader(image) as read:
            units = enabled_disk_units(ImageTree(root, read))
        return image.resolved, fetched.verdict, _Contents(boot, units)


def _read_boot_files(root: Node, spec: SourceSpec, path: str, directory: str) -> _BootFiles:
    version = None
    try:
        chosen = choose_kernel(root, spec.source_text)
        files = boot_files(chosen, path, directory, os.uname().machine, spec.source_text)
        version = files.version
        if files.initramfs is None:
            return _BootFiles(version, bootable=False, problem="there is no initramfs beside the kernel")
        problem = unfit(files.initramfs.chunks(), "the initramfs", spec)
    except ImageError as error:
        return _BootFiles(version, bootable=False, problem=error.message)
    except ValueError as error:
        return _BootFiles(version, bootable=None, problem=f"the initramfs cannot be read: {error}")
    return _BootFiles(version, bootable=problem is None, problem=problem)


def _data(image: ResolvedImage, contents: _Contents | None) -> dict[str, object]:
    return {
        "source": image.source_text,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.manifest.config.digest,
        "platform": str(image.config.platform),
        "compressed_size": image.compressed_size,
        "layers": [
            {"digest": layer.digest, "diff_id": diff_id, "size": layer.size, "media_type": layer.media_type}
            for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
        ],
        "boot": None if contents is None else asdict(contents.boot),
        "disk_services": None if contents is None else [unit._asdict() for unit in contents.units],
    }


def _signers(verdict: TrustVerdict) -> str:
    if not verdict.rules:
        return "not checked: --key or --policy checks it"
    return f"{'by ' + ' and '.join(verdict.keys) if verdict.signed else 'need not be'} ({'; '.join(verdict.rules)})"


def _text(image: ResolvedImage, verdict: TrustVerdict, contents: _Contents | None) -> Iterator[str]:
    yield f"source    {image.source_text}"
    yield f"manifest  {image.manifest_digest or 'none: a docker-archive'}"
    yield f"config    {image.manifest.config.digest}"
    yield f"platform  {image.config.platform}"
    yield f"signed    {_signers(verdict)}"
    yield f"layers    {len(image.manifest.layers)}, {mib(image.compressed_size)} to fetch"
    yield from (f"          {layer.digest}  {mib(layer.size)}" for layer in image.manifest.layers)
    if contents is None:
        yield "contents  --contents fetches the layers, and shows kernel, initramfs and services"
        return
    boot, units = contents.boot, contents.units
    verdicts = {True: "yes: the image's initramfs contains bootc-live", False: f"no: {boot.problem}"}
    yield f"kernel    {boot.kernel or 'none'}"
    yield f"bootable  {f'unknown: {boot.problem}' if boot.bootable is None else verdicts[boot.bootable]}"
    yield f"services  {len(units)} for a system on a disk"
    yield from (f"          {unit.name} ({unit.origin}) {unit.why.replace('`', '')}" for unit in units)
    if units:
        yield f"          to leave them out: {mask_arguments(units)}"
