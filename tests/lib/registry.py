"""Debian's docker-registry on a free loopback port, and ways to fill it.

Runs wherever the package is installed: in the builder root for integration tests, on the machine itself for guests,
which reach it at `GUEST`.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.lib.addressed import LOOPBACK, Addressed
from tests.lib.tls import Certificate

GUEST: Final = "10.0.2.2"
START_SECONDS: Final = 120
_LISTENING: Final = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Registry(Addressed):
    """A running registry; `storage` is its directory, `port` is on loopback, `tls` its certificate if it has one."""

    port: int
    storage: Path
    tls: Certificate | None = None

    def push(self, image: str, name: str, *options: str) -> str:
        """Copies `image` (a skopeo source such as `oci:DIR:TAG`) here and gives the digest of its manifest.

        `options` go to skopeo-copy(1), such as `--format v2s2`, `--dest-compress-format zstd`, `--all`.
        """
        _forget_blobs()
        digest = self.storage.with_name(f"{self.storage.name}.digest")
        target = self.source(name)
        command = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
        command += ["--digestfile", str(digest), *options, image, target]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return digest.read_text().strip()

    def put(self, layout: Path, name: str, tag: str) -> str:
        """Uploads every blob of an OCI layout as it is, names the first entry of its index `tag`, gives its digest.

        For what skopeo would correct on the way, such as uncompressed layers or zstd under Docker's media types.
        """
        entry = json.loads((layout / "index.json").read_text())["manifests"][0]
        self._put_manifest(layout, name, entry, tag)
        return str(entry["digest"])

    def blob(self, digest: str) -> Path:
        """The file a blob or manifest lies in."""
        algorithm, _, name = digest.partition(":")
        return self.storage / "docker/registry/v2/blobs" / algorithm / name[:2] / name / "data"

    def _put_manifest(self, layout: Path, name: str, entry: Mapping[str, Any], target: str) -> None:
        content = _blob_file(layout, entry).read_bytes()
        manifest = json.loads(content)
        for child in manifest.get("manifests", ()):
            self._put_manifest(layout, name, child, child["digest"])
        for blob in [*manifest.get("layers", ()), *([manifest["config"]] if "config" in manifest else ())]:
            self._put_blob(layout, name, blob)
        url = f"{self.url}/v2/{name}/manifests/{target}"
        self._ask("PUT", url, content, {"Content-Type": entry["mediaType"]})

    def _put_blob(self, layout: Path, name: str, entry: Mapping[str, Any]) -> None:
        begun = self._ask("POST", f"{self.url}/v2/{name}/blobs/uploads/", b"")
        where = begun["Location"]
        url = f"{where}{'&' if '?' in where else '?'}digest={entry['digest']}"
        self._ask("PUT", url, _blob_file(layout, entry).read_bytes(), {"Content-Type": "application/octet-stream"})

    def _ask(self, method: str, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Mapping[str, str]:
        return ask(method, url, body, headers or {})[1]


def _forget_blobs() -> None:
    """Lets skopeo forget where it has seen blobs: an earlier registry on the same port may have had another packing.

    Only in a root that vm/enter made, where nobody else's memory is.
    """
    if Path("/.vm-root").exists():
        for known in Path("/var/lib/containers/cache").glob("blob-info-cache*"):
            known.unlink(missing_ok=True)


def ask(method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str]]:
    """Status and headers of one request, certificates unchecked; raises URLError for errors, also those of HTTP."""
    context = ssl._create_unverified_context()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)
    with opener.open(request, timeout=START_SECONDS) as response:
        return response.status, response.headers


@contextmanager
def registry(
    directory: Path,
    *,
    tls: Certificate | None = None,
    auth: Mapping[str, object] | None = None,
    clients: Certificate | None = None,
    same_as: Registry | None = None,
    storage: Path | None = None,
) -> Iterator[Registry]:
    """A registry that keeps everything in `directory`; it has ended when the block ends.

    `auth` is the section of that name in the registry's configuration. With `clients`, only those with a certificate
    of that authority may ask. What `same_as` holds is here, too: it is filled through that one, which wants no login.
    `storage` is a directory that an earlier registry filled.
    Raises AssertionError with the registry's log if it does not answer in time.
    """
    settings, log = directory / "config.json", directory / "log"
    storage = same_as.storage if same_as else storage or directory / "storage"
    for needed in (directory, storage):
        needed.mkdir(parents=True, exist_ok=True)
    http: dict[str, object] = {"addr": f"{LOOPBACK}:0"}
    if tls is not None:
        keys: dict[str, object] = {"certificate": str(tls.certificate), "key": str(tls.key)}
        http["tls"] = {**keys, "clientcas": [str(clients.certificate)]} if clients else keys
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "text"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": http,
    }
    if auth is not None:
        config["auth"] = auth
    # JSON is YAML too.
    settings.write_text(json.dumps(config))
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", settings], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        # Who wants to see a certificate gives us no answer: that it listens has to do.
        scheme = "" if clients else "http" if tls is None else "https"
        yield Registry(_answering(process, log, scheme), storage, tls)
    finally:
        process.terminate()
        try:
            process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answering(process: subprocess.Popen[bytes], log: Path, scheme: str) -> int:
    """The port, once the registry answers on it, or with an empty scheme once it listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        # It takes a free port itself and says which: nobody can take that port in between.
        listening = _LISTENING.search(log.read_text(errors="replace"))
        if listening and (not scheme or _answers(f"{scheme}://{LOOPBACK}:{listening[1]}/v2/")):
            return int(listening[1])
        time.sleep(0.02)
    raise AssertionError(f"docker-registry does not answer:\n{log.read_text(errors='replace')}")


def _answers(url: str) -> bool:
    try:
        ask("GET", url, None, {})
    except urllib.error.HTTPError as error:
        # A registry with logins answers, too.
        return error.code == 401
    except OSError:
        return False
    return True


def _blob_file(layout: Path, entry: Mapping[str, Any]) -> Path:
    return layout / "blobs" / str(entry["digest"]).replace(":", "/")
