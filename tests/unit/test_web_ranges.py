"""Web servers that make something odd of ranges: an archive comes all the same, for the whole can always be had."""

from __future__ import annotations

import gzip
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lib.acquiring import acquired, contents
from tests.lib.archive_members import oci_members, tar_of
from tests.lib.archive_servers import Answer, Asked, Reply, Stored, archive_server, cut_at
from tests.lib.oci_writer import Image, Layer
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

NOISE = random.Random(5)
TARS = [layer(file(name, NOISE.randbytes(size))) for name, size in (("a", 700_000), ("b", 300_000), ("c", 900))]
PLAIN = tar_of(oci_members(Image([Layer(tar, "none") for tar in TARS], architecture=HERE)))
GZIP = gzip.compress(PLAIN, 1)


def broken_ranges(what: str, spared: int, content: bytes = PLAIN) -> Answer:
    """A server that answers each range after the first so many in an odd way; the whole can always be had."""

    def answer(asked: Asked) -> Reply:
        reply = Stored(content, etag=None)(asked)
        if asked.span is None or asked.number < spared:
            return reply
        start, size = asked.span[0], len(content)
        aligned = start // 65_536 * 65_536
        odd = {
            "400": Reply(400),
            "416": Reply(416, headers={"Content-Range": f"bytes */{size}"}),
            "501": Reply(501),
            "412": Reply(412),
            "500": Reply(500),
            "the whole": Stored(content, ranges=False)(asked),
            "aligned": Reply(206, content[aligned:], {"Content-Range": f"bytes {aligned}-{size - 1}/{size}"}),
            "other case": reply.having(Content_Range=reply.headers["Content-Range"].replace("bytes ", "Bytes=")),
            "later": Reply(206, content[start + 9 :], {"Content-Range": f"bytes {start + 9}-{size - 1}/{size}"}),
            "earlier": Reply(206, content[:17], {"Content-Range": f"bytes 0-16/{size}"}) if start > 17 else reply,
            "wrong": reply.having(Content_Range=f"bytes 17-{size - 1}/{size}"),
            "other unit": reply.having(Content_Range=f"pages {start}-{size - 1}/{size}"),
            "no header": replace(reply, headers={}),
            "many digits": reply.having(Content_Range=f"bytes {'9' * 5000}-{'9' * 5000}/{size}"),
            "empty": replace(reply, body=b"", headers={"Content-Range": f"bytes {start}-{start}/{size}"}),
        }
        return odd[what]

    return answer


ODD_RANGES = (
    *("400", "416", "501", "412", "500", "the whole", "aligned", "other case"),
    *("later", "earlier", "wrong", "other unit", "no header", "many digits", "empty"),
)


@pytest.mark.parametrize(
    ("what", "spared"),
    [*[(what, spared) for what in ODD_RANGES for spared in (0, 3)], ("416", 1), ("500", 1), ("the whole", 1)],
)
def test_ranges_are_never_the_reason_to_fail(what: str, spared: int, tmp_path: Path) -> None:
    with archive_server(broken_ranges(what, spared)) as served:
        assert contents(acquired(tmp_path / "data", served.url())) == TARS
    # Where it is plain from the beginning that there are none, headers are not looked for one by one.
    assert served.sent <= (4 if spared < 3 else 16) * len(PLAIN)


@pytest.mark.parametrize("what", ODD_RANGES)
def test_a_stream_that_breaks_off(what: str, tmp_path: Path) -> None:
    """What has come already is passed over where the rest alone is not to be had."""
    with archive_server(cut_at(broken_ranges(what, 1, GZIP), 400_000, 2)) as served:
        assert contents(acquired(tmp_path / "data", served.url())) == TARS
