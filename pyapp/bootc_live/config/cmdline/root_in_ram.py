"""The arguments about the root in RAM: what they make together, and where they contradict each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

from bootc_live.base.redact import redact_value
from bootc_live.config.model import Backing, Layout, Parts, Zram

# Values by name, none where what was typed is damaged.
Values = Mapping[str, list[object]]
_T = TypeVar("_T")

_EROFS_ONLY = {"bootc.live.compress": "none", "bootc.live.erofs.times": "epoch", "bootc.live.erofs.digest": None}


def wanted_layout(values: Values) -> Layout:
    """Give the layout that was asked for by either name."""
    if _last(values, "bootc.live.erofs", default=False):
        return Layout.EROFS
    return Layout(_last(values, "bootc.live.layout", Layout.INDEX.value))


def make_backing(values: Values) -> Backing:
    """Give what holds the image's part of RAM."""
    size = _last(values, "bootc.zram", cast("int | None", None))
    return Backing(
        size=_last(values, "bootc.live.size", None),
        huge=_last(values, "bootc.live.huge", "").replace(".", "_"),
        mpol=_last(values, "bootc.live.mpol", ""),
        zram=None if size is None else Zram(size, *_algorithm(values)),
    )


def make_parts(values: Values) -> Parts:
    """Give the writable parts."""
    algorithm, level = _algorithm(values)
    return Parts(
        root=_last(values, "rw", default=False),
        etc=_last(values, "bootc.live.etc.rw", default=True),
        var=_last(values, "bootc.live.var.rw", default=True),
        root_size=_last(values, "bootc.live.root.size", None),
        etc_size=_last(values, "bootc.live.etc.size", None),
        var_size=_last(values, "bootc.live.var.size", None),
        on=_last(values, "bootc.live.writable", "tmpfs"),
        options=_last(values, "rootflags", ""),
        state=_last(values, "bootc.live.state", None),
        state_required=_last(values, "bootc.live.state.required", default=False),
        zram_algorithm=algorithm,
        zram_level=level,
    )


def mixed_up(values: Values) -> Iterator[str]:
    """Give the mistakes that only several of these arguments together make."""
    yield from _mixed_up_layout(values)
    yield from _mixed_up_zram(values)
    if _last(values, "bootc.live.state.required", default=False) and "bootc.live.state" not in values:
        yield "'bootc.live.state.required' needs a partition; add bootc.live.state=LABEL=…"


def _mixed_up_layout(values: Values) -> Iterator[str]:
    typed = _last(values, "bootc.live.layout", "")
    if _last(values, "bootc.live.erofs", default=False) and typed not in {"", "erofs"}:
        yield f"'bootc.live.layout={typed}' contradicts 'bootc.live.erofs'; give one of them"
        return
    layout = wanted_layout(values)
    # A damaged one may have been meant well.
    if layout is Layout.EROFS or values.get("bootc.live.layout") == []:
        return
    for name, nothing in _EROFS_ONLY.items():
        value = _last(values, name, nothing)
        if value != nothing and not (layout is Layout.AUTO and name == "bootc.live.compress"):
            yield f"'{name}={value}' is about the erofs layout; add bootc.live.layout=erofs or leave it out"


def _mixed_up_zram(values: Values) -> Iterator[str]:
    if "bootc.zram" in values:
        names, why = ("bootc.live.huge", "bootc.live.mpol"), "a tmpfs; leave it out, or bootc.zram="
    elif values.get("bootc.live.writable", ["tmpfs"]) == ["tmpfs"]:
        names, why = ("bootc.zram.algorithm", "bootc.zram.level"), "zram; add bootc.zram= or bootc.live.writable=zram"
    else:
        return
    for name in names:
        if values.get(name):
            yield f"'{redact_value(f'{name}={values[name][-1]}')}' is about {why}"


def _algorithm(values: Values) -> tuple[str, int | None]:
    return _last(values, "bootc.zram.algorithm", ""), _last(values, "bootc.zram.level", None)


def _last(values: Values, name: str, default: _T) -> _T:
    found = values.get(name)
    return cast("_T", found[-1]) if found else default
