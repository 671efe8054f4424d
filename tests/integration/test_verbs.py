"""Verbs that only tell something, and what all verbs do alike: help, usage, errors in three parts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from bootc_live import __version__
from tests.lib.boot_images import boot_image
from tests.lib.oci_writer import Image, sha256, write_archive
from tests.lib.program import ENVIRONMENT, Program
from tests.lib.small_image import BASE, HERE, UPPER, archive_of, small_image

VERBS = (
    *("boot", "inspect", "estimate", "unpack", "erofs", "netboot", "uki", "build", "prune", "kargs", "status"),
    "freeze",
)


def test_version(program: Program) -> None:
    assert program.run("--version").good().stdout == f"bootc-live {__version__}\n"


def test_help_names_every_verb(spawned: Program) -> None:
    told = spawned.run("--help").good().stdout
    for verb in VERBS:
        assert re.search(rf"^    {verb} +\S", told, re.MULTILINE), verb
    assert "docker://REGISTRY/NAME[:TAG][@DIGEST]" in told


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(verb: str, program: Program) -> None:
    told = program.run(verb, "--help").good().stdout
    assert told.startswith(f"usage: bootc-live {verb} ")
    # Every option has a text, on its own line or the next.
    for option in re.findall(r"^  (--[a-z-]+)", told, re.MULTILINE):
        assert re.search(rf"^  {option}( [A-Z0-9]+| {{[a-z0-9,]+}})?(  +|\n +)\S", told, re.MULTILINE), option


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("bot",),
        ("boot",),
        ("boot", "--cmdline"),
        ("inspect",),
        ("unpack", "/x"),
        ("inspect", "/x", "--frobnicate"),
        ("status", "more"),
        ("build",),
        ("pivot", "--yes"),
        ("build", "/x", "--cache", "/y", "--no-cache"),
    ],
    ids=lambda argv: " ".join(argv) or "nothing",
)
def test_wrong_usage(argv: tuple[str, ...], program: Program) -> None:
    ended = program.run(*argv)
    assert ended.status == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("usage: bootc-live")
    assert "Traceback" not in ended.stderr


def test_every_verb_starts(spawned: Program, small: Path, tmp_path: Path) -> None:
    """As people run it, a process of its own that imports what it needs: other tests fork it."""
    root, bootable = tmp_path / "root", write_archive(tmp_path / "bootable.oci", boot_image())
    root.mkdir()
    boot = ("boot", "--dry-run", "--cmdline", f"root=bootc-live:{small}", "--sysroot", root)
    for verb in (
        boot,
        ("inspect", small),
        ("estimate", small),
        ("unpack", small, tmp_path / "tree"),
        ("erofs", small, tmp_path / "image.erofs"),
        ("netboot", bootable, "--rootfs", "-o", tmp_path / "os"),
        ("kargs",),
    ):
        spawned.run(*verb).good()
    spawned.run("uki", bootable, "--rootfs", "-o", tmp_path / "os.efi").error("is not a UEFI program")
    spawned.run("freeze", tmp_path / "none").error("is not a directory")
    spawned.run("status", "--receipt", tmp_path / "none").error("there is no receipt")


def test_everybody_can_read_what_freeze_writes(program: Program) -> None:
    """Whatever the umask of who packs: a Python that is nobody's inflates layers."""
    packing = Program(program.zipapp, before=["sh", "-c", 'umask 077; exec "$@"', "sh"])
    with TemporaryDirectory() as root:
        packing.run("freeze", root).good()
        found = {path: path.stat().st_mode & 0o005 for path in Path(root).rglob("*")}
        assert any(path.name == "os.pyc" for path in found)
        found = {path: mode for path, mode in found.items() if not path.is_symlink()}
        assert [path for path, mode in found.items() if mode != (0o005 if path.is_dir() else 0o004)] == []


def test_inspect(program: Program, small: Path) -> None:
    data = json.loads(program.run("inspect", "--json", small).good().stdout)
    assert data["source"] == str(small)
    assert data["platform"] == f"linux/{HERE}"
    assert [layer["diff_id"] for layer in data["layers"]] == [sha256(BASE), sha256(UPPER)]
    assert {layer["media_type"] for layer in data["layers"]} == {"application/vnd.oci.image.layer.v1.tar+gzip"}
    assert data["compressed_size"] == sum(layer["size"] for layer in data["layers"])
    ended = program.run("inspect", small).good()
    assert ended.stderr == ""
    lines = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines() if not line.startswith(" "))
    assert lines["manifest"] == data["manifest_digest"]
    assert lines["config"] == data["config_digest"]
    assert lines["layers"].startswith("2, ")
    assert all(layer["digest"] in ended.stdout for layer in data["layers"])


def test_inspect_agrees_with_skopeo(program: Program, small: Path) -> None:
    command = ["skopeo", "inspect", "--format", "{{.Digest}} {{.Layers}}", f"oci-archive:{small}:latest"]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    data = json.loads(program.run("inspect", "--json", small).good().stdout)
    layers = " ".join(layer["digest"] for layer in data["layers"])
    assert told.strip() == f"{data['manifest_digest']} [{layers}]"


