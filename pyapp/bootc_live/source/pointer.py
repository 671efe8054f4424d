"""Follow a pointer to the archive that it names.

The archive is always beside the pointer: it has no more rights than the pointer to say what a machine runs, and a login
or a query of the URL goes to the same server.
"""

from __future__ import annotations

from bootc_live.base.errors import SourceError, about
from bootc_live.config.source_spec import FixedSpec, SourceSpec, WebArchive, WebPointer
from bootc_live.formats.pointer import LARGEST, Pointer, archive_name, parse_pointer
from bootc_live.source.access import Access
from bootc_live.source.requiring import requiring


def followed(spec: SourceSpec, access: Access) -> tuple[FixedSpec, Pointer | None]:
    """Return the archive that a pointer names now, and what the pointer says; other sources as they are.

    Raise SourceError.
    """
    if not isinstance(spec, WebPointer):
        return spec, None
    with requiring("bootc-live-net", spec.source_text):
        # A late import, as in ``open_source``.
        from bootc_live.source.http.pointer import beside, fetch_pointer
    content = fetch_pointer(spec, access, LARGEST)
    with about(f"the pointer {spec.source_text!r}"):
        try:
            pointer = parse_pointer(content)
        except ValueError as error:
            raise SourceError(str(error), hint="publish the image again with: bootc-live publish") from error
    return WebArchive(beside(spec.url, pointer.file), spec.source_text), pointer


def archive_of(spec: SourceSpec, digest: str) -> SourceSpec:
    """Return the archive that was published beside a pointer for an image with a digest; other sources as they are.

    Raise SourceError.
    """
    if not isinstance(spec, WebPointer):
        return spec
    with requiring("bootc-live-net", spec.source_text):
        from bootc_live.source.http.pointer import beside
    return WebArchive(beside(spec.url, archive_name(digest)), spec.source_text)
