"""The frozen result of reading a kernel command line."""

from __future__ import annotations

from dataclasses import dataclass

from bootc_live.config.source_spec import SourceSpec


@dataclass(frozen=True)
class Config:
    """What was asked for; ``source`` is None only where no ``root=bootc-live:`` was given."""

    source: SourceSpec | None
    label: str | None = None
    registry_unsecure: bool = False
    root_rw: bool = False
    etc_rw: bool = True
    var_rw: bool = True
    rootflags: str = ""
    quiet: bool = False
