"""Small images that a boot loader can take a kernel and an initramfs of; neither of them would run."""

from __future__ import annotations

import gzip
import random
from typing import Final

from bootc_live.formats.cpio import directories, header, padding, trailer
from tests.lib.oci_writer import Image, Layer
from tests.lib.small_image import HERE
from tests.lib.tar_writer import directory, file, layer

VERSION: Final = "6.12.1-test"
KERNEL: Final = b"no kernel of anybody " + random.Random(5).randbytes(300_000)
# What tells that our dracut modules are there: the base, and the network.
BASE: Final = "usr/lib/bootc-live/bootc-live.pyz"
NETWORK: Final = "usr/lib/bootc-live/fetch-url"
FEATURES: Final = "usr/lib/bootc-live/features"
ALL: Final = (BASE, NETWORK, f"usr/lib/modules/{VERSION}/modules.dep")


def initramfs(*names: str, plain: bool = False, features: tuple[str, ...] = ()) -> bytes:
    """A cpio archive with files of these names, compressed with gzip unless it is to be `plain`.

    With `features`, it says what bootc-live was packed for.
    """
    contents = {name: f"{name}\n".encode() for name in names}
    if features:
        contents[FEATURES] = "".join(f"{feature}\n" for feature in features).encode()
    above = [header(name, 0o40755, 0, number) for number, name in enumerate(directories(contents), 1)]
    files = [
        header(name, 0o100644, len(content), number) + content + padding(len(content))
        for number, (name, content) in enumerate(contents.items(), len(above) + 1)
    ]
    packed = b"".join([*above, *files, trailer()])
    # As cpio(1) does.
    packed += bytes(-len(packed) % 512)
    return packed if plain else gzip.compress(packed, 1, mtime=0)


INITRAMFS: Final = initramfs(*ALL)


def kernel_layer(
    initrd: bytes | None = INITRAMFS, kargs: str = "", version: str = VERSION, kernel: bytes = KERNEL
) -> bytes:
    """A layer with a kernel as bootc wants it; `kargs` is the content of a file of kargs.d."""
    modules = f"usr/lib/modules/{version}/"
    members = [directory("usr/"), directory("usr/lib/"), directory("usr/lib/modules/"), directory(modules)]
    members += [file(f"{modules}vmlinuz", kernel), file(f"{modules}modules.dep", "")]
    members += [] if initrd is None else [file(f"{modules}initramfs.img", initrd, mode=0o600)]
    if kargs:
        members += [directory("usr/lib/bootc/"), directory("usr/lib/bootc/kargs.d/")]
        members += [file("usr/lib/bootc/kargs.d/10-test.toml", kargs)]
    return layer(*members)


def boot_image(*tars: bytes) -> Image:
    """An image of these layers, and one in front that nobody who boots it has to read."""
    noise = layer(file("usr/share-noise", random.Random(6).randbytes(500_000)))
    return Image([Layer(tar) for tar in (noise, *(tars or (kernel_layer(),)))], architecture=HERE)
