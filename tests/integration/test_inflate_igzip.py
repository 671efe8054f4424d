"""igzip gives the same as the standard library for every stream, where the root has it: the builder does."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.system.inflate import inflate
from bootc_live.system.run import find_program
from tests.unit.inflate_cases import GZIP, Stream, cut


@pytest.mark.parametrize("step", [3, 1 << 20])
@pytest.mark.parametrize("stream", GZIP, ids=lambda stream: stream.name)
def test_gzip_by_igzip(stream: Stream, step: int) -> None:
    assert find_program("igzip")
    if step < 10 and len(stream.data) > 20_000:
        step = 1000
    if stream.plain is None:
        with pytest.raises(ImageError, match=r"^it is damaged: igzip (exited with|was ended)"):
            list(inflate(cut(stream.data, step)))
    else:
        assert b"".join(inflate(cut(stream.data, step))) == stream.plain
