"""Read the docker-archive format (``docker save``, ``skopeo copy … docker-archive:``).

The format has no digests of layers; the diffIDs in the image config are those of the unpacked layers.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from bootc_live.base.errors import SourceError
from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.descriptor import Descriptor
from bootc_live.formats.oci.manifest import MOST_LAYERS
from bootc_live.source.archive.files import HINT, TarFiles, plain_name, read_small
from bootc_live.source.archive.labels import choose
from bootc_live.source.interface import Member

MANIFEST = "manifest.json"
# The annotation with the file of a layer (annotations.md of the OCI image specification).
TITLE = "org.opencontainers.image.title"
_FIELDS = frozenset({"Config", "Layers", "RepoTags"})


@dataclass(frozen=True)
class DockerImage:
    """The names of the files of an image in the archive, with the base layer first."""

    config: str
    layers: tuple[str, ...]
    tags: frozenset[str]


def docker_image(source_text: str, content: bytes, label: str | None) -> DockerImage:
    """Return the image with a label from a manifest.json; raise SourceError."""
    try:
        entries = [
            DockerImage(
                config=plain_name(str(entry["Config"])),
                layers=tuple(plain_name(str(name)) for name in entry["Layers"]),
                tags=frozenset(str(tag) for tag in entry.get("RepoTags") or ()),
            )
            for entry in read_json(content, _FIELDS)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{source_text!r} has a damaged {MANIFEST}: {error!r}", hint=HINT) from error
    found = choose(source_text, entries, lambda entry: set(entry.tags), label)
    if len(set(found)) > 1:
        named = "with the same names" if found[0].tags else "without names"
        raise SourceError(f"{source_text!r} contains {len(found)} images {named}", hint=HINT)
    if len(found[0].layers) > MOST_LAYERS:
        raise SourceError(
            f"the image of {source_text!r} has {len(found[0].layers)} layers, more than {MOST_LAYERS}",
            hint="build the image with fewer layers, or squash it",
        )
    return found[0]


class DockerArchive:
    """A docker-archive with random access to its members; see ``StreamSource``."""

    docker = True

    def __init__(self, files: TarFiles, source_text: str, label: str | None, *, insecure: bool) -> None:
        """Select the image with a label."""
        self.source_text = source_text
        self.label = label
        self.insecure = insecure
        self._files = files

    def size_of(self, name: str) -> int | None:
        """Return a member's size in bytes, or None."""
        return self._files.size(name)

    @contextmanager
    def members(self) -> Iterator[Iterator[Member]]:
        """Return manifest.json, the config, and the layers of the image that the label names."""
        yield self._members()

    def _members(self) -> Iterator[Member]:
        content = read_small(self._files, MANIFEST, self.source_text)
        yield Member(MANIFEST, len(content), iter([content]))
        image = docker_image(self.source_text, content, self.label)
        for name in dict.fromkeys((image.config, *image.layers)):
            size = self._files.size(name)
            if size is None:
                raise SourceError(
                    f"{self.source_text!r} does not contain {name!r}, which its {MANIFEST} names", hint=HINT
                )
            with closing(self._chunks(name)) as chunks:
                yield Member(name, size, chunks)

    def _chunks(self, name: str) -> Generator[bytes, None, None]:
        """Open a member when its first chunk is read, because it may not be needed."""
        with self._files.open(name) as chunks:
            yield from chunks

    def peek(self, descriptor: Descriptor, offset: int, length: int) -> bytes:
        """Return bytes of the layer whose annotation names its file; raise SourceError."""
        return self._files.peek(descriptor.annotations[TITLE], offset, length)

    def interrupt(self) -> None:
        """End all reading."""
        self._files.interrupt()
