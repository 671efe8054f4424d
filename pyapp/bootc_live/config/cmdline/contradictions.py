"""Find kernel arguments that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from bootc_live.base.redact import redact_value
from bootc_live.config.cmdline.table import is_about_kexec
from bootc_live.config.cmdline.tokens import read_word, redact_cmdline, split_cmdline, split_words
from bootc_live.config.cmdline.values import Values, last
from bootc_live.config.model import Layout
from bootc_live.config.source_spec import ROOT_PREFIX, DeploymentRoot, RegistryImage, SourceSpec

_EROFS_ONLY = {
    "bootc.live.compress": "none",
    "bootc.live.erofs.times": "epoch",
    "bootc.live.erofs.digest": None,
    "bootc.live.verity": False,
    "bootc.live.verity.roothash": None,
}
_SOURCE_ONLY = {
    **dict.fromkeys(("bootc.live.fallback", "bootc.live.digest", "bootc.live.state", "bootc.install")),
    "bootc.kexec": False,
}
_DISK_ONLY = {"bootc.disk.state": "full", "bootc.disk.verity": True, "bootc.disk.subvolume": None}
_INSTALL_ONLY: dict[str, object] = {
    "bootc.install.wipe": False,
    "bootc.install.karg": None,
    "bootc.install.bootloader": "systemd.boot",
    "bootc.install.storage": "composefs",
    "bootc.install.slot.size": None,
    "bootc.install.filesystem": "ext4",
    "bootc.install.xbootldr": None,
    "bootc.install.state": "full",
    "bootc.install.hostname": None,
    "bootc.install.autoupdate": False,
    "bootc.install.success.unit": None,
    "bootc.install.secureboot": False,
    "bootc.install.nvram": True,
}
_KEXEC_ONLY = {"bootc.kexec.append": None, "bootc.kexec.remove": None, "bootc.kexec.onfail": "stop"}


def find_contradictions(values: Values) -> Iterator[str]:
    """Yield a message for each contradiction."""
    yield from _sources(values)
    yield from _install(values)
    yield from _layout(values)
    yield from _zram(values)
    if last(values, "bootc.live.state.required", default=False) and "bootc.live.state" not in values:
        yield "'bootc.live.state.required' needs a partition; add bootc.live.state=LABEL=…"
    threshold = last(values, "bootc.trust.threshold", 1)
    if threshold > 1 and not values.get("bootc.trust.key") and "bootc.trust.policy" not in values:
        yield f"'bootc.trust.threshold={threshold}' needs keys; add bootc.trust.key= or bootc.trust.policy="
    yield from _kexec(values)


def _sources(values: Values) -> Iterator[str]:
    fallbacks = cast("list[SourceSpec]", values.get("bootc.live.fallback", []))
    if "root" not in values:
        for spec in fallbacks:
            yield f"'bootc.live.fallback={spec.source_text}' needs a root={ROOT_PREFIX}… as well"
        return
    installed = isinstance(last(values, "root", None), DeploymentRoot)
    for name, default in (_SOURCE_ONLY if installed else _DISK_ONLY).items():
        if last(values, name, default) != default:
            kind = "an image that is fetched" if installed else f"a root on a disk (root={ROOT_PREFIX}deployment:…)"
            yield f"'{name}' applies only to {kind}; remove it"
    if installed or "bootc.live.fallback" in values:
        return
    roots = cast("list[SourceSpec]", values["root"])
    for root, pin in zip(roots, values.get("bootc.live.digest", []), strict=False):
        digest = root.reference.partition("@")[2] if isinstance(root, RegistryImage) else ""
        # Digests of different algorithms can both be right.
        if digest and digest != pin and digest.partition(":")[0] == str(pin).partition(":")[0]:
            yield f"'bootc.live.digest={pin}' is not the digest in 'root={ROOT_PREFIX}{root.source_text}'"


def _install(values: Values) -> Iterator[str]:
    if "root" in values and "bootc.install" not in values:
        for name, default in _INSTALL_ONLY.items():
            if last(values, name, default) != default:
                yield f"'{name}' needs the disk to install on; add bootc.install="
    if last(values, "bootc.install.storage", "") != "slots" and "bootc.install.slot.size" in values:
        yield "'bootc.install.slot.size' is of no use without slots; add bootc.install.storage=slots"


def _layout(values: Values) -> Iterator[str]:
    root_hash = last(values, "bootc.live.verity.roothash", "")
    if root_hash and not last(values, "bootc.live.verity", default=True):
        yield f"'bootc.live.verity.roothash={root_hash}' contradicts 'bootc.live.verity=0'; use one of them"
    layout = last(values, "bootc.live.layout", "")
    if last(values, "bootc.live.erofs", default=False):
        if layout not in {"", "erofs"}:
            yield f"'bootc.live.layout={layout}' contradicts 'bootc.live.erofs'; use one of them"
        return
    # An invalid layout is reported already.
    if layout == Layout.EROFS or values.get("bootc.live.layout") == []:
        return
    for name, default in _EROFS_ONLY.items():
        value = last(values, name, default)
        if value != default and not (layout == Layout.AUTO and name == "bootc.live.compress"):
            argument = name if value is True else f"{name}={value}"
            yield f"'{argument}' applies only to the erofs layout; add bootc.live.layout=erofs or remove it"


def _zram(values: Values) -> Iterator[str]:
    if "bootc.zram" in values:
        names, reason = ("bootc.live.huge", "bootc.live.mpol"), "a tmpfs; remove it or bootc.zram="
    elif values.get("bootc.live.writable", ["tmpfs"]) == ["tmpfs"]:
        names, reason = (
            ("bootc.zram.algorithm", "bootc.zram.level"),
            "zram; add bootc.zram= or bootc.live.writable=zram",
        )
    else:
        return
    for name in names:
        if values.get(name):
            yield f"'{redact_value(f'{name}={values[name][-1]}')}' applies only to {reason}"


def _kexec(values: Values) -> Iterator[str]:
    for text in cast("list[str]", values.get("bootc.kexec.append", [])):
        words, for_init = split_words(text)
        argument = f"bootc.kexec.append={redact_cmdline(text)}"
        if any(is_about_kexec(token.name) for token in split_cmdline(text)):
            yield f"'{argument}' would start kexec again in the next kernel; remove bootc.kexec from it"
        if for_init or not words:
            yield f"'{argument}' must contain kernel arguments, and no '--'"
    for text in cast("list[str]", values.get("bootc.kexec.remove", [])):
        if len(read_word(text).name.split()) != 1:
            argument = f"bootc.kexec.remove={redact_cmdline(text)}"
            yield f"'{argument}' must name one argument; repeat bootc.kexec.remove= for each of them"
    # With bootc.kexec=0, the other arguments may stay.
    if "bootc.kexec" in values:
        return
    for name, default in _KEXEC_ONLY.items():
        value = last(values, name, default)
        if value != default:
            yield f"'{name}={redact_cmdline(str(value))}' applies only to kexec; add bootc.kexec"
