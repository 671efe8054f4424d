"""The policy that labels come from is a file of the image, and that may be anything."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import RootfsError
from bootc_live.base.log import Recorder
from bootc_live.rootfs.tree.labels import label_tree
from bootc_live.rootfs.tree.node import Node, new_directory, resolve, split


def test_a_policy_too_large_to_read_is_refused() -> None:
    root = new_directory()
    resolve(root, split(b"etc/selinux"), 0).directory[b"config"] = Node("file", size=2**40)

    def read(_node: Node) -> bytes:
        raise AssertionError("it was read")

    with pytest.raises(RootfsError, match="SELinux policy of 'it' has a file of"):
        label_tree(root, read, None, "it", Recorder(quiet=True))
    assert not label_tree(root, read, False, "it", Recorder(quiet=True))
