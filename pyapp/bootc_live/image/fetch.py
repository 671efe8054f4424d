"""Fetch and verify an image: manifest, config, then all layers side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing
from dataclasses import InitVar, dataclass
from typing import Final, final

from bootc_live.base.errors import ImageError, RunError
from bootc_live.base.log import Progress, Recorder
from bootc_live.image.inflate import inflate
from bootc_live.image.manifest import ImageConfig, Manifest, is_index, parse_config, parse_index, parse_manifest
from bootc_live.image.platform import check, choose, machine_platform
from bootc_live.image.store import Slot, slots, write_layer
from bootc_live.image.verify import check_content, digest_of, exhaust, verified
from bootc_live.source.descriptor import Descriptor, Platform
from bootc_live.source.interface import MANIFEST_LIMIT, Source


@final
class _Seal:
    """Only this module can make one, so only this module makes verified values."""


_SEAL: Final = _Seal()


@dataclass(frozen=True)
class ResolvedImage:
    """A verified manifest and config; no layer has been fetched yet."""

    typed: str
    insecure: bool
    manifest_digest: str
    manifest: Manifest
    config: ImageConfig
    seal: InitVar[_Seal]

    @property
    def compressed_size(self) -> int:
        """Bytes of all layers as they are transferred, each digest once."""
        return sum({layer.digest: layer.size for layer in self.manifest.layers}.values())


@dataclass(frozen=True)
class VerifiedLayer:
    """A layer's tar, ``size`` bytes at ``offset`` of the data file; the content has the diffID."""

    diff_id: str
    offset: int
    size: int
    seal: InitVar[_Seal]


@dataclass(frozen=True)
class VerifiedImage:
    """An image with every byte checked; layers base first. Made by ``fetch_layers`` alone."""

    resolved: ResolvedImage
    path: str
    layers: tuple[VerifiedLayer, ...]
    seal: InitVar[_Seal]

    @property
    def size(self) -> int:
        """Bytes of all layers unpacked."""
        return sum({layer.offset: layer.size for layer in self.layers}.values())


def resolve_image(source: Source, wanted: Platform | None = None) -> ResolvedImage:
    """Fetch and verify manifest and config for a platform, by default this machine's.

    Raises SourceError and ImageError.
    """
    platform = wanted or machine_platform()
    of = f"of {source.typed!r}"
    top = source.top()
    what = f"the manifest {of}"
    if top.digest is not None:
        check_content(top.content, top.digest, top.size, what)
    content, digest = top.content, top.digest or digest_of(top.content)
    if is_index(content, top.media_type, what):
        chosen = choose(parse_index(content, f"the image index {of}"), platform, source.typed)
        digest, what = chosen.digest, f"the manifest {chosen.digest} {of}"
        content = _small(source.open_manifest(chosen), chosen, what)
        if is_index(content, chosen.media_type, what):
            raise ImageError(f"the index {of} points to another index", hint="name an image directly")
    manifest = parse_manifest(content, what)
    what = f"the image config {manifest.config.digest} {of}"
    described = _small(source.open_blob(manifest.config), manifest.config, what)
    config = parse_config(described, len(manifest.layers), what)
    check(config.platform, platform, source.typed)
    return ResolvedImage(source.typed, source.insecure, digest, manifest, config, _SEAL)


def fetch_layers(source: Source, image: ResolvedImage, path: str, recorder: Recorder) -> VerifiedImage:
    """Fetch, inflate and verify every layer into the new data file ``path``.

    Layers run side by side on all cores; one failure ends them all and removes
    the file. Raises SourceError, ImageError, RunError and OutOfMemoryError.
    """
    # A layer that stands twice is fetched once.
    keys = list(dict.fromkeys(zip(image.config.diff_ids, image.manifest.layers, strict=True)))
    places = dict(zip(keys, slots([layer.size for _, layer in keys]), strict=True))
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fetched = _fetch_all(source, image, fd, places, Progress(recorder, "fetch", image.compressed_size))
    except BaseException:
        os.unlink(path)
        raise
    finally:
        os.close(fd)
    pairs = zip(image.config.diff_ids, image.manifest.layers, strict=True)
    return VerifiedImage(image, path, tuple(fetched[pair] for pair in pairs), _SEAL)


_Key = tuple[str, Descriptor]


def _fetch_all(
    source: Source, image: ResolvedImage, fd: int, places: dict[_Key, Slot], progress: Progress
) -> dict[_Key, VerifiedLayer]:
    stop = threading.Event()

    def fetch(key: _Key, number: int) -> VerifiedLayer:
        diff_id, layer = key
        what = f"layer {number} ({layer.digest}) of {image.typed!r}"
        with source.open_blob(layer) as chunks:
            checked = verified(_counted(chunks, progress), layer, what)
            try:
                # Closed at once, not when the traceback goes: a program may be running behind it.
                with closing(inflate(checked, what)) as pieces:
                    size = write_layer(fd, places[key], pieces, diff_id, what, stop.is_set)
            except (ImageError, RunError):
                if not stop.is_set():
                    # Wrong bytes make an inflater stumble first; the digest is the better news.
                    exhaust(checked)
                raise
            exhaust(checked)
        return VerifiedLayer(diff_id, places[key].offset, size, _SEAL)

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        futures = {key: pool.submit(fetch, key, number) for number, key in enumerate(places)}
        try:
            done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            stop.set()
            source.interrupt()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return {key: future.result() for key, future in futures.items()}


def _small(opened: AbstractContextManager[Iterator[bytes]], descriptor: Descriptor, what: str) -> bytes:
    if descriptor.size > MANIFEST_LIMIT:
        raise ImageError(f"{what} has {descriptor.size} bytes, too many for a manifest", hint="check the image")
    with opened as chunks:
        return b"".join(verified(chunks, descriptor, what))


def _counted(chunks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        progress.add(len(chunk))
        yield chunk
