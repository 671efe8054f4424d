"""The index layout: EROFS metadata that points into the layers' own tar streams.

Nothing is unpacked: the inflated layer is the data, and its digest has been
checked already. The merged tree is worked out in memory and written as EROFS
inodes and directories in front of the layers, in the same sparse file; one loop
device makes a block device of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from bootc_live.base.errors import RootfsError
from bootc_live.config.model import Layout
from bootc_live.image.space import full, no_space
from bootc_live.image.store import META
from bootc_live.image.verified import VerifiedImage
from bootc_live.rootfs.built import BuiltRoot, Finishing, mounted_image, unchanged
from bootc_live.rootfs.erofs_format import BLOCK
from bootc_live.rootfs.index_metadata import write_metadata
from bootc_live.rootfs.layers import Warn, merge, unsaid
from bootc_live.rootfs.read_ahead import ReadAhead
from bootc_live.rootfs.tree import walk
from bootc_live.rootfs.tree_data import Data, span

_PAGE = 4096


@dataclass(frozen=True)
class IndexImage:
    """A file that is an EROFS image of the whole root; ``metadata`` is how many bytes it added."""

    path: str
    metadata: int


def build_index(
    image: VerifiedImage, finishing: Finishing = unchanged, ahead: ReadAhead | None = None, warn: Warn = unsaid
) -> IndexImage:
    """Turn the data file of a verified image into an EROFS image, in place; ``finishing`` may change the merged tree.

    ``warn`` is told what Linux cannot have. Raises ImageError for layers that make no sense, RootfsError for what EROFS
    cannot hold, OutOfMemoryError where the file system is full.
    """
    root = merge(image, ahead, warn)
    finishing(root, image)
    fd = os.open(image.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # What upper layers hide, and what stands between files, is nobody's.
        Data(fd).drop_garbage(sorted(span(node) for node in walk(root) if node.kind == "file"))
        # The loop device ends at whole sectors; a tar from some tools does not.
        os.ftruncate(fd, -(-os.fstat(fd).st_size // _PAGE) * _PAGE)
        metadata = write_metadata(root, fd, META, image.size)
    except ValueError as error:
        raise RootfsError(
            f"{image.resolved.typed!r} cannot be made into a root: {error}",
            hint="build the image anew",
        ) from error
    except OSError as error:
        if not no_space(error):
            raise
        raise full(fd, f"the file system's metadata of {image.resolved.typed!r}") from error
    finally:
        os.close(fd)
    return IndexImage(image.path, metadata)


def index_root(
    image: VerifiedImage, finishing: Finishing = unchanged, ahead: ReadAhead | None = None, warn: Warn = unsaid
) -> BuiltRoot:
    """Build an index, as the layout that it is; raises as ``build_index``."""
    made = build_index(image, finishing, ahead, warn)
    return BuiltRoot(Layout.INDEX, partial(mounted_index, made), made.metadata, made.metadata + image.size)


@contextmanager
def mounted_index(image: IndexImage, where: str, options: str = "") -> Iterator[str]:
    """Mount an index image read-only, with suid and dev; gives ``where``.

    The mount ends with the block. Raises RunError.
    """
    with mounted_image(image.path, BLOCK, where, options):
        yield where
