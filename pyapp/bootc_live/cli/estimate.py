"""``bootc-live estimate``: how much memory an image needs in each layout, without fetching its layers."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass, replace

from bootc_live.base.errors import AdmissionError, ConfigError
from bootc_live.base.log import Recorder
from bootc_live.base.output import print_json, print_results
from bootc_live.base.units import MIB, mib
from bootc_live.cli.options.arguments import size_argument, source_argument
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.host.trust import desk_trust
from bootc_live.config.model import Backing, Compression, Config
from bootc_live.image.candidate import looked_up
from bootc_live.image.size.estimate import Estimate, estimate
from bootc_live.image.verified import ResolvedImage
from bootc_live.rootfs.memory.host import Means, MemoryRoom
from bootc_live.rootfs.memory.need import StorageOption, available_on, machine_for
from bootc_live.rootfs.plan import arguments, choose, every_option, lack, likely_need
from bootc_live.source.access import access_for
from bootc_live.system.memory import total_bytes

# The initramfs may have been built elsewhere: what this system lacks does not matter.
_ALL = Means(frozenset(Compression), zram=True)
_REFUSED = "refused"


@dataclass(frozen=True)
class _Row:
    """What one option needs, in bytes; ``machine`` is the RAM of the smallest machine for it."""

    arguments: str
    image: int
    memory: int
    machine: int
    fits: bool


@dataclass(frozen=True)
class _Report:
    """The report on an image and a machine; ``verdict`` is how a boot would continue, or why not.

    ``outlook`` is ``fits``, ``tight`` (a boot would warn and continue) or ``refused``.
    """

    image: ResolvedImage
    estimate: Estimate
    memory: int
    room: MemoryRoom
    rows: dict[str, _Row]
    outlook: str
    verdict: str


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise BootcLiveError."""
    spec = source_argument(arguments)
    config = parse_cmdline(arguments.cmdline, os.environ) if arguments.cmdline is not None else Config()
    recorder = Recorder()
    memory = _memory(arguments.memory)
    access = access_for(config, recorder.warn, None, check_signatures=False)
    access.label = arguments.label or access.label
    access.unsecure = arguments.unsecure or access.unsecure
    access.trust = desk_trust(arguments.key, arguments.policy)
    with looked_up(spec, access, recorder) as (source, image, _):
        estimated = estimate(source, image)
    report = _report(config, image, estimated, memory)
    if arguments.json:
        print_json(_data(report))
    else:
        print_results(_text(report))
    return 1 if report.outlook == _REFUSED else 0


def _memory(text: str | None) -> int:
    if text is None:
        return total_bytes()
    size = size_argument("--memory", text)
    if size < MIB:
        raise ConfigError(f"--memory {text!r} is less than a MiB", hint="write a number of MiB, such as --memory 2048")
    return size


def _report(config: Config, image: ResolvedImage, estimated: Estimate, memory: int) -> _Report:
    room = MemoryRoom(available_on(memory), memory, config.backing)
    rows = {str(option): _row(option, estimated, room) for option in every_option(_ALL)}
    try:
        asked = image.source_text, config.layout, config.compress
        plan = choose(*asked, estimated, room, _ALL, verity=config.verity)
    except AdmissionError as error:
        return _Report(image, estimated, memory, room, rows, _REFUSED, f"{error.message}; {error.hint}")
    return _Report(image, estimated, memory, room, rows, "tight" if plan.warning else "fits", plan.warning or plan.why)


def _row(option: StorageOption, estimated: Estimate, room: MemoryRoom) -> _Row:
    need = likely_need(option, estimated)
    # The limits that were set belong to the option that was asked for.
    fits = lack(option, need, replace(room, backing=Backing())) is None
    return _Row(arguments(option, need), need.held, need.memory, machine_for(need.memory), fits)


def _data(report: _Report) -> dict[str, object]:
    estimated = report.estimate
    return {
        "source": report.image.source_text,
        "manifest_digest": report.image.manifest_digest,
        "platform": str(report.image.config.platform),
        "fetched": estimated.size,
        "unpacked": estimated.unpacked,
        "guessed": estimated.guessed,
        "layers": [asdict(layer) for layer in estimated.layers],
        "machine": {"memory": report.memory, "available": report.room.available},
        "layouts": {name: asdict(row) for name, row in report.rows.items()},
        "boots": report.outlook != _REFUSED,
        "outlook": report.outlook,
        "verdict": report.verdict,
    }


def _text(report: _Report) -> list[str]:
    estimated = report.estimate
    return [
        f"source    {report.image.source_text}",
        f"manifest  {report.image.manifest_digest or 'none: a docker-archive'}",
        f"platform  {report.image.config.platform}",
        f"machine   {mib(report.memory)} of memory, {mib(report.room.available)} of them for the image and its system",
        "",
        f"{'layer':26}{'to fetch':>14}{'unpacked':>14}  known by",
        *(
            f"{layer.digest[:23] + '…':26}{mib(layer.size):>14}{mib(layer.unpacked):>14}  {layer.basis}"
            for layer in estimated.layers
        ),
        f"{'all':26}{mib(estimated.size):>14}{mib(estimated.unpacked):>14}",
        "",
        f"{'layout':16}{'image':>14}{'in all':>14}{'machine':>12}  kernel arguments",
        *(
            f"{name:16}{mib(row.image):>14}{mib(row.memory):>14}{f'{row.machine // MIB} MiB':>12}  "
            f"{row.arguments}{'' if row.fits else '  (does not fit)'}"
            for name, row in report.rows.items()
        ),
        "",
        f"a boot    {report.outlook}: {report.verdict}",
    ]
