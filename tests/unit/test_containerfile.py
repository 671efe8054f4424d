"""Which program builds, what it is told, and what is removed afterwards. tests/integration has the real buildah."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bootc_live.base.errors import RunError, SourceError
from bootc_live.config.source_spec import Containerfile
from bootc_live.source.rootfs.containerfile import built_layout, find_builder

Install = Callable[..., None]


@pytest.fixture
def spec(tmp_path: Path) -> Containerfile:
    """A Containerfile that only its name is needed of."""
    return Containerfile(f"{tmp_path}/Containerfile", str(tmp_path), "./Containerfile")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a program that logs its arguments, and fails at one of its commands. Nothing else is installed."""
    programs, temporary = tmp_path / "bin", tmp_path / "tmp"
    programs.mkdir()
    temporary.mkdir()
    monkeypatch.setattr("bootc_live.system.run._PATH", str(programs))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))

    def installed(name: str, fails: str = "-") -> None:
        program = programs / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >>"$LOG"\necho "said by $1"\n'
            f"case $1 in {fails}) exit 3 ;; push | save) /bin/mkdir layout ;; esac\n"
        )
        program.chmod(0o755)

    return installed


def log(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


@pytest.mark.parametrize(
    ("installed", "used"), [(["podman"], "podman"), (["buildah"], "buildah"), (["podman", "buildah"], "buildah")]
)
def test_what_is_run(
    installed: list[str],
    used: str,
    install: Install,
    spec: Containerfile,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in installed:
        install(name)
    with built_layout(spec) as layout:
        assert os.path.isdir(layout)
        assert os.stat(os.path.dirname(layout)).st_mode & 0o7777 == 0o700
        # The image is needed no longer, and has been removed.
        built, pushed, removed = log(tmp_path)
    name = built.split()[8]
    assert built == f"{used} build --format oci --layers=false --file {spec.path} --tag {name} {tmp_path}"
    copy = {
        "buildah": f"push --disable-compression {name} oci:layout",
        "podman": f"save --uncompressed --format oci-dir --output layout {name}",
    }
    assert pushed == f"{used} {copy[used]}"
    assert removed == f"{used} rmi {name}"
    assert os.listdir(tmp_path / "tmp") == []
    assert capsys.readouterr().err == f"said by build\nsaid by {copy[used].split()[0]}\n"


@pytest.mark.parametrize("fails", ["build", "push"])
def test_failure(fails: str, install: Install, spec: Containerfile, tmp_path: Path) -> None:
    install("buildah", fails)
    with pytest.raises(SourceError) as caught, built_layout(spec):
        pass
    assert caught.value.message.startswith(f"'./Containerfile' cannot be built: buildah exited with 3: said by {fails}")
    assert log(tmp_path)[-1].startswith("buildah rmi localhost/bootc-live:")
    assert os.listdir(tmp_path / "tmp") == []


def test_image_that_cannot_be_removed(install: Install, spec: Containerfile) -> None:
    install("buildah", "rmi")
    with built_layout(spec) as layout:
        assert os.path.isdir(layout)


@pytest.mark.usefixtures("install")
def test_nothing_installed() -> None:
    with pytest.raises(RunError) as caught:
        find_builder("./Containerfile")
    assert caught.value.message == "'./Containerfile' cannot be built: neither buildah nor podman is installed"
    assert "SOURCE" in caught.value.hint
