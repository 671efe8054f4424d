"""``--containerfile``: built by the real buildah, and nothing of it stays in its storage."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lib.forked_program import ForkedProgram
from tests.lib.oci_writer import sha256
from tests.lib.program import SECONDS, Program
from tests.lib.signing import Key
from tests.lib.small_image import BASE, archive_of

TEXT = 'FROM scratch\nCOPY . /\nRUN echo made >/made; echo upper >/etc/ssl/old\nCMD ["/bin/sh"]\n'
_LIMITS = ("nproc", "nofile")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables by which buildah works where no container runtime does, with a storage of its own."""
    where = tmp_path_factory.mktemp("buildah")
    # Locks of the libraries that buildah is made of.
    Path("/run/containers").mkdir(exist_ok=True)
    storage = f'driver = "overlay"\ngraphroot = "{where}/storage"\nrunroot = "{where}/run"\n'
    (where / "storage.conf").write_text(f"[storage]\n{storage}")
    # buildah would raise these, which not every container lets root do.
    limits = [f'"{name}={_limit(name)}"' for name in _LIMITS]
    (where / "containers.conf").write_text(
        f'[containers]\nnetns = "host"\nno_hosts = true\ndefault_ulimits = [{", ".join(limits)}]\n'
    )
    yield {
        "CONTAINERS_CONF": f"{where}/containers.conf",
        "CONTAINERS_STORAGE_CONF": f"{where}/storage.conf",
        "BUILDAH_ISOLATION": "chroot",
        "HOME": str(where),
    }
    shutil.rmtree(where, ignore_errors=True)


