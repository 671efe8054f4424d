"""libisal gives the same as zlib for every stream; the builder root has it."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ImageError
from bootc_live.system.inflate.gzip import _library
from bootc_live.system.inflate.streams import inflate
from tests.unit.inflate_cases import GZIP, Stream, cut, in_two_pieces


@pytest.mark.parametrize("step", [3, 1 << 20])
@pytest.mark.parametrize("stream", GZIP, ids=lambda stream: stream.name)
def test_gzip_by_libisal(stream: Stream, step: int) -> None:
    assert _library() is not None
    if step < 10 and len(stream.data) > 20_000:
        step = 1000
    if stream.plain is None:
        with pytest.raises(ImageError, match=r"^it is damaged: "):
            list(inflate(cut(stream.data, step)))
    else:
        assert b"".join(inflate(cut(stream.data, step))) == stream.plain


@pytest.mark.parametrize("flags", range(32))
def test_headers_in_two_pieces(flags: int) -> None:
    assert _library() is not None
    assert set(in_two_pieces(flags)) == {b"onetwo"}
