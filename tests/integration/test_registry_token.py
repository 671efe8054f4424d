"""A registry that wants bearer tokens, which its token service gives to everybody (as public registries do)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lib.oci_writer import Image, Layer, write_layout
from tests.lib.program import Program
from tests.lib.registry import registry
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.tar_writer import file, layer
from tests.lib.tls import Certificate, make_server
from tests.lib.token_server import token_service

PULL = "repository:os:pull"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_server(tmp_path_factory.mktemp("signer"), None, name="signer", key="rsa")


def test_anonymous_pull(program: Program, signer: Certificate, tmp_path: Path) -> None:
    more = [Layer(layer(file(f"more/{number}", f"{number}\n"))) for number in range(12)]
    layout = write_layout(tmp_path / "layout", Image([Layer(BASE), Layer(UPPER), *more], architecture=HERE))
    with token_service(signer, ("pull", "push")) as service, registry(tmp_path / "r", auth=service.settings) as served:
        served.push(f"oci:{layout}:latest", "os:latest")
        service.scopes.clear()
        program.run("unpack", "--unsecure", served.source("os"), tmp_path / "tree").good()
        assert set(service.scopes) == {PULL}
        # One for the manifest serves the blobs, too.
        assert len(service.scopes) <= 2
    assert (tmp_path / "tree/etc/hostname").read_text() == "small, changed above\n"
    assert len(list((tmp_path / "tree/more").iterdir())) == 12


def test_tokens_are_real(signer: Certificate, tmp_path: Path) -> None:
    """The registry refuses what another signer made: the rows above prove something."""
    other = make_server(tmp_path, None, name="other", key="rsa")
    with token_service(other, ("pull", "push")) as wrong:
        settings = {"token": {**dict(wrong.settings["token"]), "rootcertbundle": str(signer.certificate)}}
        with registry(tmp_path / "r", auth=settings) as served:
            command = ["skopeo", "inspect", "--tls-verify=false", served.source("os")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode != 0
            assert "unauthorized" in done.stderr or "authentication required" in done.stderr
