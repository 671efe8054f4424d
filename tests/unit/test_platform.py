"""Which image of an index runs on which machine."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from bootc_live.formats.oci.descriptor import REF_NAME, Descriptor, Platform
from bootc_live.formats.oci.platform import MisfitError, candidates, check, machine_platform


def index(*names: str) -> list[Descriptor]:
    """Entries for platforms such as `linux/arm/v7`; an empty name has no platform. The size numbers them."""
    platforms = [Platform(*name.split("/")) if name else None for name in names]
    return [Descriptor("", "sha256:" + "0" * 64, size, platform) for size, platform in enumerate(platforms)]


MANY = index("linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", "linux/386", "windows/amd64")


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("x86_64", "linux/amd64"),
        ("aarch64", "linux/arm64/v8"),
        ("armv7l", "linux/arm/v7"),
        ("armv6l", "linux/arm/v6"),
        ("i686", "linux/386"),
        ("riscv64", "linux/riscv64"),
        ("ppc64le", "linux/ppc64le"),
        ("s390x", "linux/s390x"),
        ("loongarch64", "linux/loong64"),
        ("e2k", "linux/e2k"),
    ],
)
def test_machine(machine: str, name: str) -> None:
    assert str(machine_platform(machine)) == name


def test_this_machine() -> None:
    assert machine_platform() == machine_platform(os.uname().machine)


@pytest.mark.parametrize(
    ("machine", "chosen"), [("x86_64", 0), ("aarch64", 1), ("armv6l", 2), ("armv7l", 3), ("i686", 4)]
)
def test_choice(machine: str, chosen: int) -> None:
    assert candidates(MANY, machine_platform(machine))[0].size == chosen


@pytest.mark.parametrize(
    ("names", "machine", "chosen"),
    [
        (("linux/arm64",), "aarch64", 0),
        (("linux/amd64", "linux/arm64"), "aarch64", 1),
        (("linux/amd64/v3", "linux/amd64"), "x86_64", 1),
        (("linux/amd64/v2",), "x86_64", 0),
        (("linux/arm/v5", "linux/arm/v7"), "armv7l", 1),
        (("linux/arm/v5",), "armv7l", 0),
        (("windows/amd64", "linux/amd64"), "x86_64", 1),
        (("/amd64",), "x86_64", 0),
        (("linux/",), "x86_64", 0),
        (("",), "x86_64", 0),
        (("", "linux/amd64"), "x86_64", 1),
        (("linux/s390x", ""), "x86_64", 1),
        (("linux/amd64", "linux/amd64"), "x86_64", 0),
    ],
)
def test_variants(names: tuple[str, ...], machine: str, chosen: int) -> None:
    assert candidates(index(*names), machine_platform(machine))[0].size == chosen


@pytest.mark.parametrize(
    ("names", "have"),
    [
        (("linux/arm64/v8", "linux/386", "windows/amd64"), "linux/386, linux/arm64/v8, windows/amd64"),
        (("unknown/unknown",), "unknown/unknown"),
        ((), "nothing"),
    ],
)
def test_foreign_platforms_list_what_there_is(names: tuple[str, ...], have: str) -> None:
    with pytest.raises(MisfitError) as caught:
        candidates(index(*names), machine_platform("x86_64"))
    assert caught.value.message == f"it is not made for linux/amd64; its index has: {have}"
    assert caught.value.hint


def test_attestations_are_not_images() -> None:
    """Buildx puts manifests for unknown/unknown beside the real ones."""
    found = candidates(index("unknown/unknown", "linux/amd64", "unknown/unknown"), machine_platform("x86_64"))
    assert [entry.size for entry in found] == [1]


COSIGN = "dev.cosignproject.cosign"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("artifact", "more"),
    [
        (True, {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}),
        (True, {"annotations": {"kind": f"{COSIGN}/sigs"}}),
        (True, {"annotations": {"kind": f"{COSIGN}/atts"}}),
        (False, {"annotations": {"kind": f"{COSIGN}/image"}}),
        (False, {"annotations": {"kind": f"{COSIGN}/imageIndex"}}),
        (False, {"annotations": {"kind": "server"}}),
        (True, {"annotations": {REF_NAME: f"sha256-{'ab' * 32}.sig"}}),
        (True, {"annotations": {REF_NAME: f"a.example/os:sha256-{'ab' * 32}"}}),
        (False, {"annotations": {REF_NAME: "sha256-abc"}}),
        (True, {"artifact_type": "application/vnd.example.sbom+json"}),
        (False, {"artifact_type": "application/vnd.oci.image.config.v1+json"}),
        (True, {"media_type": "application/vnd.oci.artifact.manifest.v1+json"}),
        (True, {"media_type": "application/vnd.docker.distribution.manifest.v1+json"}),
        (False, {"media_type": MANIFEST}),
        (False, {"media_type": "application/json"}),
        (False, {}),
    ],
)
def test_artifacts_are_passed_over(artifact: bool, more: Any) -> None:
    entry = replace(index("")[0], **more)
    assert entry.is_artifact is artifact
    other = index("", "linux/s390x")[1]
    assert (candidates([entry, *index("")], machine_platform("x86_64"))[0] is entry) is not artifact
    if artifact:
        with pytest.raises(MisfitError, match="has: linux/s390x"):
            candidates([entry, other], machine_platform("x86_64"))


@pytest.mark.parametrize(
    ("machine", "os", "architecture", "variant"),
    [
        *[
            ("x86_64", "linux", name, "")
            for name in ("x86_64", "X86_64", "AMD64", "x86-64", "x64", "amd64 ", "amd64/v1")
        ],
        ("x86_64", "Linux", "amd64", "v1"),
        ("x86_64", "", "Amd64", ""),
        *[("aarch64", "linux", name, "") for name in ("arm64/v8", "aarch64", "ARM64", "AArch64", "arm64v8")],
        *[("aarch64", "linux", "arm64", variant) for variant in ("", "v8", "8", "V8")],
        *[("armv7l", "linux", name, "") for name in ("armhf", "armv7l", "armv7", "arm/v7", "arm", "ARM/V6", "armel")],
        ("armv7l", "linux", "arm", "7"),
        *[("i686", "linux", name, "") for name in ("i386", "i586", "x86", "386")],
        ("ppc64le", "linux", "ppc64el", ""),
        ("loongarch64", "linux", "loongarch64", ""),
        ("s390x", "linux", "S390X", ""),
    ],
)
def test_spellings(machine: str, os: str, architecture: str, variant: str) -> None:
    """In an index and in a config."""
    wanted, found = machine_platform(machine), Platform(os, architecture, variant)
    check(found, wanted)
    foreign, *_, entry = index("linux/mips64le", "linux/mips")
    entry = replace(entry, platform=found)
    assert candidates([foreign, entry], wanted) == [entry]


@pytest.mark.parametrize(
    ("machine", "architecture", "variant"),
    [
        ("armv6l", "armhf", ""),
        ("armv6l", "arm", "7"),
        ("x86_64", "arm64/v8", ""),
        ("aarch64", "armv7l", ""),
        ("x86_64", "i386", ""),
        ("ppc64le", "ppc64", ""),
        ("x86_64", "amd64p32", ""),
        ("x86_64", "\u212aMD64", ""),
    ],
)
def test_spellings_of_others(machine: str, architecture: str, variant: str) -> None:
    with pytest.raises(MisfitError):
        check(Platform("linux", architecture, variant), machine_platform(machine))


def test_the_pinned_one_is_the_only_one() -> None:
    """Also where it is for another machine: that is said then."""
    first, second, third = (
        replace(entry, digest="sha256:" + f"{number}" * 64)
        for number, entry in enumerate(index("linux/amd64", "linux/s390x", ""))
    )
    found = candidates([first, second, third], machine_platform("x86_64"), second.digest)
    assert found == [second]
    assert candidates([first, second, third], machine_platform("x86_64"), "sha256:x") == [first, third]


@pytest.mark.parametrize("found", ["linux/amd64", "linux/amd64/v3", "linux/", "/amd64", "/"])
def test_config_for_this_machine(found: str) -> None:
    check(Platform(*found.split("/")), machine_platform("x86_64"))


@pytest.mark.parametrize("found", ["linux/arm64", "windows/amd64", "linux/386"])
def test_config_for_another_machine(found: str) -> None:
    with pytest.raises(MisfitError, match=f"it is made for {found}, this machine is linux/amd64"):
        check(Platform(*found.split("/")), machine_platform("x86_64"))
