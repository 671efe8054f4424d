"""The erofs layout: the self-contained image shows what umoci unpacks, whatever it is compressed with."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.base.errors import BootcLiveError
from bootc_live.config.model import Compression
from tests.integration.corpus import CASES
from tests.integration.corpus.case import Case
from tests.integration.corpus.oracle import ask_umoci, without_new_times
from tests.integration.corpus.verbs import for_layouts
from tests.integration.test_tree_corpus import image, wanted
from tests.lib.building import Building
from tests.lib.erofs_images import at_the_epoch, mounted, read_by_erofs_utils
from tests.lib.oci_writer import write_archive
from tests.lib.tree_list import differences, tree_list


# Each compression in turn: these trees are small, and the real image has its turn with all of them.
@pytest.mark.parametrize(("case", "compression"), for_layouts(CASES, list(Compression)))
def test_tree_equals_umoci(case: Case, compression: Compression, tmp_path: Path) -> None:
    building = Building(tmp_path, compression, keep_times=compression is not Compression.LZ4)
    archive = write_archive(tmp_path / "image.oci", image(case.layers))
    if case.refused:
        with pytest.raises(BootcLiveError):
            building.make(archive)
        assert not building.image.exists()
        return
    building.make(archive)
    want = wanted(case, ask_umoci(image(case.layers)))
    with mounted(building.image, tmp_path / "root") as root:
        got = tree_list(root)
        if building.keep_times:
            want, got = without_new_times(want, got)
        else:
            want = at_the_epoch(want)
        assert not differences(want, got)
    read_by_erofs_utils(building.image)
