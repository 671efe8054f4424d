"""What ``verify`` says about who signed a deployment's image: by the real cosign, in the real registry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.lib.cosign import Cosign, Key, cosigns, policy
from tests.lib.disk_machine import Machine, disk_image, machine
from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import write_archive
from tests.lib.registry import Registry, registry

NAME: Final = "os/machine"
NOT_REACHED: Final = 69


@dataclass(frozen=True)
class Signed:
    """A registry with an image that a key has signed; another key; and who signs."""

    registry: Registry
    cosign: Cosign
    key: Key
    other: Key
    digest: str

    @property
    def source(self) -> str:
        return self.registry.source(f"{NAME}:1")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    where = tmp_path_factory.mktemp("signed")
    cosign = cosigns(where)[0]
    archive = write_archive(where / "image.oci", disk_image(1))
    with registry(where / "registry") as running:
        digest = running.push(f"oci-archive:{archive}", f"{NAME}:1")
        key, other = cosign.key("key"), cosign.key("other")
        cosign.sign(f"{running.host}/{NAME}@{digest}", key)
        yield Signed(running, cosign, key, other, digest)


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Machine]:
    """Empty file systems."""
    with machine(tmp_path) as made:
        yield made


def install(program: ForkedProgram, one: Machine, signed: Signed, *options: str | Path) -> None:
    program.run(*one.install[:-1], signed.source, "--unsecure", *options).good()


def signature(program: ForkedProgram, one: Machine, status: int, *options: str) -> tuple[str, str]:
    """Verdict and reason for the deployment."""
    done = program.run("verify", "--json", *one.options, *options)
    assert done.status == status, done.stdout + done.stderr
    told = json.loads(done.stdout)["1"]
    return told["signature"], told["why"]


def test_signed(one: Machine, program: ForkedProgram, signed: Signed) -> None:
    """Whether it was signed at the installation, and whether it is now."""
    source = signed.registry.source(f"{NAME}:moving")
    signed.registry.push(f"docker://{signed.registry.host}/{NAME}:1", f"{NAME}:moving", "--src-tls-verify=false")
    program.run(*one.install[:-1], source, "--unsecure", "--key", signed.key.public).good()
    assert signature(program, one, 0) == ("verified", f"signed by {signed.key.public}")
    said = program.run("verify", *one.options).good().stdout
    assert said == f"deployment 1: nothing was changed; signed by {signed.key.public}\n"
    # The tag means another image since; what runs is still that with the digest.
    newer = write_archive(one.source, disk_image(2))
    signed.registry.push(f"oci-archive:{newer}", f"{NAME}:moving")
    assert signature(program, one, 0)[0] == "verified"
    # The machine has another key now, as after a rotation.
    settings = one.store / "machine.json"
    text = json.loads(settings.read_text())
    text["trust"]["files"][str(signed.key.public)] = signed.other.public.read_text()
    settings.write_text(json.dumps(text))
    assert signature(program, one, 1)[0] == "refused"
    program.run("verify", *one.options).error("deployment 1 is not signed as this machine wants it", "none of the keys")
    assert signature(program, one, 0, "--offline") == ("left out", "signatures were left out")


def test_unsigned_is_accepted(one: Machine, program: ForkedProgram, signed: Signed, tmp_path: Path) -> None:
    """By a line of a policy; the registry is not even asked."""
    wanted = tmp_path / "policy.json"
    accepted = {signed.registry.host: [{"type": "insecureAcceptAnything"}], "127.0.0.1:1": [{"type": "reject"}]}
    wanted.write_text(policy([{"type": "reject"}], **accepted))
    install(program, one, signed, "--policy", wanted)
    verdict, why = signature(program, one, 0)
    assert verdict == "not wanted"
    assert why.startswith("not signed is accepted by policy (")
    assert f"{wanted}: docker '{signed.registry.host}'" in why
    moved(one, signed.source, "docker://127.0.0.1:1/os/none")
    assert signature(program, one, 1)[0] == "refused"


def moved(one: Machine, old: str, new: str) -> None:
    """Let the machine's source be at another place."""
    for path in (one.store / "machine.json", one.deployments / "1/deployment.json"):
        path.write_text(path.read_text().replace(old, new))


def test_registry_cannot_be_reached(one: Machine, program: ForkedProgram, signed: Signed) -> None:
    """That is told apart from everything that is wrong."""
    install(program, one, signed, "--key", signed.key.public)
    moved(one, signed.source, "docker://127.0.0.1:1/os/none")
    done = program.run("verify", "--json", *one.options)
    assert (done.status, json.loads(done.stdout)["1"]["signature"]) == (NOT_REACHED, "not reached")
    assert "error: nothing was changed, but signatures of deployment 1 cannot be checked: " in done.stderr
    assert "--offline leaves this out" in done.stderr
    program.run("verify", "--offline", *one.options).good()
    # What was changed counts for more.
    moved(one, "docker://127.0.0.1:1/os/none", "/missing.oci")
    shutil.rmtree(next((one.store / "objects").iterdir()))
    program.run("verify", *one.options).error("1 files were changed: object ")


def test_archive_that_was_replaced(one: Machine, program: ForkedProgram, signed: Signed) -> None:
    """Nobody has signed the image that is there now; the one that runs is not there any more."""
    layout = one.source.with_name("layout")
    layout.mkdir()
    signed.cosign.save(f"{signed.registry.host}/{NAME}@{signed.digest}", layout)
    program.run(*one.install[:-1], layout, "--key", signed.key.public).good()
    assert signature(program, one, 0)[0] == "verified"
    shutil.rmtree(layout)
    assert signature(program, one, NOT_REACHED)[0] == "not reached"
