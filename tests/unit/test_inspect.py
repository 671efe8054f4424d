"""What `inspect --contents` tells of images: the kernel, and whether a machine can boot from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bootc_live.__main__ import main
from tests.lib.boot_images import BASE, VERSION, boot_image, initramfs, kernel_layer
from tests.lib.oci_writer import write_archive
from tests.lib.small_image import small_image

CASES = {
    "bootable": (boot_image(), VERSION, True, "yes: the image's initramfs contains bootc-live"),
    "only archives": (boot_image(kernel_layer(initramfs(BASE))), VERSION, True, "yes: "),
    "another initramfs": (boot_image(kernel_layer(initramfs("init"))), VERSION, False, "does not contain bootc-live"),
    "no initramfs": (boot_image(kernel_layer(None)), VERSION, False, "no initramfs beside the kernel"),
    "not readable": (boot_image(kernel_layer(b"no archive")), VERSION, None, "unknown: the initramfs cannot be read"),
    "no kernel": (small_image(), None, False, "has no kernel"),
    "two kernels": (boot_image(kernel_layer(), kernel_layer(version="7")), None, False, "2 kernels"),
    "damaged arguments": (boot_image(kernel_layer(kargs="kargs = 1")), None, False, "10-test.toml"),
}


@pytest.mark.parametrize(("image", "kernel", "bootable", "verdict"), CASES.values(), ids=CASES)
def test_contents(
    image: object,
    kernel: str | None,
    bootable: bool | None,
    verdict: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source = str(write_archive(tmp_path / "image.oci", image))  # type: ignore[arg-type]
    assert main(["inspect", "--contents", source]) == 0
    said = capfd.readouterr().out
    assert f"kernel    {kernel or 'none'}\n" in said
    assert verdict in next(line for line in said.splitlines() if line.startswith("bootable  "))
    assert main(["inspect", "--contents", "--json", source]) == 0
    boot = json.loads(capfd.readouterr().out)["boot"]
    assert (boot["kernel"], boot["bootable"], boot["problem"] is None) == (kernel, bootable, bootable is True)
    assert main(["inspect", source]) == 0
    said = capfd.readouterr().out
    assert "contents  --contents fetches" in said