def _limit(name: str) -> str:
    argv = ["prlimit", f"--{name}", "--noheadings", "--output", "SOFT,HARD"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return ":".join("-1" if word == "unlimited" else word for word in said)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A directory with a Containerfile and a shell that it can run."""
    where = tmp_path / "context"
    (where / "bin").mkdir(parents=True)
    (where / "etc/ssl").mkdir(parents=True)
    shell = shutil.copy("/usr/bin/busybox", where / "bin/sh")
    for library in re.findall(
        r"/\S+", subprocess.run(["ldd", shell], check=True, capture_output=True, text=True).stdout
    ):
        target = where / library.lstrip("/:")
        if Path(library).is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    (where / "Containerfile").write_text(TEXT)
    return where


def stored(environment: Mapping[str, str]) -> list[str]:
    """The images and containers in buildah's storage, looked at without leaving its mounts behind."""
    found = []
    for what in ("images", "containers"):
        argv = ["unshare", "--mount", "buildah", what, "--all", "--json"]
        done = subprocess.run(argv, env={**os.environ, **environment}, check=True, capture_output=True, text=True)
        found += [str(each) for each in json.loads(done.stdout) or ()]
    return found


def content(tar: Path, name: str) -> str:
    """A file in a tar."""
    with tarfile.open(tar) as opened:
        member = opened.extractfile(f"./{name}")
        assert member is not None
        return member.read().decode()


def test_on_top_of_all(program: ForkedProgram, environment: dict[str, str], context: Path, tmp_path: Path) -> None:
    base, out, cache = archive_of(tmp_path / "base.oci", BASE), tmp_path / "out.tar", tmp_path / "cache"
    words = (base, "--containerfile", context / "Containerfile", "--label", "latest", "--cache", cache)
    ended = program.run("build", *words, "--rootfs-output", out, env=environment).good()
    assert "\nSTEP 3/4: RUN echo made" in ended.stderr
    assert content(out, "made") == "made\n"
    assert content(out, "etc/ssl/old") == "upper\n"
    assert content(out, "usr/bin/plain") == "#!/bin/sh\n"
    assert not stored(environment)
    # What was built here is built anew each time.
    assert os.listdir(cache / "layers/sha256") == [sha256(BASE)[7:]]


def test_alone_and_from_anywhere(
    program: ForkedProgram, environment: dict[str, str], context: Path, tmp_path: Path
) -> None:
    """Paths are relative to the current directory; that of the file is copied from, or another one."""
    program.run(
        "build", "--containerfile", "context/Containerfile", "-o", tmp_path / "a.oci", env=environment, cwd=tmp_path
    ).good()
    told = json.loads(program.run("inspect", tmp_path / "a.oci", "--json").good().stdout)
    assert len(told["layers"]) == 1
    elsewhere = (tmp_path / "else:where").resolve()
    elsewhere.mkdir()
    file = shutil.move(context / "Containerfile", elsewhere / "File:of mine")
    words = ("build", "--containerfile", file, "--context", "context", "--rootfs-output", tmp_path / "b.tar")
    program.run(*words, env={**environment, "TMPDIR": str(elsewhere)}, cwd=tmp_path).good()
    assert content(tmp_path / "b.tar", "made") == "made\n"
    with tarfile.open(tmp_path / "b.tar") as opened:
        assert "./Containerfile" not in opened.getnames()
    assert not stored(environment)
    assert os.listdir(elsewhere) == ["File:of mine"]


def test_build_that_fails(program: ForkedProgram, environment: dict[str, str], context: Path, tmp_path: Path) -> None:
    path = context / "Containerfile"
    path.write_text(TEXT.replace("echo made", "echo this is why >&2; exit 7; echo"))
    ended = program.run("build", "--containerfile", path, "-o", tmp_path / "out", env=environment)
    assert "exit status 7" in ended.error(path, "buildah exited with 7: ", "this is why")
    path.write_text("FROM scratch\nCOPY missing /\n")
    program.run("build", "--containerfile", path, "-o", tmp_path / "out", env=environment).error(path, "missing")
    path.write_text("NOTHING at all\n")
    program.run("build", "--containerfile", path, "-o", tmp_path / "out", env=environment).error(path, "no FROM")
    assert not stored(environment)
    assert sorted(os.listdir(tmp_path)) == ["context"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted(number: int, spawned: Program, environment: dict[str, str], context: Path, tmp_path: Path) -> None:
    """The container that buildah works in is removed, which takes buildah itself: it is not killed."""
    path, log = context / "Containerfile", tmp_path / "log"
    shutil.copy(context / "bin/sh", context / "bin/mkfifo")
    path.write_text("FROM scratch\nCOPY . /\nRUN mkfifo /pipe; echo begun; read x </pipe\n")
    variables = [f"{name}={value}" for name, value in environment.items()]
    program = Program(spawned.zipapp, before=["env", *variables])
    with program.started("build", "--containerfile", path, "-o", tmp_path / "out", log=log) as process:
        last = time.monotonic() + SECONDS
        while "\nbegun\n" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < last
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(SECONDS) == 1
    assert "interrupted" in log.read_text()
    # Where the parent cleaned up, buildah has left a mount of its own storage.
    for mounted in re.findall(rf" ({re.escape(environment['HOME'])}\S*) ", Path("/proc/self/mountinfo").read_text()):
        subprocess.run(["umount", mounted], check=True)
    assert not stored(environment)
    assert not (tmp_path / "out").exists()


def test_without_a_builder(program: ForkedProgram, context: Path, tmp_path: Path) -> None:
    words = ["build", "docker://127.0.0.1:1/x", "--containerfile", str(context / "Containerfile"), "-o"]
    said = program.run_apart(
        [*words, tmp_path / "out"], tmp_path, hidden=["/usr/bin/buildah", "/usr/bin/podman"]
    ).output
    assert f"'{context}/Containerfile' cannot be built: neither buildah nor podman is installed" in said
    assert "127.0.0.1" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--containerfile", "{here}/missing"), "--containerfile '{here}/missing' is not a file"),
        (("--containerfile", "{here}"), "is not a file"),
        (("--containerfile", "{file}", "--context", "{here}/missing"), "--context '{here}/missing' is not a directory"),
        (("{here}", "--context", "{here}"), "is of no use alone"),
        (("--containerfile", "{file}", "--key", "{key}"), "has no signature"),
        (("--containerfile", "{file}", "--cache", "{here}/c"), "nothing is to be made"),
    ],
)
def test_refused(words: tuple[str, ...], said: str, program: ForkedProgram, context: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pub"
    key.write_bytes(Key(tmp_path).public.pem)
    names = {"here": tmp_path, "file": context / "Containerfile", "key": key}
    output = [] if "--cache" in words else ["-o", str(tmp_path / "out")]
    ended = program.run("build", *(word.format(**names) for word in words), *output)
    assert said.format(**names) in ended.error()
    assert "STEP" not in ended.stderr
