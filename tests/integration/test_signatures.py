"""Signatures by the real cosign in the real registry: signed images boot, every tampering has its own message."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.lib.cosign import Cosign, Key, cosigns
from tests.lib.oci_writer import Image, Layer, sha256, write_layout
from tests.lib.program import Program
from tests.lib.registry import Registry, ask, registry
from tests.lib.small_image import BASE, HERE, UPPER
from tests.lib.tar_writer import file, layer

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CREATED: Final = "2026-03-01T12:00:00Z"


@dataclass
class Signed:
    """A registry with images that were signed by both versions of cosign; `digests` by repository."""

    registry: Registry
    layout: Path
    two: Cosign
    three: Cosign
    key: Key
    other: Key
    digests: dict[str, str] = field(default_factory=dict)

    def source(self, name: str) -> str:
        return self.registry.source(f"{name}:1")

    def push(self, name: str, layout: Path | None = None) -> str:
        digest = self.registry.push(f"oci:{layout or self.layout}", f"{name}:1")
        self.digests[name] = digest
        return f"{self.registry.host}/{name}@{digest}"

    def put(self, name: str, tag: str, manifest: object) -> None:
        """Put a manifest that refers to blobs which are there."""
        body = json.dumps(manifest).encode()
        url = f"{self.registry.url}/v2/{name}/manifests/{tag}"
        assert ask("PUT", url, body, {"Content-Type": MANIFEST})[0] == 201

    def blob(self, name: str, content: bytes) -> dict[str, Any]:
        """Upload a blob and return its descriptor without a media type."""
        status, headers = ask("POST", f"{self.registry.url}/v2/{name}/blobs/uploads/", b"", {})
        assert status == 202
        where = headers["Location"]
        joined = f"{where}{'&' if '?' in where else '?'}digest={sha256(content)}"
        assert ask("PUT", joined, content, {"Content-Type": "application/octet-stream"})[0] == 201
        return {"digest": sha256(content), "size": len(content)}


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    where = tmp_path_factory.mktemp("signed")
    two, three = cosigns(where)
    rootfs = {"type": "layers", "diff_ids": [sha256(BASE), sha256(UPPER)]}
    config = {"created": CREATED, "os": "linux", "architecture": HERE, "rootfs": rootfs}
    image = Image([Layer(BASE), Layer(UPPER)], architecture=HERE, config=json.dumps(config).encode())
    layout = write_layout(where / "image", image)
    with registry(where / "registry") as running:
        made = Signed(running, layout, two, three, two.key("key"), three.key("other"))
        two.sign(made.push("os/two"), made.key)
        three.sign(made.push("os/three"), made.key)
        three.sign(made.push("os/three-simple"), made.key, bundle=False)
        made.push("os/unsigned")
        two.sign(made.push("os/others"), made.other)
        both = made.push("os/both")
        two.sign(both, made.key)
        two.sign(both, made.other)
        yield made


def booted(program: Program, source: str, where: Path, *arguments: str) -> Any:
    """A dry run of a boot from a source; what ended."""
    root = where / "root"
    root.mkdir(exist_ok=True)
    cmdline = " ".join([f"root=bootc-live:{source}", "bootc.registry.unsecure", *arguments])
    return program.run("boot", "--dry-run", "--cmdline", cmdline, "--sysroot", root)


@pytest.mark.parametrize("name", ["os/two", "os/three", "os/three-simple", "os/both"])
def test_signed_images_are_used(name: str, program: Program, signed: Signed, tmp_path: Path) -> None:
    ended = booted(program, signed.source(name), tmp_path, f"bootc.trust.key={signed.key.public}").good()
    assert "can be attached" in ended.stderr


@pytest.mark.parametrize("kind", ["ed25519", "p384", "rsa"])
def test_kinds_of_keys(kind: str, program: Program, signed: Signed, tmp_path: Path) -> None:
    key = signed.three.key(f"of-{kind}", kind)
    signed.three.sign(signed.push(f"os/{kind}"), key)
    booted(program, signed.source(f"os/{kind}"), tmp_path, f"bootc.trust.key={key.public}").good()


REFUSED = {
    "unsigned": ("os/unsigned", ["bootc.trust.key={key}"], "there is none beside it"),
    "by another key": ("os/others", ["bootc.trust.key={key}"], "a signature is by none of the keys"),
    "too few": ("os/two", ["bootc.trust.key={key}", "bootc.trust.key={other}", "bootc.trust.threshold=2"], "1 of 2"),
    "too old": ("os/two", ["bootc.trust.notbefore=2026-03-02"], f"was created {CREATED}"),
    "insecure transport": (
        "os/two",
        ["bootc.trust.key={key}", "bootc.trust.require=signature"],
        "wants a signature and a checked connection",
    ),
    "nothing pins it": ("os/two", ["bootc.trust.require=digest"], "nothing pins it, and no key is given"),
    "no such key": ("os/two", ["bootc.trust.key=/nowhere.pub"], "'/nowhere.pub' cannot be read"),
}


@pytest.mark.parametrize("row", REFUSED)
def test_refused(row: str, program: Program, signed: Signed, tmp_path: Path) -> None:
    name, arguments, said = REFUSED[row]
    words = [word.format(key=signed.key.public, other=signed.other.public) for word in arguments]
    assert said in booted(program, signed.source(name), tmp_path, *words).error(said)


def test_enough_keys_and_new_enough(program: Program, signed: Signed, tmp_path: Path) -> None:
    arguments = [f"bootc.trust.key={key.public}" for key in (signed.key, signed.other)]
    arguments += ["bootc.trust.threshold=2", f"bootc.trust.notbefore={CREATED}"]
    booted(program, signed.source("os/both"), tmp_path, *arguments).good()


def test_the_next_source_has_its_turn(program: Program, signed: Signed, tmp_path: Path) -> None:
    arguments = [f"bootc.trust.key={signed.key.public}", f"bootc.live.fallback={signed.source('os/two')}"]
    ended = booted(program, signed.source("os/unsigned"), tmp_path, *arguments).good()
    assert "there is none beside it; going on with the next source" in ended.stderr


def fetched(url: str) -> bytes:
    command = ["curl", "--silent", "--fail", "-H", f"Accept: {MANIFEST}, */*", url]
    return subprocess.run(command, check=True, capture_output=True).stdout


def signature_of(signed: Signed, name: str) -> dict[str, Any]:
    """The manifest of cosign's tag."""
    tag = signed.digests[name].replace(":", "-")
    shown = subprocess.run(
        [
            "curl",
            "--silent",
            "--fail",
            "-H",
            f"Accept: {MANIFEST}",
            f"{signed.registry.url}/v2/{name}/manifests/{tag}.sig",
        ],
        check=True,
        capture_output=True,
    )
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def forged(signed: Signed, name: str, how: str) -> None:
    """Push the image under a name of its own, with a tampered copy of a good signature's document."""
    signed.push(name)
    manifest = signature_of(signed, "os/two")
    entry, tag = manifest["layers"][0], f"{signed.digests[name].replace(':', '-')}.sig"
    payload = fetched(f"{signed.registry.url}/v2/os/two/blobs/{entry['digest']}")
    signature = "dev.cosignproject.cosign/signature"
    if how == "another image":
        other = write_layout(
            signed.layout.with_name("other-image"), Image([Layer(layer(file("x", how)))], architecture=HERE)
        )
        tag = f"{signed.registry.push(f'oci:{other}', f'{name}:1').replace(':', '-')}.sig"
    elif how == "payload":
        payload = payload.replace(b'"optional":null', b'"optional":{} ')
    elif how == "signature":
        entry["annotations"][signature] = entry["annotations"][signature][:-8] + "AAAAAAA="
    elif how == "no base64":
        entry["annotations"][signature] = "!"
    elif how == "no json":
        payload = b"{"
    elif how == "key twice":
        payload = payload.replace(b'{"critical"', b'{"critical":{},"critical"')
    elif how == "huge":
        payload += b" " * 300_000
    entry.update(signed.blob(name, payload))
    signed.blob(name, b"{}")
    manifest["config"] = {"mediaType": "application/vnd.oci.image.config.v1+json", **signed.blob(name, b"{}")}
    if how == "thousands":
        manifest["layers"] = [{**entry, "annotations": {signature: "AAAA"}}] * 1000
    signed.put(name, tag, manifest)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("another image", "a signature names another image, sha256:"),
        ("payload", "a signature is by none of the keys"),
        ("signature", "a signature is by none of the keys"),
        ("no base64", "is not in base64"),
        ("no json", "cannot be used: Expecting"),
        ("key twice", "an object has a name twice"),
        ("huge", "262144 is the limit"),
        ("thousands", "a signature is by none of the keys"),
    ],
)
def test_tampering(how: str, said: str, program: Program, signed: Signed, tmp_path: Path) -> None:
    name = f"forged/{how.replace(' ', '-')}"
    forged(signed, name, how)
    booted(program, signed.source(name), tmp_path, f"bootc.trust.key={signed.key.public}").error(said)


