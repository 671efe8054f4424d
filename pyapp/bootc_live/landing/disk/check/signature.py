"""Check a deployment's image against the signatures beside it, as an upgrade to it would."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from bootc_live.base.errors import ImageError, RunError, SourceError, TrustError
from bootc_live.base.log import Recorder
from bootc_live.config.source_spec import SourceSpec
from bootc_live.image.candidate import looked_up
from bootc_live.image.trust import unsigned_accepted
from bootc_live.landing.disk.deployments import Deployment
from bootc_live.landing.disk.settings import Settings
from bootc_live.source.access import Access


class Verdict(StrEnum):
    """Whether an image is signed as the machine wants it."""

    VERIFIED = "verified"
    NOT_WANTED = "not wanted"
    REFUSED = "refused"
    NOT_REACHED = "not reached"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class SignatureCheck:
    """A verdict, and why, in words that continue the name of the deployment; ``hint`` says what to do."""

    verdict: Verdict
    text: str
    hint: str = ""


LEFT_OUT = SignatureCheck(Verdict.LEFT_OUT, "signatures were left out")


def check_signature(settings: Settings, deployment: Deployment, access: Access, recorder: Recorder) -> SignatureCheck:
    """Return what policies of ``access`` say about a deployment; its source is only asked if one wants a signature."""
    source = _source_of(settings, deployment)
    rules = unsigned_accepted(None if isinstance(source, SignatureCheck) else source, access.trust)
    if rules is not None:
        by = f"by policy ({', '.join(rules)})" if rules else "because this machine has no key and no policy"
        return SignatureCheck(Verdict.NOT_WANTED, f"not signed is accepted {by}")
    if isinstance(source, SignatureCheck):
        return source
    try:
        pinned = replace(access, pin=deployment.image if ":" in deployment.image else None)
        with looked_up(source, pinned, recorder) as (_, _image, verdict):
            return SignatureCheck(Verdict.VERIFIED, f"signed by {' and '.join(verdict.keys)}")
    except TrustError as error:
        return SignatureCheck(Verdict.REFUSED, error.message, error.hint)
    except (SourceError, ImageError, RunError) as error:
        return SignatureCheck(Verdict.NOT_REACHED, error.message, error.hint)


def _source_of(settings: Settings, deployment: Deployment) -> SourceSpec | SignatureCheck:
    try:
        return settings.source_of(deployment)
    except SourceError as error:
        # A file of the machine that installed this one.
        return SignatureCheck(Verdict.NOT_REACHED, error.message, error.hint)
