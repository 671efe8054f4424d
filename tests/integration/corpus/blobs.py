"""Blobs that are cut, damaged, or not what the manifest says."""

from __future__ import annotations

import gzip
import random
from dataclasses import replace

from tests.integration.corpus.attack import Attack, Outcome
from tests.lib.oci_writer import Image, Layer, compress, sha256
from tests.lib.tar_writer import directory, file, layer

EITHER = Outcome.EITHER
NOISE = random.Random(1).randbytes(200_000)
TAR = layer(directory("./"), file("a", NOISE))
GZIP, ZSTD = compress(TAR, "gzip"), compress(TAR, "zstd")
HALF = len(TAR) // 2
GOOD = Layer(TAR)
IMAGE = Image([GOOD])
NOWHERE = "sha256:" + "0" * 64


def _blob(name: str, blob: bytes, outcome: Outcome = Outcome.REFUSED, tar: bytes = TAR, **media: str) -> Attack:
    """A layer whose blob has the right digest and size, and the diffID of `tar`."""
    return Attack(name, lambda _: Image([Layer(tar, blob=blob, media_type=media.get("media_type"))]), outcome, IMAGE)


def _image(name: str, image: Image) -> Attack:
    return Attack(name, lambda _: image)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


ATTACKS = (
    _blob("gzip-cut", GZIP[:HALF]),
    _blob("gzip-without-trailer", GZIP[:-8]),
    _blob("gzip-trailer-cut", GZIP[:-3]),
    _blob("gzip-header-alone", GZIP[:10]),
    _blob("gzip-magic-alone", GZIP[:2]),
    _blob("gzip-crc-wrong", _flipped(GZIP, len(GZIP) - 6)),
    _blob("gzip-length-wrong", _flipped(GZIP, len(GZIP) - 2)),
    _blob("gzip-damaged", _flipped(GZIP, 5000)),
    _blob("gzip-second-member-cut", gzip.compress(TAR[:HALF]) + gzip.compress(TAR[HALF:])[:-100]),
    _blob("gzip-two-members", gzip.compress(TAR[:HALF]) + gzip.compress(TAR[HALF:]), Outcome.USED),
    _blob("gzip-trailing-garbage", GZIP + b"garbage" * 20, EITHER),
    _blob("gzip-trailing-zeros", GZIP + bytes(1000), EITHER),
    _blob("gzip-trailing-tar", GZIP + TAR, EITHER),
    _blob("gzip-more-than-the-diff-id", GZIP + gzip.compress(TAR)),
    _blob("zstd-cut", ZSTD[:HALF]),
    _blob("zstd-end-cut", ZSTD[:-2]),
    _blob("zstd-damaged", _flipped(ZSTD, len(ZSTD) - 3)),
    _blob("zstd-trailing-garbage", ZSTD + b"garbage" * 20),
    _blob("zstd-two-frames", compress(TAR[:HALF], "zstd") + compress(TAR[HALF:], "zstd"), EITHER),
    _blob("zstd-called-gzip", ZSTD, EITHER),
    _blob("gzip-called-zstd", GZIP, EITHER, media_type="application/vnd.oci.image.layer.v1.tar+zstd"),
    _blob("noise", NOISE, tar=NOISE),
    _blob("empty", b""),
    _blob("bzip2", b"BZh91AY&SY" + NOISE[:100]),
    _image("diff-id-wrong", Image([replace(GOOD, diff_id=NOWHERE)])),
    _image("diff-id-of-the-blob", Image([replace(GOOD, diff_id=sha256(GZIP))])),
    _image("diff-id-of-no-algorithm", Image([replace(GOOD, diff_id="md5:" + "0" * 32)])),
    _image("layer-digest-wrong", Image([replace(GOOD, digest=NOWHERE)])),
    _image("layer-digest-climbs", Image([replace(GOOD, digest="sha256:../../../../etc/passwd")])),
    _image("layer-size-too-small", Image([replace(GOOD, size=len(GZIP) - 1)])),
    _image("layer-size-too-large", Image([replace(GOOD, size=len(GZIP) + 1)])),
    _image("layer-size-negative", Image([replace(GOOD, size=-1)])),
    _image("layer-of-wine", Image([replace(GOOD, blob=NOISE, diff_id=sha256(NOISE), media_type="application/wine")])),
    _image("config-digest-wrong", replace(IMAGE, config_digest=NOWHERE)),
    _image("config-size-wrong", replace(IMAGE, config_size=5)),
    _image("config-not-json", replace(IMAGE, config=b"{")),
    _image("config-a-list", replace(IMAGE, config=b"[]")),
    _image("manifest-digest-wrong", replace(IMAGE, manifest_digest=NOWHERE)),
    _image("manifest-size-wrong", replace(IMAGE, manifest_size=5)),
    _image("diff-ids-too-few", replace(IMAGE, diff_ids=())),
    _image("diff-ids-too-many", replace(IMAGE, diff_ids=(sha256(TAR), sha256(TAR)))),
    _image("second-layer-damaged", Image([GOOD, Layer(TAR, blob=GZIP[:HALF])])),
    _image(
        "one-of-many-damaged",
        Image([*(Layer(layer(file(f"{i}", NOISE))) for i in range(20)), replace(GOOD, diff_id=NOWHERE)]),
    ),
)
