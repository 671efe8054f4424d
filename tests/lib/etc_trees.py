"""Small trees written as one line, such as `ssh/config=new run>/run empty/ key:600=secret copy<key pipe|`.

`name=content` is a file, `name>target` a link, `name/` a directory, `name<first` another name of a file, `name|` a
FIFO; `:mode` may follow the name. `*` at the end of a name stands for the suffix of what a merge keeps beside a file.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from bootc_live.landing.disk.merge_etc import SUFFIX

_TOKEN: Final = re.compile(r"([^:=><|]+?)(?::([0-7]+))?(?:(/)|([=><|])(.*))")


def make_tree(top: Path, text: str) -> str:
    """Make the tree at a new directory, and return its path."""
    top.mkdir()
    top.chmod(0o755)
    for token in text.split():
        found = _TOKEN.fullmatch(token)
        assert found is not None, token
        name, mode, slash, kind, rest = found.groups()
        path = top / name.replace("*", SUFFIX)
        for parent in reversed(path.relative_to(top).parents):
            if not (top / parent).exists():
                (top / parent).mkdir()
                (top / parent).chmod(0o755)
        match slash or kind:
            case "/":
                path.mkdir(exist_ok=True)
                path.chmod(0o755)
            case "=":
                path.write_text(rest)
                path.chmod(0o644)
            case ">":
                path.symlink_to(rest)
            case "<":
                os.link(top / rest, path, follow_symlinks=False)
            case _:
                os.mkfifo(path)
        if mode:
            path.chmod(int(mode, 8))
    return str(top)


def show_tree(top: Path) -> str:
    """Return the line of a tree: sorted, without directories that have something in them, or modes as usual."""
    found, names = [], dict[int, str]()
    for path in sorted(top.rglob("*")):
        name, status = str(path.relative_to(top)).replace(SUFFIX, "*"), path.lstat()
        mode = f":{stat.S_IMODE(status.st_mode):o}"
        if path.is_symlink():
            found.append(f"{name}>{path.readlink()}")
        elif path.is_dir():
            shown = "" if mode == ":755" else mode
            if shown or not any(path.iterdir()):
                found.append(f"{name}{shown}/")
        elif (first := names.setdefault(status.st_ino, name)) != name:
            found.append(f"{name}<{first}")
        else:
            found.append(f"{name}{'' if mode == ':644' else mode}={path.read_text()}")
    return " ".join(sorted(found))
