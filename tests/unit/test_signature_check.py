"""What is said about signatures of deployments without asking anybody."""

from __future__ import annotations

import pytest

from bootc_live.base.log import Recorder
from bootc_live.config.host.policy import parse_policy
from bootc_live.config.host.trust import Trust
from bootc_live.landing.disk.check.signature import Verdict, check_signature
from bootc_live.landing.disk.deployments import Deployment
from bootc_live.landing.disk.settings import Settings
from bootc_live.source.access import Access

ACCEPT = b'{"default": [{"type": "insecureAcceptAnything"}]}'
REJECT = b'{"default": [{"type": "reject"}]}'
NONE = "docker://127.0.0.1:1/os/none"


@pytest.mark.parametrize(
    ("source", "policies", "verdict", "said"),
    [
        (NONE, [], Verdict.NOT_WANTED, "because this machine has no key and no policy"),
        ("/missing.oci", [], Verdict.NOT_WANTED, "because this machine has no key and no policy"),
        (NONE, [ACCEPT], Verdict.NOT_WANTED, "by policy (/0.json: default)"),
        ("/missing.oci", [ACCEPT, ACCEPT], Verdict.NOT_WANTED, "by policy (/0.json: default, /1.json: default)"),
        (NONE, [ACCEPT, REJECT], Verdict.REFUSED, "the policy rejects it (/1.json: default)"),
        ("./typed.oci", [], Verdict.NOT_WANTED, "because this machine has no key and no policy"),
        (
            "./typed.oci",
            [ACCEPT, REJECT],
            Verdict.NOT_REACHED,
            "came from './typed.oci', which names nothing on this machine",
        ),
    ],
)
def test_without_a_source(source: str, policies: list[bytes], verdict: Verdict, said: str) -> None:
    settings = Settings(NONE, "UUID=1", "UUID=2", "grub")
    deployment = Deployment(1, source, f"sha256:{'0' * 64}", "0" * 64, "", "6.1", verity=True)
    found = tuple(parse_policy(each, f"/{number}.json", lambda _: b"") for number, each in enumerate(policies))
    access = Access(tell=lambda _: None, trust=Trust(found))
    check = check_signature(settings, deployment, access, Recorder())
    assert (check.verdict, said in check.text) == (verdict, True), check.text
