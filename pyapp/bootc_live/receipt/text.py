"""Format a receipt as text."""

from __future__ import annotations

from bootc_live.base.units import mib


def describe(receipt: dict[str, object]) -> list[str]:
    """Return a receipt as lines that begin with a label; missing parts are left out or shown as None."""
    if _part(receipt, "deployment"):
        return _describe_deployment(receipt)
    image, phases, policy, measured = (_part(receipt, key) for key in ("image", "phases", "policy", "measured"))
    seconds = ", ".join(f"{name} {spent} s" for name, spent in phases.items())
    lines = [
        f"image     {image.get('reference')}",
        f"manifest  {image.get('manifest_digest') or 'none: a docker-archive'}",
        f"platform  {image.get('platform')}",
        f"policy    digests {policy.get('digests')}, signatures {policy.get('signatures')}"
        + (", INSECURE transport" if policy.get("insecure") else ""),
        *(f"signed    by {key}" for key in _list(policy, "keys")),
        *(f"decided   {rule}" for rule in _list(policy, "rules") if _list(policy, "keys")),
        *([f"measured  into PCR {measured.get('pcr')}"] if measured else []),
        *_root(receipt),
        *_sizes(receipt),
        *_kernels(receipt),
        f"phases    {seconds}",
    ]
    sources = receipt.get("sources")
    unused = (
        [part for part in sources if isinstance(part, dict) and part.get("error")] if isinstance(sources, list) else []
    )
    lines += [f"not used  {part.get('error')}" for part in unused]
    warnings = receipt.get("warnings")
    lines += [f"warning   {text}" for text in warnings] if isinstance(warnings, list) else []
    return lines


def _describe_deployment(receipt: dict[str, object]) -> list[str]:
    deployment, image, policy, phases = (_part(receipt, key) for key in ("deployment", "image", "policy", "phases"))
    booted = f"deployment {deployment.get('number')} of {deployment.get('created')}, on {deployment.get('device')}"
    checked = "" if deployment.get("verity") else "NOT "
    checker = "dm-verity" if receipt.get("layout") == "slot" else "fs-verity"
    return [
        f"image     {image.get('reference')}",
        f"manifest  {image.get('manifest_digest')}",
        f"policy    signatures {policy.get('signatures')}",
        *(f"signed    by {key}" for key in _list(policy, "keys")),
        f"booted    {booted}",
        f"root      {deployment.get('root')}, {checked}checked by the kernel ({checker})",
        f"keeps     {deployment.get('state')}",
        f"phases    {', '.join(f'{name} {spent} s' for name, spent in phases.items())}",
        *(f"warning   {text}" for text in _list(receipt, "warnings")),
    ]


def _root(receipt: dict[str, object]) -> list[str]:
    root, backing, writable = (_part(receipt, key) for key in ("root", "backing", "writable"))
    packed = root.get("library") or ""
    kind, limit, zram = backing.get("kind"), _number(backing.get("size")), _part(backing, "zram")
    size = f" of {mib(_number(zram.get('size')))}" if zram else ""
    lines = [f"layout    {receipt.get('layout')}{f', {packed}' if packed else ''}"]
    if root.get("why"):
        lines.append(f"chosen    {root.get('why')}")
    if root.get("sha256"):
        lines.append(f"root      {root.get('sha256')}")
    if root.get("root_hash"):
        lines.append(f"verity    {root.get('root_hash')}")
    lines.append(f"backing   {kind}{size}{f', limited to {mib(limit)}' if limit else ''}")
    state = _part(writable, "state")
    if state:
        lines.append(f"state     {state.get('typed')}: {state.get('kind')} on {state.get('device')}")
    return lines


def _sizes(receipt: dict[str, object]) -> list[str]:
    sizes, memory, ratios = (_part(receipt, key) for key in ("bytes", "memory", "ratios"))
    unpacked, peak = _number(sizes.get("unpacked")), _number(receipt.get("peak_memory"))
    estimated = sizes.get("estimated")
    guess = f", {mib(_number(estimated))} were expected" if estimated is not None else ""
    share = ratios.get("peak_to_unpacked")
    there = f", of {mib(_number(memory.get('available')))} that were available" if memory.get("available") else ""
    return [
        f"fetched   {mib(_number(sizes.get('fetched')))}, unpacked {mib(unpacked)}{guess}",
        f"memory    {mib(peak)} at the peak{f', {share} of unpacked' if share is not None else ''}{there}",
    ]


def _kernels(receipt: dict[str, object]) -> list[str]:
    kexec = _part(receipt, "kexec")
    if not kexec:
        return []
    first = _part(kexec, "first")
    seconds = ", ".join(f"{name} {spent} s" for name, spent in _part(first, "phases").items())
    reused = mib(_number(kexec.get("reused")))
    return [
        f"kexec     from kernel {first.get('kernel')} to {kexec.get('kernel')}, {reused} handed over",
        f"before    {seconds}",
        *(f"before    warning: {text}" for text in _list(first, "warnings")),
    ]


def _list(receipt: dict[str, object], key: str) -> list[object]:
    found = receipt.get(key)
    return found if isinstance(found, list) else []


def _part(receipt: dict[str, object], key: str) -> dict[str, object]:
    part = receipt.get(key)
    return part if isinstance(part, dict) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
