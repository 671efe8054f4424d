"""The receipt: every field, its type, and that what it says is so."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bootc_live import __version__
from tests.lib.booted import booted
from tests.lib.oci_writer import sha256
from tests.lib.program import Program
from tests.lib.small_image import BASE, HERE, UPPER

SCHEMA: dict[str, Any] = {
    "version": str,
    "image": {
        "reference": str,
        "manifest_digest": str,
        "config_digest": str,
        "platform": str,
        "layers": [{"digest": str, "diff_id": str, "size": int, "unpacked": int}],
    },
    "source": str,
    "sources": [{"source": str, "used": bool, "error": type(None)}],
    "policy": {
        "digests": str,
        "pin": type(None),
        "named_by": type(None),
        "signatures": str,
        # The policy that podman brings along.
        "rules": [str],
        "keys": [],
        "signed_identity": type(None),
        "insecure": bool,
    },
    "layout": str,
    "root": {
        "compression": str,
        "library": str,
        "why": str,
        "size": int,
        "sha256": type(None),
        "root_hash": type(None),
        "labelled": bool,
        "asked": {"layout": str, "compression": str},
    },
    "backing": {"kind": str, "size": type(None), "huge": str, "mpol": str, "zram": type(None)},
    "writable": {"root": bool, "etc": bool, "var": bool, "on": str, "state": type(None)},
    "phases": {"resolve": float, "estimate": float, "fetch": float, "index": float, "mount": float},
    "bytes": {
        "fetched": int,
        "transferred": int,
        "unpacked": int,
        "metadata": int,
        "estimated": int,
        "guessed": int,
    },
    "hosts": {},
    "kexec": type(None),
    "measured": type(None),
    "peak_memory": int,
    "memory": {"total": int, "available": int, "needed": int, "image": int},
    "ratios": {
        "fetched_to_unpacked": float,
        "estimated_to_unpacked": float,
        "peak_to_unpacked": float,
        "root_to_unpacked": float,
    },
    "warnings": [str],
}


def shape(value: object, wanted: object, where: str = "receipt") -> None:
    """Checks that a value has the keys and types of the schema, no more and no less."""
    if isinstance(wanted, dict):
        assert isinstance(value, dict), where
        assert value.keys() == wanted.keys(), where
        for key, inner in wanted.items():
            shape(value[key], inner, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert isinstance(value, list), where
        for number, entry in enumerate(value):
            shape(entry, wanted[0], f"{where}[{number}]")
    else:
        assert type(value) is wanted, f"{where} is {value!r}"


@pytest.mark.parametrize("kargs", ["", "rw bootc.live.etc.rw=0"])
def test_receipt(kargs: str, program: Program, small: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with booted(program, f"root=bootc-live:{small} {kargs}", tmp_path) as made:
        took = time.monotonic() - began
        receipt = made.receipt
    shape(receipt, SCHEMA)
    inspected = json.loads(program.run("inspect", "--json", small).good().stdout)
    assert receipt["version"] == __version__
    assert receipt["source"] == receipt["image"]["reference"] == str(small)
    assert receipt["image"]["platform"] == f"linux/{HERE}"
    for key in ("manifest_digest", "config_digest"):
        assert receipt["image"][key] == inspected[key]
    assert [(entry["diff_id"], entry["unpacked"]) for entry in receipt["image"]["layers"]] == [
        (sha256(tar), len(tar)) for tar in (BASE, UPPER)
    ]
    assert receipt["policy"] == {
        "digests": "verified",
        "pin": None,
        "named_by": None,
        "signatures": "not checked",
        "rules": ["/etc/containers/policy.json: default"],
        "keys": [],
        "signed_identity": None,
        "insecure": False,
    }
    assert receipt["layout"] == "index"
    assert receipt["writable"] == {"root": bool(kargs), "etc": not kargs, "var": True, "on": "tmpfs", "state": None}
    assert receipt["root"]["why"].startswith("layout index: needs ")
    assert receipt["backing"]["kind"] == "directory"
    assert 0 < receipt["memory"]["image"] < receipt["memory"]["needed"] < receipt["memory"]["available"]
    assert receipt["memory"]["available"] < receipt["memory"]["total"]
    assert receipt["bytes"]["fetched"] == inspected["compressed_size"]
    assert receipt["bytes"]["unpacked"] == len(BASE) + len(UPPER)
    assert 0 < receipt["bytes"]["metadata"] <= 64 * 1024
    assert all(spent >= 0 for spent in receipt["phases"].values())
    assert 0 < sum(receipt["phases"].values()) < took


def test_people_can_read_it(program: Program, small: Path, tmp_path: Path) -> None:
    with booted(program, f"root=bootc-live:{small}", tmp_path) as made:
        told = program.run("status", "--receipt", tmp_path / "receipt.json").good().stdout
        again = program.run("status", "--json", "--receipt", tmp_path / "receipt.json").good().stdout
    assert json.loads(again) == made.receipt
    lines = dict(line.split(maxsplit=1) for line in told.splitlines())
    assert lines["image"] == str(small)
    assert lines["manifest"] == made.receipt["image"]["manifest_digest"]
    assert lines["policy"] == "digests verified, signatures not checked"
    assert set(lines) == {
        "image",
        "manifest",
        "platform",
        "policy",
        "layout",
        "chosen",
        "backing",
        "fetched",
        "memory",
        "phases",
    }
    assert "INSECURE" not in told
