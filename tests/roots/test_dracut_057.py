"""dracut 057, of EL9, is in no root here: what our modules call of dracut has to be among what it defines."""

from __future__ import annotations

import re
from pathlib import Path

from tests.roots.root import ALL, REPO, ROOTS

# Read in the sources of dracut 057 as EL9 has it (github.com/redhat-plumbers/dracut-rhel9), by file; all of them take
# the arguments that we give.
DEFINED = {
    "dracut-init.sh": "dracut_module_included dracut_module_path dracut_need_initqueue inst_hook inst_libdir_file "
    "inst_multiple inst_script inst_simple instmods require_binaries",
    "dracut-logger.sh": "dfatal dwarn",
    "modules.d/99base/dracut-lib.sh": "die getarg getargbool getargs getcmdline label_uuid_to_dev",
    "modules.d/45url-lib/url-lib.sh": "fetch_url get_url_handler",
}
_FUNCTION = re.compile(r"^\s*(?:function\s+)?([a-z_]\w*)\s*\(\)", re.MULTILINE)
_COMMENT = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
# What every module defines for dracut, and words of the shell's own.
_NOT_CALLED = {"check", "depends", "installkernel", "install", "cmdline"}


def functions(files: list[Path]) -> set[str]:
    return {name for file in files for name in _FUNCTION.findall(file.read_text(errors="replace"))}


def test_every_function_is_in_057() -> None:
    dracut = [file for root in ALL for file in (ROOTS / root.name / "usr/lib/dracut").rglob("*.sh")]
    ours = list((REPO / "modules.d").rglob("*.sh"))
    text = "\n".join(_COMMENT.sub("", file.read_text()) for file in ours)
    # As a command: not after what makes it a variable, an option, or a part of a name.
    used = {name for name in functions(dracut) if re.search(rf"(?<![\w$./{{-]){name}(?![\w=./-])", text)}
    known = {name for names in DEFINED.values() for name in names.split()}
    assert used - functions(ours) - _NOT_CALLED == known
