"""What is made of an image, for the loop over sources: a plan for each source, and how to fetch it by that plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bootc_live.base.errors import BootcLiveError
from bootc_live.base.output import one_line
from bootc_live.config.source_spec import SourceSpec
from bootc_live.image.candidate import Candidate
from bootc_live.image.sink import LayerSink
from bootc_live.image.trust import TrustVerdict
from bootc_live.image.verified import VerifiedImage

Plan = TypeVar("Plan")
# One source cannot push the others out of a message about all of them.
_LONGEST_REASON = 1000


class Recipe(Protocol[Plan]):
    """One thing that can be made of images."""

    @property
    def path(self) -> str:
        """The data file, a new one, that the layers are written to."""

    @property
    def begin(self) -> int:
        """The offset in the data file at which the layers begin; bytes."""

    def plan(self, found: Candidate) -> Plan:
        """Decide what to do with the image of one source; raise AdmissionError if it cannot be used."""

    def fetch(self, found: Candidate, plan: Plan) -> VerifiedImage:
        """Fetch it by that plan; raise as ``Candidate.fetch``."""


@dataclass(frozen=True)
class IntoSink:
    """Fetch any image into one sink."""

    path: str
    sink: LayerSink
    begin: int = 0

    def plan(self, found: Candidate) -> None:
        """Need no plan."""

    def fetch(self, found: Candidate, plan: None) -> VerifiedImage:  # noqa: ARG002
        """Fetch the layers; raise as ``Candidate.fetch``."""
        return found.fetch(self.sink)


@dataclass(frozen=True)
class Attempt:
    """One source that was tried, as typed; ``error`` is why it was not used, None for the one that was."""

    source: str
    error: str | None


def failed(spec: SourceSpec, error: BootcLiveError) -> Attempt:
    """Return the attempt that ended with an error."""
    return Attempt(spec.typed, one_line(error.message, _LONGEST_REASON))


def all_failed(attempts: Sequence[Attempt]) -> str:
    """Return a message about all sources."""
    listed = "; ".join(f"{number}. {attempt.error}" for number, attempt in enumerate(attempts, 1))
    return f"none of the {len(attempts)} sources can be used: {listed}"


@dataclass(frozen=True)
class Fetched(Generic[Plan]):
    """A verified image, the plan for it, why it is trusted, and all sources that were tried: the last one is used."""

    image: VerifiedImage
    plan: Plan
    verdict: TrustVerdict
    attempts: tuple[Attempt, ...]
