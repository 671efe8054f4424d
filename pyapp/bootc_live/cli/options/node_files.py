"""The common part of ``netboot`` and ``uki``: from a source to the files that machines load."""

from __future__ import annotations

from collections.abc import Mapping

from bootc_live.artifacts.node_files import LAYOUT, ArtifactOptions, NodeFiles, check_options, node_files
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.config.cmdline.tokens import redact_cmdline
from bootc_live.config.source_spec import SourceSpec, WebPointer
from bootc_live.image.candidate import newest
from bootc_live.pipeline import fetch
from bootc_live.receipt.two_kernels import trust_parts
from bootc_live.rootfs.boot_files.extract import boot_file_recipe
from bootc_live.source.access import Access


def make_node_files(
    spec: SourceSpec, access: Access, directory: str, recorder: Recorder, options: ArtifactOptions
) -> NodeFiles:
    """Extract the boot files of an image for other machines; raise BootcLiveError."""
    check_options(spec, options)
    if isinstance(spec, WebPointer):
        # The machines get the digest, too, which must not become wrong with the next image.
        spec, access.pin = newest(spec, access, recorder)
    with boot_file_recipe(directory, recorder, LAYOUT if options.rootfs else None) as recipe:
        artifacts = recipe.extract(fetch([spec], access, recipe, recorder))
    return node_files(spec, artifacts, options, access, recorder)


def print_report(spec: SourceSpec, files: NodeFiles, made: Mapping[str, object], *, as_json: bool) -> None:
    """Print the command line, or as JSON what was used and ``made``."""
    cmdline = redact_cmdline(files.cmdline)
    if as_json:
        used = {"source": spec.source_text, "digest": files.identity, **trust_parts(files.verdict)}
        print_json({**used, "kernel": files.version, "cmdline": cmdline, **made})
    else:
        print_results([cmdline])
