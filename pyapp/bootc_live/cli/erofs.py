"""``bootc-live erofs``: the EROFS image that a machine with the erofs layout makes in RAM, as a file."""

from __future__ import annotations

import argparse
import os

from bootc_live.base.errors import ConfigError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import mib
from bootc_live.cli.options.arguments import desk_access, source_argument
from bootc_live.config.cmdline.karg import Kind
from bootc_live.config.cmdline.values import parse_value
from bootc_live.config.model import Compression, Config, Layout
from bootc_live.image.recipe import IntoSink
from bootc_live.image.verified import ResolvedImage
from bootc_live.pipeline import fetch
from bootc_live.receipt.two_kernels import trust_parts
from bootc_live.rootfs.build import root_builder
from bootc_live.rootfs.layouts.built import BuiltRoot
from bootc_live.rootfs.memory.host import present_means
from bootc_live.rootfs.memory.need import StorageOption
from bootc_live.system.cleanup.new_results import disk_full_hint, publish_file, staging_directory


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    config = Config(
        sources=(spec,),
        layout=Layout.EROFS,
        compress=Compression(arguments.compress),
        erofs_times=arguments.times,
        erofs_digest=_digest(arguments.digest),
        selinux=False if arguments.no_selinux else None,
    )
    recorder = Recorder()
    with (
        staging_directory(arguments.file) as directory,
        root_builder(config, directory, recorder, present_means(), ours=False) as builder,
    ):
        option = StorageOption(config.layout, config.compress, verity=True)
        access = desk_access(arguments, recorder, directory)
        # Nothing is planned: the image goes to a file, so memory is no limit.
        with disk_full_hint(repr(arguments.file)):
            fetched = fetch([spec], access, IntoSink(builder.path, builder.sink(option)), recorder)
            built = builder.build(option, fetched.image)
        made = os.path.join(directory, "root.erofs")
        # Without the hash tree: a machine makes its own.
        os.truncate(made, built.size)
        publish_file(made, arguments.file)
    report = {**_report(fetched.image.resolved, built), **trust_parts(fetched.verdict)}
    if arguments.json:
        print_json(report)
    else:
        print_results([f"{report['sha256']}  {arguments.file}"])
    recorder.say(f"{mib(built.size)}, pin it with bootc.live.erofs.digest={built.sha256}")
    recorder.say(f"dm-verity: pin it with bootc.live.verity.roothash={built.root_hash}")
    return 0


def _digest(text: str | None) -> str | None:
    try:
        return None if text is None else str(parse_value(Kind.SHA256, text))
    except ValueError as error:
        raise ConfigError(f"'--digest {text}' {error}", hint="write it as sha256:…") from error


def _report(image: ResolvedImage, built: BuiltRoot) -> dict[str, object]:
    return {
        "source": image.source_text,
        "manifest_digest": image.manifest_digest,
        "config_digest": image.manifest.config.digest,
        "sha256": built.sha256,
        "root_hash": built.root_hash,
        "size": built.size,
        "library": built.library,
        "labelled": built.labelled,
    }
