"""The common part of ``netboot`` and ``uki``: from a source to the files that machines load."""

from __future__ import annotations

from bootc_live.artifacts.node_files import LAYOUT, ArtifactOptions, NodeFiles, check_options, node_files
from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import SourceSpec
from bootc_live.pipeline import fetch
from bootc_live.rootfs.boot_files.extract import boot_file_recipe
from bootc_live.source.access import Access


def make_node_files(
    spec: SourceSpec, access: Access, directory: str, recorder: Recorder, options: ArtifactOptions
) -> NodeFiles:
    """Extract the boot files of an image for other machines; raise BootcLiveError."""
    check_options(spec, options)
    with boot_file_recipe(directory, recorder, LAYOUT if options.rootfs else None) as recipe:
        artifacts = recipe.extract(fetch([spec], access, recipe, recorder))
    return node_files(spec, artifacts, options, access, recorder)
