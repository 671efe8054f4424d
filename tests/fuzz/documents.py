"""JSON documents of registries, archives and login files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from unittest.mock import patch

from bootc_live.base.errors import BootcLiveError
from bootc_live.config.host.logins import Logins, parse_logins
from bootc_live.formats.json_text import read_json
from bootc_live.formats.oci.descriptor import FIELDS, Descriptor, Platform
from bootc_live.formats.oci.manifest import (
    MOST_LAYERS,
    is_artifact,
    is_index,
    parse_config,
    parse_index,
    parse_manifest,
)
from bootc_live.formats.oci.platform import candidates, check
from bootc_live.image import resolve, verified
from bootc_live.image.resolve import Wanted, resolve_image
from bootc_live.source.archive.docker import docker_image
from bootc_live.source.archive.files import MemoryFiles
from bootc_live.source.archive.layout import LayoutSource, blob_name
from bootc_live.source.interface import TopManifest

_HERE: Final = Platform("linux", "amd64")
_DIGEST: Final = "sha256:" + "a" * 64
_TYPES: Final = (
    "",
    "application/json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# Documents of an index, and the config of each.
_MOST_OPENED: Final = 64
_REFUSED: Final = "refused"


@dataclass(frozen=True)
class _Parts:
    """A source whose documents are parts of the input; the last digit of a digest chooses one."""

    parts: list[bytes]
    opened: list[str]
    source_text: str = "it"
    insecure: bool = False

    def top(self) -> TopManifest:
        return TopManifest(self.parts[0], "", None)

    @contextmanager
    def open_manifest(self, descriptor: Descriptor) -> Iterator[Iterator[bytes]]:
        self.opened.append(descriptor.digest)
        yield iter([self.parts[int(descriptor.digest[-1], 16) % len(self.parts)]])

    open_blob = open_manifest

    def served_by(self, _descriptor: Descriptor) -> str | None:
        return None

    def interrupt(self) -> None:
        """Do nothing: it does not wait."""


def documents(data: bytes) -> None:
    """Read the first of several documents, between NULs, as each of the kinds that there are; then what it leads to."""
    parts = data.split(b"\0")
    _one(parts[0])
    _all(parts)


def _all(parts: list[bytes]) -> None:
    source = _Parts(parts, [])
    # Digests cannot be guessed.
    with (
        patch.multiple(resolve, verified=lambda chunks, *_: chunks, check_content=lambda *_: None),
        patch.object(verified, "check_content", lambda *_: None),
    ):
        try:
            image = resolve_image(source, Wanted(_HERE))
        except BootcLiveError:
            image = None
    assert len(source.opened) == len(set(source.opened)) <= _MOST_OPENED
    if image is not None:
        assert 0 < len(image.manifest.layers) == len(image.config.diff_ids) <= MOST_LAYERS
        check(image.config.platform, _HERE)


def _one(data: bytes) -> None:
    read: list[Callable[[bytes], object]] = [
        parse_manifest,
        parse_index,
        lambda content: candidates(parse_index(content), _HERE),
        is_artifact,
        lambda content: check(parse_config(content, 1).platform, _HERE),
        lambda content: parse_config(content, 2),
        lambda content: docker_image("it", content, None),
        lambda content: docker_image("it", content, "os"),
        lambda content: _top(content, None),
        lambda content: _top(content, "os"),
        _login,
        *(lambda content, kind=kind: is_index(content, kind) for kind in _TYPES),
    ]
    outcomes = [_outcome(reader, data) for reader in read]
    kinds = outcomes[-len(_TYPES) :]
    manifest, index = (outcome != _REFUSED for outcome in outcomes[:2])
    assert not (manifest and index and set(kinds) != {_REFUSED}), "two readings of one document"
    assert set(kinds) == {_REFUSED} or _is_plain(data), "programs differ in what they read in this"
    again = _rewritten(data)
    if again is not None:
        assert [_outcome(reader, again) for reader in read] == outcomes, "blanks and escapes change what it says"


def _top(content: bytes, label: str | None) -> object:
    """Look into the index of a layout that has one blob."""
    files = MemoryFiles({"index.json": content, blob_name(_DIGEST): b"{}"})
    return LayoutSource(files, "it", label).top()


def _login(content: bytes) -> object:
    """Look for the login of one image, as it is and as it is shown."""
    file = parse_logins(content, "it")
    logins = Logins((file,))
    helper = logins.helper_for("h:5", "x/y")
    found = logins.find("h:5", "x/y")
    assert repr(found) in ("None", "Login(password, hidden)", "Login(identity token, hidden)")
    return found, helper


def _outcome(reader: Callable[[bytes], object], content: bytes) -> object:
    try:
        return reader(content)
    except BootcLiveError:
        return _REFUSED


def _is_plain(data: bytes) -> bool:
    """Tell whether Python's own reader takes it for JSON of the standard, in which no name stands twice."""
    twice: list[str] = []

    def read(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        twice.extend(name for name in names if names.count(name) > 1)
        return dict(pairs)

    found = json.loads(data, object_pairs_hook=read, parse_constant=twice.append)
    # As Go takes one for the other.
    names = [name.casefold() for name in found]
    return not twice and all(names.count(name.casefold()) < 2 for name in FIELDS)


def _rewritten(data: bytes) -> bytes | None:
    """Return the same document in other words, None where it is none or has a name twice."""
    try:
        # With any field, a name that stands twice is refused.
        return json.dumps(read_json(data, {"-"}), allow_nan=False, indent=1).encode()
    except ValueError:
        return None
