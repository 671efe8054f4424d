"""A boot that has to be measured, where it cannot be."""

from __future__ import annotations

from pathlib import Path

from tests.lib.program import Program

HIDE = 'mount --bind /dev/null /usr/lib/systemd/systemd-pcrextend; exec "$@"'


def test_what_is_required_and_cannot_be_done_ends_the_boot(zipapp: Path, small: Path, tmp_path: Path) -> None:
    """Before anything is looked up."""
    (tmp_path / "root").mkdir()
    kargs = f"root=bootc-live:{small} bootc.trust.measure=required"
    program = Program(zipapp, before=("unshare", "--mount", "sh", "-ec", HIDE, "sh"))
    ended = program.run("boot", "--cmdline", kargs, "--sysroot", tmp_path / "root", "--receipt", tmp_path / "receipt")
    ended.error("'bootc.trust.measure=required' cannot be met: the program 'systemd-pcrextend' is missing")
    assert "looking up" not in ended.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["root"]