def test_label(program: Program, tmp_path: Path) -> None:
    first, second = Image(small_image().layers, ref="one"), Image(small_image().layers[:1], ref="two")
    archive = write_archive(tmp_path / "image.oci", first, second)
    data = json.loads(program.run("inspect", "--json", "--label", "two", archive).good().stdout)
    assert len(data["layers"]) == 1
    told = program.run("inspect", "--label", "three", archive).error(archive, "'three'", "one, two")
    assert "--label " in told
    assert "bootclabel" not in told
    program.run("inspect", archive).error(archive, "'latest'", "one, two")


def test_relative_path_counts_from_here(program: Program, tmp_path: Path) -> None:
    archive_of(tmp_path / "image.oci", BASE)
    assert f"source    {tmp_path}/image.oci\n" in program.run("inspect", "image.oci", cwd=tmp_path).good().stdout
    program.run("inspect", "missing.oci", cwd=tmp_path).error("'missing.oci'")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("/nowhere/image.oci", "No such file or directory"),
        ("/", "/"),
        ("/dev/null", "/dev/null"),
        ("dokcer://registry.example/os", "dokcer://"),
        ("docker://registry.example/os:ta g", "ta g"),
    ],
)
def test_wrong_source(source: str, named: str, program: Program, tmp_path: Path) -> None:
    program.run("inspect", source).error(repr(source), named)
    program.run("boot", "--cmdline", f'root="bootc-live:{source}"', "--sysroot", tmp_path).error(source, named)


def test_kargs_explains(program: Program, repo: Path) -> None:
    told = program.run("kargs").good().stdout
    for name in ("root", "bootclabel", "bootc.registry.unsecure", "bootc.live.etc.rw", "rd.net.wait-any-if"):
        assert f"{name} (" in told
    assert program.run("kargs", "--markdown").good().stdout == (repo / "kernel-cmdline.md").read_text()


def test_kargs_checks(program: Program) -> None:
    cmdline = 'quiet root="bootc-live:/my image.oci" rw bootclabel=stable bootc.live.var.rw=No rootflags=noatime'
    told = program.run("kargs", cmdline).good().stdout
    given = [
        'root="bootc-live:/my image.oci"',
        *("rw", "bootclabel=stable", "bootc.live.var.rw=No", "rootflags=noatime"),
    ]
    assert told.splitlines() == [*(f"set       {argument}" for argument in given), "not ours  quiet"]
    listed = program.run("kargs", "--defaults", cmdline).good().stdout.splitlines()
    assert "default   bootc.live.layout=index" in listed
    assert not any("bootclabel=latest" in line for line in listed)


@pytest.mark.parametrize("cmdline", ["console=ttyS0", "root=UUID=abc", "root=bootc-live:/x.oci root=UUID=abc"])
def test_kargs_of_others(cmdline: str, program: Program) -> None:
    last = cmdline.rsplit(maxsplit=1)[-1]
    assert program.run("kargs", cmdline).good().stdout.splitlines() == [
        f"not ours  {last}",
        "result    there is no root=bootc-live:…, so bootc-live does nothing",
    ]


def test_all_mistakes_at_once(program: Program) -> None:
    wrong = ("bootc.live.etc.rw=maybe", "bootc.live.ect.rw=0", "bootc.kexec.append=x", "root=bootc-live:nfs://x")
    for argv in (("kargs",), ("boot", "--sysroot", "/nowhere", "--cmdline")):
        told = program.run(*argv, " ".join(wrong)).error(*wrong)
        assert "did you mean 'bootc.live.etc.rw'" in told
        assert "add bootc.kexec" in told


def test_no_root(program: Program) -> None:
    program.run("boot", "--cmdline", "root=/dev/sda1 rw").error("root=bootc-live:")


def test_status(program: Program, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    told = program.run("status", "--receipt", receipt).error(receipt)
    assert "not booted by bootc-live" in told
    receipt.write_text('{"image": ')
    program.run("status", "--receipt", receipt).error(receipt)
    receipt.write_text("[]")
    program.run("status", "--receipt", receipt).error(receipt)
    receipt.write_text('{"layout": "index", "warnings": ["a warning"], "bytes": {"fetched": 1048576}}')
    lines = program.run("status", "--receipt", receipt).good().stdout.splitlines()
    assert "layout    index" in lines
    assert "fetched   1.0 MiB, unpacked 0 KiB" in lines
    assert "warning   a warning" in lines
    shown = program.run("status", "--json", "--receipt", receipt).good().stdout
    assert json.loads(shown) == json.loads(receipt.read_text())


def test_errors_go_to_a_second_place(program: Program, tmp_path: Path) -> None:
    also = tmp_path / "console"
    ended = program.run("boot", "--cmdline", "root=bootc-live:/nowhere", "--sysroot", tmp_path, "--errors-to", also)
    ended.error("/nowhere")
    assert also.read_text().splitlines() == ended.stderr.splitlines()[-2:]


def test_output_to_a_closed_pipe(zipapp: Path) -> None:
    """As in `bootc-live kargs | head -1`: no traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(zipapp), "kargs"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
