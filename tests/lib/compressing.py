"""Compress with programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.lib.needs import need


def program(*argv: str) -> Callable[[bytes], bytes]:
    """Return what compresses with a program; it skips the test where that is missing."""

    def compress(data: bytes) -> bytes:
        need(argv[0])
        return subprocess.run(argv, input=data, check=True, stdout=subprocess.PIPE).stdout

    return compress
