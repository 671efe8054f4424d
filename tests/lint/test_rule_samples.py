"""Every rule of ours catches what it is there for, and lets good code pass."""

from __future__ import annotations

import pytest

from tests.lint import rule_calls, rule_hooks, rule_imports, rule_text, rule_units


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bootc_live.system.run", "import bootc_live.config.model"),
        ("bootc_live.config", "from bootc_live.source import registry"),
        ("bootc_live.image.fetch", "def f():\n    from bootc_live.rootfs.layouts.index.layout import x"),
        ("bootc_live.image.fetch", "from bootc_live import landing"),
        ("bootc_live.source.select", "import importlib\nimportlib.import_module('bootc_live.landing.kexec.kexec')"),
        ("bootc_live.landing.sysroot.sysroot", "if True:\n    import bootc_live.cli as c"),
        ("bootc_live.cli.boot", "from bootc_live.__main__ import main"),
        ("bootc_live", "from bootc_live.base import errors"),
        ("bootc_live.source.select", "import bootc_live.elsewhere"),
        ("bootc_live.elsewhere", "import os"),
    ],
)
def test_back_edge_is_found(module: str, source: str) -> None:
    assert len(rule_imports.back_edges(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bootc_live.system.run", "import os, subprocess\nfrom bootc_live.base import errors"),
        (
            "bootc_live.landing.sysroot.sysroot",
            "from bootc_live.rootfs.layouts.index.layout import x\nimport bootc_live.system.run",
        ),
        ("bootc_live.cli.boot", "from bootc_live import __version__, landing, base"),
        ("bootc_live.__main__", "from bootc_live.cli import verbs\nNAME = 'bootc_live.landing.kexec.kexec'"),
    ],
)
def test_downward_imports_pass(module: str, source: str) -> None:
    assert rule_imports.back_edges(module, source) == []


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from subprocess import run",
        "def f():\n    import subprocess as s",
        "import os\nos.execvp('a', ['a'])",
        "import os as o\no.fork()",
        "import os\nos.system('a')",
        "import os\nstart = os.posix_spawn",
        "from os import popen",
        "import multiprocessing.pool",
    ],
)
def test_process_start_is_found(source: str) -> None:
    assert rule_calls.uses(source, rule_calls.PROCESSES)


@pytest.mark.parametrize(
    "source",
    [
        "import requests\nrequests.get('http://a')",
        "import requests\nrequests.Session()",
        "from requests import Session",
        "from requests.adapters import HTTPAdapter",
        "import requests.sessions",
        "import urllib3\nurllib3.PoolManager()",
        "from urllib.request import urlopen",
        "import http.client",
    ],
)
def test_request_elsewhere_is_found(source: str) -> None:
    assert rule_calls.uses(source, rule_calls.REQUESTS)


def test_talk_of_answers_passes() -> None:
    source = "import requests\ndef f(a: requests.Response) -> None:\n    raise requests.RequestException"
    assert rule_calls.uses(source, rule_calls.REQUESTS) == []


@pytest.mark.parametrize(
    "source",
    [
        "import sys\nsys.exit(1)",
        "from sys import exit as leave\nleave()",
        "raise SystemExit(2)",
        "exit()",
        "import os\nos._exit(0)",
        "import traceback\ntraceback.print_exc()",
    ],
)
def test_exit_is_found(source: str) -> None:
    assert rule_calls.uses(source, rule_calls.EXITS)


@pytest.mark.parametrize(
    "source",
    ["print(1)", "import sys\nsys.stderr.write('a')", "from sys import stdout as out\nout.flush()", "import logging"],
)
def test_output_is_found(source: str) -> None:
    assert rule_calls.uses(source, rule_calls.OUTPUT)


def test_harmless_names_pass() -> None:
    source = "import os, sys, contextlib\nsys.stderr.write(os.fspath('a'))\nstack = contextlib.ExitStack()\nstack.exit"
    assert rule_calls.uses(source, rule_calls.PROCESSES) == []
    assert rule_calls.uses(source, rule_calls.EXITS) == []


@pytest.mark.parametrize(
    "script", ["exit 1", "[ -n x ] || exit", "f() {\n\tif x; then exit 2; fi\n}", "(exit 3)", "a | { exit 1; }"]
)
def test_exit_in_hook_is_found(script: str) -> None:
    assert len(rule_hooks.exits("hook.sh", script + "\n")) == 1


def test_word_exit_passes() -> None:
    assert rule_hooks.exits("hook.sh", "# exit 1\necho exit\nwarn 'then exit 1'\nreturn 0\n") == []


def test_long_hook_is_found() -> None:
    assert rule_hooks.too_long("hook.sh", "a\n" * 41)
    assert rule_hooks.too_long("hook.sh", "a\n" * 40) == []


@pytest.mark.parametrize(
    "unit",
    ["", "[Unit]\nAfter=a.target\n", "[Unit]\nBefore=\n", "[Service]\nBefore=a.target\n", "[Unit]\n#Before=a.target\n"],
)
def test_unit_without_order_is_found(unit: str) -> None:
    assert rule_units.without_order("a.service", unit)


def test_ordered_unit_passes() -> None:
    assert rule_units.without_order("a.service", "[Unit]\nBefore=initrd-root-fs.target\n[Service]\n") == []


def test_long_file_is_found() -> None:
    assert rule_text.too_long("a.py", "a\n" * 401)
    assert rule_text.too_long("a.py", "a\n" * 400) == []
    assert rule_text.too_long("a.lock", "a\n" * 401) == []


def test_note_to_self_is_found() -> None:
    assert rule_text.notes("a.sh", "# " + "TO" + "DO: later")
    assert rule_text.notes("a.sh", "mktemp a." + "XX" * 3) == []
