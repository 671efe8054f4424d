"""What the shell of the initramfs reads of kernel arguments, compared with Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bootc_live.config.cmdline.karg import Kind
from bootc_live.config.cmdline.values import BOOLEAN_WORDS, parse_value
from bootc_live.config.source_spec import DeploymentRoot, DeviceArchive, is_remote, parse_root

HOOKS = "modules.d/50bootc-live"
# In place of dracut's: the first argument of the script is the value.
GETARG = 'getarg() { printf "%s\\n" "$value"; }; getargs() { :; }; value=$1; set -- x'
SOURCES = (
    "/root.oci",
    "/images/LABEL=USB:/root.oci",
    "/device/x:/y",
    "/dev/sda1:/root.oci",
    "/dev/disk/by-path/pci-0:1:/root.oci",
    "/dev/shm/root.oci",
    "/dev/fd/3",
    "/dev/stdin",
    *(f"{tag}=x:/root.oci" for tag in ("LABEL", "UUID", "PARTLABEL", "PARTUUID")),
    f"deployment:UUID=x:1@{'0' * 64}",
    "docker://registry.example/os:stable",
    *(f"{scheme}://host.example/root.oci" for scheme in ("http", "HTTPS", "ftp", "tftp", "nfs", "torrent")),
    "nfs:host.example:/root.oci",
    "NFS4:host.example:/root.oci",
)
WORDS = (*BOOLEAN_WORDS.replace("/", "").split(), "", "maybe", "none", "2", "offf")


def shell(repo: Path, script: str, value: str) -> subprocess.CompletedProcess[str]:
    argv = ["sh", "-c", f"{GETARG}; {script}", "sh", value]
    return subprocess.run(argv, cwd=repo / HOOKS, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", SOURCES)
def test_needs_of_a_source(source: str, repo: Path) -> None:
    spec = parse_root(source)
    remote = not isinstance(spec, DeploymentRoot) and is_remote(spec)
    need = "network" if remote else "device" if isinstance(spec, DeploymentRoot | DeviceArchive) else "nothing"
    done = shell(repo, ". ./bootc-live-lib.sh; bootc_live_sources", f"bootc-live:{source}")
    assert done.stdout == f"{need} {source}\n"


@pytest.mark.parametrize("word", [*WORDS, *(word.upper() for word in WORDS), *(word.title() for word in WORDS)])
def test_booleans(word: str, repo: Path) -> None:
    try:
        # dracut's getarg prints nothing for an argument without a value.
        wanted = 0 if parse_value(Kind.BOOLEAN, word or None) else 1
    except ValueError:
        wanted = 2
    assert shell(repo, ". ./is-on.sh", word).returncode == wanted
