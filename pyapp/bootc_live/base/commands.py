"""Other names of the program, by which hooks and containers call it."""

from __future__ import annotations

import os

# The words that names stand for; containers start the first one.
INIT = {"init": ("guest",)}
TOOLS = {
    "bootc-live": (),
    "overlay": ("guest", "overlay"),
    "idmap": ("guest", "idmap"),
    "mount-idmapped": ("guest", "idmap"),
    "initctl": ("guest", "initctl"),
    "tolerant": ("guest", "run-parts"),
}


def words_of(program: str) -> tuple[str, ...]:
    """Return the words that come before the arguments, by the name or the path of the program."""
    return {**TOOLS, **INIT}.get(os.path.basename(program), ())
