"""The interface between the loop over sources and what is made of an image: plan each source, and fetch by the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.output import one_line
from bootc_live.config.source_spec import AnySpec
from bootc_live.image.candidate import Candidate
from bootc_live.image.sink import LayerSink
from bootc_live.image.trust import TrustVerdict
from bootc_live.image.verified import VerifiedImage

Plan = TypeVar("Plan")
# One long reason must not hide the others in a message about all sources.
_LONGEST_REASON = 1000


class Recipe(Protocol[Plan]):
    """Plans and fetches one kind of result."""

    @property
    def path(self) -> str:
        """The path of the data file that the layers are written to; it does not exist yet."""

    @property
    def begin(self) -> int:
        """The offset in the data file at which the layers begin; bytes."""

    def plan(self, found: Candidate) -> Plan:
        """Return the plan for the image of one source; raise AdmissionError if it cannot be used."""

    def fetch(self, found: Candidate, plan: Plan) -> VerifiedImage:
        """Fetch the image by its plan; raise as ``Candidate.fetch``."""


@dataclass(frozen=True)
class IntoSink:
    """Fetches any image into one sink, without a plan; ``approve`` may refuse it before that."""

    path: str
    sink: LayerSink
    begin: int = 0
    approve: Callable[[Candidate], None] = lambda _: None

    def plan(self, found: Candidate) -> None:
        """Raise what ``approve`` raises."""
        self.approve(found)

    def fetch(self, found: Candidate, plan: None) -> VerifiedImage:  # noqa: ARG002
        """Fetch the layers; raise as ``Candidate.fetch``."""
        return found.fetch(self.sink)


@dataclass(frozen=True)
class Attempt:
    """One source that was tried, as typed; ``error`` is None if it was used."""

    source: str
    error: str | None


def failed(spec: AnySpec, error: BootcLiveError) -> Attempt:
    """Return the attempt that ended with an error."""
    return Attempt(spec.source_text, one_line(error.message, _LONGEST_REASON))


def all_failed(attempts: Sequence[Attempt]) -> str:
    """Return a message about all sources."""
    listed = "; ".join(f"{number}. {attempt.error}" for number, attempt in enumerate(attempts, 1))
    return f"none of the {len(attempts)} sources can be used: {listed}"


@dataclass(frozen=True)
class Fetched(Generic[Plan]):
    """A verified image, its plan, why it is trusted, and all sources that were tried; the last one was used."""

    image: VerifiedImage
    plan: Plan
    verdict: TrustVerdict
    attempts: tuple[Attempt, ...]
