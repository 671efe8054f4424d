"""``bootc-live inspect``: what an image is, without fetching its layers."""

from __future__ import annotations

import argparse

from bootc_live.base.log import Recorder
from bootc_live.base.output import answer, answer_json
from bootc_live.base.units import mib
from bootc_live.cli.source_argument import source_argument
from bootc_live.image.acquire import resolve, warn_if_insecure
from bootc_live.image.resolve import Wanted
from bootc_live.image.verified import ResolvedImage
from bootc_live.source.access import Access
from bootc_live.source.select import open_source


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises BootcLiveError."""
    spec = source_argument(arguments)
    recorder = Recorder()
    access = Access(recorder.warn, label=arguments.label, unsecure=arguments.unsecure)
    with open_source(spec, access) as source:
        warn_if_insecure(source, access, recorder)
        image = resolve(source, Wanted())
    if arguments.json:
        answer_json(_data(image))
    else:
        answer(_text(image))
    return 0


def _data(image: ResolvedImage) -> dict[str, object]:
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
    }


def _text(image: ResolvedImage) -> list[str]:
    lines = [
        f"source    {image.typed}",
        f"manifest  {image.manifest_digest or 'none: a docker-archive'}",
        f"config    {image.manifest.config.digest}",
        f"platform  {image.config.platform}",
        f"layers    {len(image.manifest.layers)}, {mib(image.compressed_size)} to fetch",
    ]
    lines += [f"          {layer.digest}  {mib(layer.size)}" for layer in image.manifest.layers]
    return lines