IDENTITIES = [
    ("os/two", {"type": "matchRepository"}, None),
    ("os/two", {"type": "exactRepository", "dockerRepository": "{host}/os/two"}, None),
    ("os/two", {"type": "exactRepository", "dockerRepository": "{host}/os/other"}, "a signature names the repository"),
    ("os/two", None, "a signature names the repository"),
    ("os/copy", {"type": "matchRepository"}, "a signature names the repository"),
    ("os/three", {"type": "matchRepository"}, "a bundle names no repository"),
]


@pytest.mark.parametrize(("name", "identity", "said"), IDENTITIES)
def test_identities(
    name: str, identity: dict[str, str] | None, said: str | None, program: Program, signed: Signed, tmp_path: Path
) -> None:
    """Another repository with the same image and its signatures is another image, if the policy says so."""
    if name == "os/copy":
        digest = signed.digests["os/two"]
        for tag in ("1", f"{digest.replace(':', '-')}.sig"):
            signed.registry.push(
                f"docker://{signed.registry.host}/os/two:{tag}", f"os/copy:{tag}", "--src-tls-verify=false"
            )
    wanted: dict[str, Any] = {"type": "sigstoreSigned", "keyPath": str(signed.key.public)}
    if identity is not None:
        wanted["signedIdentity"] = {key: value.format(host=signed.registry.host) for key, value in identity.items()}
    policy = tmp_path / "policy.json"
    policy.write_text(
        json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {signed.registry.host: [wanted]}}})
    )
    ended = booted(program, signed.source(name), tmp_path, f"bootc.trust.policy={policy}")
    if said is None:
        ended.good()
    else:
        ended.error(said)


