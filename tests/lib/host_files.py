"""Files where a host or its initramfs has them: logins, certificates, mirrors, systemd credentials.

They lie below the real /etc and /run, so this is for the scratch roots of vm/enter alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

AUTH: Final = Path("/etc/bootc-live/auth.json")
RULES: Final = Path("/etc/bootc-live/registries.yaml")
CERTIFICATES: Final = Path("/etc/bootc-live/certs.d")
_CREDENTIALS: Final = Path("/run/credentials/@system")


def credential(name: str) -> Path:
    """Where systemd puts the credential of the whole system `bootc-live.NAME`."""
    return _CREDENTIALS / f"bootc-live.{name}"


@contextmanager
def host_files(files: Mapping[Path, str | bytes | Path]) -> Iterator[None]:
    """Files at absolute paths, with a content or that of another file; they and the directories made go with the block.

    Raises FileExistsError for what is there already.
    """
    with ExitStack() as made:
        for path, content in files.items():
            for directory in (*reversed(path.parents), path.parent):
                if not directory.exists():
                    directory.mkdir()
                    made.callback(directory.rmdir)
            with path.open("xb") as file:
                made.callback(path.unlink)
                file.write(content.read_bytes() if isinstance(content, Path) else _bytes(content))
        yield


def rules(*registries: Mapping[str, object]) -> str:
    """The text of a registries file; JSON is YAML too."""
    return json.dumps({"registries": registries})


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
