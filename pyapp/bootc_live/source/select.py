"""From a source spec to an open source."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bootc_live.base.errors import SourceError
from bootc_live.config.source_spec import ArchiveFile, SourceSpec
from bootc_live.source.archive import open_archive
from bootc_live.source.interface import Source


@contextmanager
def open_source(
    spec: SourceSpec, *, label: str | None, unsecure: bool, tell: Callable[[str], None]
) -> Iterator[Source]:
    """Open the source a spec names; it is closed with the block. Raises SourceError.

    ``tell`` hears of transfers that are tried again.
    """
    if isinstance(spec, ArchiveFile):
        with open_archive(spec.path, spec.typed, label) as archive:
            yield archive
        return
    # Late, because the network libraries take longer to import than an archive to open.
    try:
        from bootc_live.source.registry import open_registry
    except ImportError as error:
        raise SourceError(
            f"cannot fetch {spec.typed!r}: this initramfs was built without registry support ({error})",
            hint="build it again with the dracut module bootc-live-registry",
        ) from error

    with open_registry(spec.reference, spec.typed, unsecure=unsecure, tell=tell) as registry:
        yield registry
