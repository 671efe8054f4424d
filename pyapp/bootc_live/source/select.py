"""Open the source that a source spec names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from bootc_live.base.errors import unexpected_as_source_error
from bootc_live.config.source_spec import (
    ArchiveFile,
    DeviceArchive,
    FixedSpec,
    HandlerArchive,
    HandoverImage,
    WebArchive,
)
from bootc_live.source.access import Access
from bootc_live.source.archive.opening import open_archive
from bootc_live.source.device import mounted_device
from bootc_live.source.handler import fetched_file
from bootc_live.source.handover import HandoverSource
from bootc_live.source.interface import AnySource
from bootc_live.source.pointer import followed
from bootc_live.source.requiring import requiring


@contextmanager
def open_source(spec: FixedSpec, access: Access, hashes: Sequence[str] = ()) -> Iterator[AnySource]:
    """Open the source a spec names; it is closed with the block.

    With ``hashes``, an archive at a URL or a path is a stream that computes these digests of the whole file.
    Raise SourceError, also for what the block raises that is no error of ours.
    """
    with unexpected_as_source_error(f"the source {spec.source_text!r}"), _opened(spec, access, hashes) as source:
        yield source


@contextmanager
def _opened(spec: FixedSpec, access: Access, hashes: Sequence[str]) -> Iterator[AnySource]:
    if isinstance(spec, ArchiveFile):
        with open_archive(spec.path, spec.source_text, access.label_of(spec.source_text), hashes=hashes) as source:
            yield source
    elif isinstance(spec, HandoverImage):
        # Opened by the main thread, which signals can interrupt.
        # The blobs of a pointer's archive are asked for by digest.
        with nullcontext() if spec.rest is None else open_source(followed(spec.rest, access)[0], access) as rest:
            yield HandoverSource(spec.path, spec.source_text, rest)
    elif isinstance(spec, DeviceArchive):
        with (
            mounted_device(spec, access.directory) as path,
            open_archive(path, spec.source_text, access.label_of(spec.source_text)) as source,
        ):
            yield source
    elif isinstance(spec, HandlerArchive):
        with (
            fetched_file(spec, access.directory, access.policy.limits) as (path, ours),
            open_archive(path, spec.source_text, access.label_of(spec.source_text), consume=ours) as source,
        ):
            yield source
    elif isinstance(spec, WebArchive):
        with requiring("bootc-live-net", spec.source_text):
            # A late import: loading the network libraries takes longer than opening an archive.
            from bootc_live.source.http.archive import open_web_archive
        with open_web_archive(spec, access, hashes) as source:
            yield source
    else:
        with requiring("bootc-live-registry", spec.source_text):
            from bootc_live.source.registry.source import open_registry
        with open_registry(spec, access) as source:
            yield source
