"""Images that ostree made of its commits: what only the repository inside them has is not lost, in any layout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.lib.booted import booted
from tests.lib.program import Program
from tests.lib.small_image import BASE, CAPABILITY, UPPER, archive_of
from tests.lib.tar_writer import file, hardlink, layer

LAYOUTS = (
    "bootc.live.layout=index",
    "bootc.live.layout=tree",
    "bootc.live.layout=erofs",
    "bootc.live.layout=erofs bootc.live.compress=lz4",
)


@pytest.mark.parametrize("kargs", LAYOUTS)
def test_attributes_of_ostree_s_repository(kargs: str, program: Program, tmp_path: Path) -> None:
    """They are objects beside the files' (bare-split-xattrs): a GVariant, which is short here."""
    objects, name = "sysroot/ostree/repo/objects/aa", b"security.capability\0"
    pair = name + CAPABILITY + bytes([len(name)])
    content = layer(
        file(f"{objects}/1.file", "x", mode=0o755),
        file(f"{objects}/1.file-xattrs-link", pair + bytes([len(pair)])),
        hardlink("usr/bin/capable", f"{objects}/1.file"),
    )
    image = archive_of(tmp_path / "image.oci", BASE, UPPER, content)
    with booted(program, f"root=bootc-live:{image} {kargs}", tmp_path) as made:
        assert os.getxattr(made.root / "usr/bin/capable", "security.capability") == CAPABILITY
        assert os.listdir(made.root / "sysroot/ostree/repo/objects") == []
