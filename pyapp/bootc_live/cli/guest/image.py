"""Make the root of a guest of an image, as a boot makes one."""

from __future__ import annotations

from dataclasses import replace

from bootc_live.base.log import Recorder
from bootc_live.cli.options.arguments import workspace
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.guest.model import ImageSource
from bootc_live.config.source_spec import parse_source
from bootc_live.landing.guest.guest import GuestLanding
from bootc_live.pipeline import Run, land_root
from bootc_live.rootfs.layouts.mountable import obstacle, require_overlay
from bootc_live.rootfs.memory.host import present_means
from bootc_live.rootfs.plan import check_options
from bootc_live.source.access import access_for
from bootc_live.system.memory import peak_memory


def land_image(source: ImageSource, landing: GuestLanding, recorder: Recorder) -> None:
    """Fetch, verify and mount an image, and land in it; raise BootcLiveError."""
    config = parse_cmdline(source.cmdline, {})
    named = {word.partition("=")[0] for word in source.cmdline.split()}
    if "rw" not in named:
        config = replace(config, parts=replace(config.parts, root=True))
    if landing.config.id_map is not None:
        landing.writable = config.parts.root
        config = replace(config, parts=replace(config.parts, root=False, etc=False, var=False))
    require_overlay(config)
    means = replace(present_means(), obstacle=obstacle)
    check_options(config, means, recorder)
    with peak_memory() as peak, workspace(None, config.backing) as directory:
        access = access_for(config, recorder.warn, directory)
        if access.trust.warning:
            recorder.warn(access.trust.warning)
        spec = parse_source(source.source_text)
        land_root(Run(config, "", [spec], access, directory, recorder, peak), landing, means, ours=True)
