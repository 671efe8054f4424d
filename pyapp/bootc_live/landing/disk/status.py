"""What a person or a program wants to know about the deployments of a machine."""

from __future__ import annotations

from collections.abc import Iterator

from bootc_live.base.redact import redact
from bootc_live.formats.boot_entry import Entry
from bootc_live.landing.disk.deployments import PassedOver
from bootc_live.landing.disk.machine import Machine

_WORDS = ("booted", "boots_next", "pinned", "left_by_rollback")


def machine_status(machine: Machine) -> dict[str, object]:
    """Return the deployments, newest first, with what each of them is; raise BootcLiveError."""
    entries = machine.entries()
    default = machine.loader.default(machine.boot)
    broken = {name.deployment for name in machine.loader.broken(machine.boot)}
    left = machine.disk.passed_over(PassedOver.LEFT)
    rows = []
    for deployment in reversed(machine.disk.all()):
        entry = next((each for each in entries if each.name.deployment == deployment.number), None)
        rows.append(
            {
                "number": deployment.number,
                "source": deployment.source,
                "image": deployment.image,
                "created": deployment.created,
                "signatures": deployment.trust.get("signatures"),
                "kernel": deployment.kernel,
                "root": deployment.root,
                "slot": deployment.slot or None,
                "verity": deployment.verity,
                "booted": deployment.number == machine.booted,
                "boots_next": default is not None and deployment.number == default.name.deployment,
                "pinned": machine.disk.is_pinned(deployment.number),
                "left_by_rollback": deployment.image in left,
                "health": "damaged boot entry" if deployment.number in broken else _health(entry),
                "cmdline": None if entry is None else redact(entry.cmdline),
            }
        )
    damaged = machine.disk.damaged()
    settings = {"source": machine.settings.source_text, "state": machine.settings.state}
    return {**settings, "deployments": rows, "damaged": damaged}


def _health(entry: Entry | None) -> str:
    if entry is None:
        return "no boot entry"
    if entry.name.left is None:
        return "good"
    return f"{entry.name.left} tries left" if entry.name.left else "failed"


def describe_machine(status: dict[str, object]) -> Iterator[str]:
    """Yield the same as lines for people."""
    yield f"source    {status['source']}"
    yield f"keeps     {status['state']}"
    rows = status["deployments"]
    for row in rows if isinstance(rows, list) else []:
        words = [name.replace("_", " ") for name in _WORDS if row[name]]
        yield f"{row['number']:<9} {row['image']}, {row['created']}, {', '.join([*words, str(row['health'])])}"
        yield f"          {row['source']}, signatures {row['signatures']}"
    damaged = status["damaged"]
    for number in damaged if isinstance(damaged, list) else []:
        yield f"{number:<9} damaged: it cannot boot; bootc-live fsck says more"
