"""Where what is right is not what two of GNU tar, bsdtar and umoci agree on, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from tests.integration.foreign.answers import Answer

REFUSED: Final = "refused"


@dataclass(frozen=True)
class Row:
    """What is right for an archive: what one tool says, with fields of some paths changed, or a refusal; and why."""

    like: str
    why: str
    change: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def right(self, answers: Mapping[str, Answer]) -> Answer:
        """Return what is right; raises AssertionError where the row does not fit."""
        if self.like == REFUSED:
            return Answer(None, self.why)
        found = answers[self.like]
        assert found.tree is not None, f"{self.like} refuses it: {found.said}"
        assert self.change.keys() <= {line.path for line in found.tree}, "the row changes a path that is not there"
        return replace(found, tree=tuple(line.but(**self.change.get(line.path, {})) for line in found.tree))


_LONE_ZERO: Final = Row(
    REFUSED, "some stop at a lone block of zeros, some read on, and umoci refuses what is behind it"
)
_GNU_TYPE: Final = Row(REFUSED, "no layer has this: umoci refuses the type, and leaving it out changes what it says")
_GLOBAL: Final = Row("gnu", "POSIX: a global header's path counts for members; bsdtar and umoci know no global headers")
_DOTS: Final = Row(REFUSED, "'..' in a name: no writer of layers makes one, and GNU tar refuses it")

ROWS: Final[Mapping[str, Row]] = {
    "go/gnu-incremental.tar": _GNU_TYPE,
    "go/pax-global-records.tar": Row(
        "gnu",
        "POSIX: a global header takes back only what it names; bsdtar and umoci know no global headers",
        {"file3": {"mtime": "1500000000"}},
    ),
    "go/pax-nul-path.tar": Row(REFUSED, "a NUL byte in a name, at which others cut it off; umoci refuses it"),
    "go/sparse-formats.tar": Row(
        "bsdtar", "GNU tar loses its place behind an old map of 95 parts; umoci knows no maps"
    ),
    "libarchive/test_compat_plexus_archiver_tar.tar.uu": _LONE_ZERO,
    "libarchive/test_compat_solaris_tar_acl.tar.uu": Row(
        REFUSED, "access control lists of Solaris, without which more people could read the files; umoci refuses them"
    ),
    "libarchive/test_compat_star_acl_posix1e.tar.uu": Row(
        "gnu", "bsdtar makes modes of the access control lists it was told to leave out; umoci knows no global headers"
    ),
    "libarchive/test_read_format_gtar_sparse_skip_entry.tar.Z.uu": Row(
        REFUSED, "a member claims 10 GiB of data that are not there; GNU tar refuses it"
    ),
    "libarchive/test_read_format_tar_empty_with_gnulabel.tar.uu": _GNU_TYPE,
    "node-tar/global-header.tar": _GLOBAL,
    "node-tar-stream/incomplete.tar": Row("umoci", "the data is all there, only the padding behind it is cut short"),
    "php/hamidTARtester2.tar": _DOTS,
    "php/out_of_path_symlink.tar": Row("umoci", "a member below a symbolic link is where that leads, inside the root"),
    "php/packages-PEAR-1.4.0a1.tar": _LONE_ZERO,
    "python/testtar.tar": Row("gnu", "bsdtar refuses names that are not UTF-8, umoci files of type 7"),
    "tarlz/dotdot2.tar.lz": _DOTS,
    "tarlz/t155_fv5.tar.lz": Row(
        "gnu", "bsdtar makes a file of a symbolic link whose target only pax says; umoci knows no global headers"
    ),
    "tarlz/test3_eoa3.tar.lz": _LONE_ZERO,
}

NOT_ASKED: Final[Mapping[str, Mapping[str, str]]] = {
    "node-tar/excessively-deep.tar": {"bsdtar": "takes a minute to go down the directories, and cannot be listed"},
}
