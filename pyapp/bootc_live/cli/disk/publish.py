"""``bootc-live publish``: put an image where machines look for a newer one: an archive, then a pointer to it."""

from __future__ import annotations

import argparse
import os
import shutil
from dataclasses import asdict

from bootc_live.artifacts.oci_image import archive, oci_image
from bootc_live.artifacts.published import POINTER, publish_archive, publishing
from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import desk_access, source_argument
from bootc_live.config.source_spec import ArchiveFile, SourceSpec
from bootc_live.image.detached import ENDINGS
from bootc_live.image.recipe import IntoSink
from bootc_live.image.sink import DataFile
from bootc_live.image.verified import VerifiedImage
from bootc_live.pipeline import fetch
from bootc_live.system.cleanup.new_results import disk_full_hint, write_errors

# A machine that has just read the pointer still fetches what was the newest.
_FEWEST = 2


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    directory = os.path.abspath(arguments.directory)
    if arguments.keep is not None and arguments.keep < _FEWEST:
        raise ConfigError(
            f"--keep {arguments.keep} would take away what machines are fetching", hint=f"keep at least {_FEWEST}"
        )
    recorder = Recorder()
    with write_errors(arguments.directory):
        os.makedirs(directory, exist_ok=True)
    with publishing(directory) as stage:
        access = desk_access(arguments, recorder, stage)
        with disk_full_hint(repr(arguments.directory)):
            # Also a copy is only made of what is whole.
            fetched = fetch([spec], access, IntoSink(os.path.join(stage, "layers"), DataFile()), recorder)
        with recorder.phase("publish", f"publishing in {arguments.directory}"), write_errors(arguments.directory):
            file, digest, signatures = _finished(spec, fetched.image, arguments.label, stage)
            pointer = publish_archive(directory, stage, digest, file, signatures, keep=arguments.keep)
    if arguments.json:
        print_json(asdict(pointer))
    else:
        print_results([f"{pointer.digest}  {os.path.join(arguments.directory, POINTER)}"])
    recorder.say(f"{pointer.file} has {mib(pointer.size)}")
    return 0


def _finished(spec: SourceSpec, image: VerifiedImage, label: str | None, stage: str) -> tuple[str, str, dict[str, str]]:
    """Return an archive of an image in ``stage``, the digest of its manifest, and signatures of it by their endings."""
    finished = os.path.join(stage, "finished")
    known = image.resolved.manifest_digest
    # What has several images, or no manifest, is no archive that its digest alone describes.
    if isinstance(spec, ArchiveFile) and os.path.isfile(spec.path) and label is None and known is not None:
        shutil.copyfile(spec.path, finished)
        signatures = {}
        for ending in ENDINGS:
            if os.path.isfile(spec.path + ending):
                signatures[ending] = shutil.copyfile(spec.path + ending, finished + ending)
        return finished, known, signatures
    data = os.open(image.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        made = oci_image(image, data, "latest")
        with open(finished, "xb") as file:
            file.writelines(archive(made))
    finally:
        os.close(data)
    return finished, made.digest, {}