def test_signatures_travel_with_layouts_and_archives(program: Program, signed: Signed, tmp_path: Path) -> None:
    """As cosign saves them, and as skopeo copies them: an image and a signature image in one archive."""
    signed.two.save(f"{signed.registry.host}/os/two@{signed.digests['os/two']}", tmp_path / "saved")
    copied, key = tmp_path / "copied", f"bootc.trust.key={signed.key.public}"
    tag = f"{signed.digests['os/two'].replace(':', '-')}.sig"
    skopeo = ["skopeo", "copy", "--quiet", "--insecure-policy", "--src-tls-verify=false"]
    for name in ("1", tag):
        source = f"docker://{signed.registry.host}/os/two:{name}"
        subprocess.run([*skopeo, source, f"oci:{copied}:{name}"], check=True)
    packed = tmp_path / "copied.oci"
    subprocess.run(["tar", "-C", copied, "-cf", packed, "."], check=True)
    other = f"bootc.trust.key={signed.other.public}"
    for place, label in ((tmp_path / "saved", []), (copied, ["bootclabel=1"]), (packed, ["bootclabel=1"])):
        booted(program, str(place), tmp_path, key, *label).good()
        booted(program, str(place), tmp_path, other, *label).error("a signature is by none of the keys")
    subprocess.run(["gzip", "-1", packed], check=True)
    refused = booted(program, f"{packed}.gz", tmp_path, key, "bootclabel=1")
    refused.error("read once from start to end")
    shutil.rmtree(copied)
