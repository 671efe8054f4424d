"""The scripts of pages that are not for one server (tests/vm/test_pxe_page.py has those), with real programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.lib.needs import needs
from tests.lib.pages import blocks

# A machine: what it says comes from files of its name. After `systemctl reboot` it has another boot, with NEXT.
SSH = """#!/bin/sh
echo "$*" >>calls
for word; do case $word in root@*) node=${word#root@} ;; esac; done
case "$*" in
*boot_id) cat "$node.boot" ;;
*reboot) [ ! -e "$node.next" ] || { mv "$node.next" "$node.receipt"; echo new >"$node.boot"; } ;;
*receipt.json) shift; "$1" "$2" "$3" "$node.receipt" ;;
*is-system-running*) [ ! -e "$node.degraded" ] ;;
*) exit 3 ;;
esac
"""


def script(repo: Path, page: str, first: str) -> str:
    """The block of a page that begins so."""
    (found,) = (block.text for block in blocks((repo / page).read_text()) if block.text.startswith(first))
    return found


@pytest.mark.parametrize(
    ("trouble", "said", "asked"),
    [
        ("", "", "ab"),
        ("a.degraded", "a has failed units", "a"),
        ("a.next", "a runs another image", "a"),
        ("none", "a does not come back", "a"),
    ],
)
def test_rolling_update(trouble: str, said: str, asked: str, repo: Path, tmp_path: Path) -> None:
    for name, text in (("ssh", SSH), ("sleep", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for node in "ab":
        (tmp_path / f"{node}.boot").write_text("old\n")
        (tmp_path / f"{node}.receipt").write_text('"manifest_digest": "sha256:1"\n')
        (tmp_path / f"{node}.next").write_text('"manifest_digest": "sha256:2"\n')
    if trouble == "none":
        (tmp_path / "a.next").unlink()
    elif trouble:
        (tmp_path / trouble).write_text("sha256:3\n")
    (tmp_path / "roll.sh").write_text(script(repo, "docs/updates.md", "want=$1"))
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    argv = ["sh", "roll.sh", "sha256:2", "a", "b"]
    done = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == ((1, f"{said}\n") if said else (0, ""))
    calls = (tmp_path / "calls").read_text()
    assert [node for node in "ab" if f"root@{node}" in calls] == list(asked)


@needs("ssh-keygen", "cpio", "systemd-tmpfiles")
def test_archives_for_nodes(repo: Path, tmp_path: Path) -> None:
    """What arrives on a machine is its own key; a second run makes no other one."""
    (tmp_path / "nodes.txt").write_text("52-54-00-12-34-56 node7\n52-54-00-12-34-57 node8\n")
    (tmp_path / "90-node.sh").write_text("#!/bin/sh\n")
    for _ in range(2):
        subprocess.run(["sh", "-ec", script(repo, "docs/per-machine.md", "mkdir -p nodes")], cwd=tmp_path, check=True)
        known = dict(line.split(" ", 1) for line in (tmp_path / "known_hosts").read_text().splitlines())
        assert sorted(known) == ["node7", "node8"]
        with (tmp_path / "nodes/52-54-00-12-34-56.cpio").open("rb") as archive:
            initramfs = tmp_path / "initramfs"
            shutil.rmtree(initramfs, ignore_errors=True)
            initramfs.mkdir()
            subprocess.run(["cpio", "--quiet", "-idm", "--no-preserve-owner"], cwd=initramfs, stdin=archive, check=True)
        assert (initramfs / "usr/lib/dracut/hooks/pre-pivot/90-node.sh").stat().st_mode & 0o111
        root = tmp_path / "root"
        lines = (initramfs / "etc/node-credentials/tmpfiles.extra").read_text().replace(" root root ", " - - ")
        (tmp_path / "extra.conf").write_text(lines)
        subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}", tmp_path / "extra.conf"], check=True)
        public = subprocess.run(
            ["ssh-keygen", "-y", "-f", root / "etc/ssh/ssh_host_ed25519_key"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert public.startswith(known["node7"])
        assert (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().startswith(known["node7"])
        assert known["node7"] != known["node8"]
