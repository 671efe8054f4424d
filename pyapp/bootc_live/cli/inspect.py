"""``bootc-live inspect``: what an image is, without fetching its layers unless that is asked for."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence

from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.arguments import source_argument
from bootc_live.config.source_spec import SourceSpec
from bootc_live.image.candidate import looked_up
from bootc_live.image.recipe import IntoSink
from bootc_live.image.verified import ResolvedImage
from bootc_live.pipeline import fetch
from bootc_live.rootfs.boot_files.filter import BootFileFilter
from bootc_live.rootfs.disk_units import DiskUnit, ImageTree, enabled_disk_units, mask_arguments
from bootc_live.rootfs.tree.merge import merge
from bootc_live.source.access import Access
from bootc_live.system.cleanup.directories import private_directory
from bootc_live.system.cleanup.new_results import disk_full_hint


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises BootcLiveError."""
    spec = source_argument(arguments)
    recorder = Recorder()
    access = Access(recorder.warn, label=arguments.label, unsecure=arguments.unsecure)
    units: Sequence[DiskUnit] | None = None
    if arguments.services:
        image, units = _looked_into(spec, access, recorder)
    else:
        with looked_up(spec, access, recorder) as (_, image):
            pass
    if arguments.json:
        print_json(_data(image, units))
    else:
        print_results(_text(image, units))
    return 0


def _looked_into(spec: SourceSpec, access: Access, recorder: Recorder) -> tuple[ResolvedImage, list[DiskUnit]]:
    """Fetch and verify an image, and keep nothing of it but names."""
    with private_directory(tempfile.gettempdir(), "bootc-live.") as directory, disk_full_hint(repr(directory)):
        access.directory = directory
        path = os.path.join(directory, "layers")
        kept = BootFileFilter(path)
        image = fetch([spec], access, IntoSink(path, kept), recorder).image
        return image.resolved, enabled_disk_units(ImageTree(merge(image, kept.members), path))


def _data(image: ResolvedImage, units: Sequence[DiskUnit] | None) -> dict[str, object]:
    return {
        "source": image.typed,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.manifest.config.digest,
        "platform": str(image.config.platform),
        "compressed_size": image.compressed_size,
        "layers": [
            {"digest": layer.digest, "diff_id": diff_id, "size": layer.size, "media_type": layer.media_type}
            for layer, diff_id in zip(image.manifest.layers, image.config.diff_ids, strict=True)
        ],
        "disk_services": None if units is None else [unit._asdict() for unit in units],
    }


def _text(image: ResolvedImage, units: Sequence[DiskUnit] | None) -> list[str]:
    lines = [
        f"source    {image.typed}",
        f"manifest  {image.manifest_digest or 'none: a docker-archive'}",
        f"config    {image.manifest.config.digest}",
        f"platform  {image.config.platform}",
        f"layers    {len(image.manifest.layers)}, {mib(image.compressed_size)} to fetch",
    ]
    lines += [f"          {layer.digest}  {mib(layer.size)}" for layer in image.manifest.layers]
    if units is None:
        return [*lines, "services  --services fetches the layers, and names those for a system on a disk"]
    lines.append(f"services  {len(units)} for a system on a disk")
    lines += [f"          {unit.name} ({unit.origin}) {unit.why.replace('`', '')}" for unit in units]
    return lines + ([f"          to leave them out: {mask_arguments(units)}"] if units else [])
