"""The program on one page: resolve → plan → fetch → build → land."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

from bootc_live.base.errors import AdmissionError, ImageError, RunError, SourceError
from bootc_live.base.log import Recorder
from bootc_live.config.model import Config
from bootc_live.config.next_kernel.handover import Handover
from bootc_live.config.source_spec import AnySpec, DeploymentRoot
from bootc_live.image.candidate import parts_of, trusted_candidate
from bootc_live.image.recipe import Attempt, Fetched, Plan, Recipe, all_failed, failed
from bootc_live.image.resolve import Wanted
from bootc_live.image.store.layer_store import layer_store
from bootc_live.landing.measure import Facts, facts, facts_of, measure
from bootc_live.landing.protocol import Landing, Receipt
from bootc_live.receipt.receipt import Figures, make_receipt
from bootc_live.receipt.two_kernels import first_stage
from bootc_live.rootfs.boot_files.extract import BootArtifacts, BootFileRecipe
from bootc_live.rootfs.build import Approve, root_builder
from bootc_live.rootfs.memory.host import Means
from bootc_live.rootfs.ram import settle
from bootc_live.rootfs.writable.live_root import MountedRoot, mounted_root
from bootc_live.rootfs.writable.separate_var import var_in_ram
from bootc_live.source.access import Access
from bootc_live.system.memory import PeakMemory, trim_heap

Made = TypeVar("Made")


def fetch(specs: Sequence[AnySpec], access: Access, recipe: Recipe[Plan], recorder: Recorder) -> Fetched[Plan]:
    """Plan and fetch the image of the first source that can be used.

    An error ends that source alone; layers that it finished are used by the next. OutOfMemoryError ends all.
    Raise the only source's error, or one that lists all of them.
    """
    attempts: list[Attempt] = []
    wanted = Wanted(pin=access.pin)
    with layer_store(recipe.path, max(1, sum(map(parts_of, specs))), recipe.begin, access.cache) as store:
        for spec in specs:
            try:
                with trusted_candidate(spec, access, wanted, store, recorder) as (found, verdict):
                    plan = recipe.plan(found)
                    image = recipe.fetch(found, plan)
            except (SourceError, ImageError, RunError, AdmissionError) as error:
                if len(specs) == 1:
                    raise
                attempts.append(failed(spec, error))
                if len(attempts) == len(specs):
                    raise SourceError(all_failed(attempts), hint=error.hint) from error
                recorder.warn(f"{error.message}; going on with the next source")
                store.next_source()
            else:
                store.keep_only(image.resolved.config.diff_ids)
                return Fetched(image, plan, verdict, (*attempts, Attempt(spec.source_text, None)))
        raise ValueError("no sources")


@dataclass(frozen=True)
class Run:
    """What one run works with; ``before`` is what the kernel before this one handed over. A dry run does not land."""

    config: Config
    cmdline: str
    sources: Sequence[AnySpec]
    access: Access
    directory: str
    recorder: Recorder
    peak: PeakMemory
    before: Handover | None = None
    dry_run: bool = False


def land_root(
    run: Run, landing: Landing[MountedRoot], means: Means, *, ours: bool, approve: Approve = lambda *_: None
) -> None:
    """Make a root of an image and land it; raise BootcLiveError. See ``RootBuilder`` for the arguments."""
    config, recorder = run.config, run.recorder
    with root_builder(config, run.directory, recorder, means, ours=ours, approve=approve) as builder:
        fetched = fetch(run.sources, run.access, builder, recorder)
        # What fetching has freed would count together with what building needs.
        trim_heap()
        built = builder.build(fetched.plan.option, fetched.image, var_in_ram=var_in_ram(config.parts))
        trim_heap()
        settle(run.directory)

        def receipt(root: MountedRoot) -> Receipt:
            run.peak.sample()
            figures = Figures(fetched.plan, built, run.peak.used, run.access.traffic.hosts, root.state)
            return make_receipt(config, fetched, figures, recorder, run.before)

        with mounted_root(built, fetched.image.resolved, run.directory, config.parts, recorder) as root:
            measured = facts_of(fetched, run.before, run.cmdline)
            land(config, recorder, landing, root, measured, receipt, dry_run=run.dry_run)


def land_deployment(
    config: Config,
    spec: DeploymentRoot,
    landing: Landing[MountedRoot],
    directory: str,
    cmdline: str,
    recorder: Recorder,
    *,
    dry_run: bool,
) -> None:
    """Land a root that is on a disk; nothing is fetched. Raise BootcLiveError."""
    # A late import: other boots have no such root.
    from bootc_live.landing.disk.root import deployed_root, deployment_receipt

    with deployed_root(spec, config, directory, recorder, starting=not dry_run) as (root, found):

        def receipt(_: MountedRoot) -> Receipt:
            return deployment_receipt(config, spec, found, recorder)

        land(config, recorder, landing, root, facts(found.image, found.trust, cmdline), receipt, dry_run=dry_run)


def land_kernel(run: Run, landing: Landing[BootArtifacts], opened: AbstractContextManager[BootFileRecipe]) -> None:
    """Take the kernel out of an image and land in it; raise BootcLiveError."""
    # Closed before landing: no kernel loads a file that somebody can write to.
    with opened as recipe:
        artifacts = recipe.extract(fetched := fetch(run.sources, run.access, recipe, run.recorder))
    hosts = run.access.traffic.hosts
    land(
        run.config,
        run.recorder,
        landing,
        artifacts,
        facts_of(fetched, None, run.cmdline),
        lambda made: first_stage(made, hosts, run.peak.used, run.recorder),
        dry_run=run.dry_run,
    )


def land(
    config: Config,
    recorder: Recorder,
    landing: Landing[Made],
    made: Made,
    measurable: Facts,
    receipt: Callable[[Made], Receipt],
    *,
    dry_run: bool = False,
) -> None:
    """Measure facts, and land what was made with its receipt; raise BootcLiveError with only the TPM changed."""
    for warning in landing.examine(made):
        recorder.warn(warning)
    try:
        measured = None if dry_run else measure(measurable, config, recorder)
        ready = landing.prepare(made, {**receipt(made), "measured": measured})
        done = f"dry run: {ready}; nothing was handed over" if dry_run else landing.commit()
    finally:
        landing.undo()
    recorder.say(done)
