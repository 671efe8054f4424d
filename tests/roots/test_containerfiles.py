"""The Containerfile for Fedora and CentOS, as far as it goes without them: dnf and dracut tell how they are called.

The one for Debian is really built, and guests boot what it makes (vm/container).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.roots.root import BUILDER, REPO

TOLD = "#!/bin/sh\necho $* >>/told\n"
DRACUT = """#!/bin/sh
while [ $# -gt 1 ]; do
	case $1 in
	--kver | --add) export "${1#--}=$2" && shift ;;
	--force | --no-hostonly) ;;
	*) exit 3 ;;
	esac
	shift
done
[ "$DRACUT_NO_XATTR" = 1 ] && [ -d "/usr/lib/modules/$kver" ] && [ -d /usr/lib/dracut/modules.d/50bootc-live ] || exit 4
[ -s /usr/lib/bootc-live/bootc-live.pyz ] && [ -x /usr/bin/bootc-live ] || exit 5
{ echo "$add" && busybox cat /told /usr/bin/bootc-live; } >"$1"
"""
BUILD = """
cd "$1" && shift
for file in /bin/busybox $(ldd /bin/busybox | grep -o '/[^ ]*'); do
	install -D "$file" "base$file"
done
ln -s busybox base/bin/sh
ln -s busybox base/bin/chmod
vm/buildah build --tag base base >/dev/null
vm/buildah build --file docs/containerfiles/fedora --target initrd --output type=local,dest=made "$@" context >/dev/null
"""


def test_fedora(shared: Path) -> None:
    where, python = shared / "fedora", "python3.12"
    modules = where / "base/usr/lib/modules/6.17.1-300.fc43.x86_64"
    for directory in (modules, *(where / "base" / name for name in ("bin", "usr/bin", "usr/lib/dracut/modules.d"))):
        directory.mkdir(parents=True)
    for name, script in {"dnf": TOLD, "bootc": TOLD, "dracut": DRACUT}.items():
        (where / "base/bin" / name).write_text(script)
        (where / "base/bin" / name).chmod(0o755)
    (modules / "vmlinuz").write_text("kernel")
    (where / "base/Containerfile").write_text("FROM scratch\nCOPY . /\n")
    shutil.copytree(REPO / "modules.d", where / "context/modules.d")
    shutil.copy(REPO / "build/bootc-live.pyz", where / "context")
    arguments = [f"--build-arg={argument}" for argument in ("BASE=localhost/base", f"PYTHON={python}")]
    script = BUILD.replace("vm/", f"{REPO}/vm/").replace("docs/", f"{REPO}/docs/")
    BUILDER.run("sh", "-ec", script, "sh", where, *arguments)
    assert (where / "made/vmlinuz").read_text() == "kernel"
    added, installed, *_, ours = (where / "made/initramfs.img").read_text().splitlines()
    assert added == "bootc-live bootc-live-registry"
    assert {"install", "-y", "dracut-network", "NetworkManager", python} <= set(installed.split())
    assert ours == f'exec {python} /usr/lib/bootc-live/bootc-live.pyz "$@"'
