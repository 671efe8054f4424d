"""What signatures withstand: whatever a registry, a mirror or a web server makes of a signed image has its own message.

The table "What is withstood" of docs/signing.md lists the same messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bootc_live.base.errors import BootcLiveError, TrustError
from bootc_live.base.log import Recorder
from bootc_live.config.host.policy import keys_policy, parse_policy
from bootc_live.config.host.trust import Trust
from bootc_live.config.source_spec import parse_source
from bootc_live.image.candidate import looked_up
from bootc_live.source.access import Access
from tests.lib.acquiring import QUICK, Attempted, contents
from tests.lib.archive_members import oci_members
from tests.lib.archive_servers import Asked, Reply, archive_server
from tests.lib.fetching import quiet
from tests.lib.oci_writer import Image, Layer, sha256
from tests.lib.signing import Key
from tests.lib.small_image import HERE
from tests.lib.tar_writer import file, layer

PAGE = Path(__file__).resolve().parents[2] / "docs/signing.md"
TARS = [layer(file("a", "x")), layer(file("b", "y"))]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
CREATED = "2026-03-01T12:00:00Z"


def image(*tars: bytes) -> dict[str, bytes]:
    """The blobs of an image by digest, and the digest of its manifest as that of the empty name."""
    rootfs = {"type": "layers", "diff_ids": [sha256(tar) for tar in tars]}
    config = {"created": CREATED, "os": "linux", "architecture": HERE, "rootfs": rootfs}
    members = oci_members(
        Image([Layer(tar, "none") for tar in tars], architecture=HERE, config=json.dumps(config).encode())
    )
    blobs = {sha256(content): content for content in members.values() if isinstance(content, bytes)}
    index = members["index.json"]
    assert isinstance(index, bytes)
    return {**blobs, "": json.loads(index)["manifests"][0]["digest"].encode()}


@dataclass
class Served:
    """A registry with one signed image: what it has, and how it answers."""

    key: Key
    other: Key
    host: str = "HOST"
    blobs: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, bytes] = field(default_factory=dict)
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    digest: str = ""

    def put(self, *tars: bytes) -> str:
        """Have an image at the tag 1."""
        blobs = image(*tars)
        self.digest = blobs.pop("").decode()
        self.blobs.update(blobs)
        self.tags["1"] = self.blobs[self.digest]
        return self.digest

    def sign(
        self,
        key: Key | None = None,
        *,
        digest: str | None = None,
        reference: str | None = None,
        at: str | None = None,
        change: Callable[[bytes], bytes] = lambda payload: payload,
        times: int = 1,
    ) -> None:
        """Have a signature of the image, or of another, for the image."""
        payload, signature = (key or self.key).simple(digest or self.digest, reference or f"{self.host}/os")
        payload = change(payload)
        self.blobs[sha256(payload)] = payload
        entry: dict[str, Any] = {
            "mediaType": SIMPLE,
            "digest": sha256(payload),
            "size": len(payload),
            "annotations": {SIGNATURE: signature},
        }
        config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"{}"), "size": 2}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [entry] * times}
        self.tags[f"{(at or self.digest).replace(':', '-')}.sig"] = json.dumps(manifest).encode()

    def answer(self, asked: Asked) -> Reply:
        """Give what it has."""
        self.asked.append(asked.path)
        kind, _, name = asked.path.removeprefix("/v2/os/").partition("/")
        if asked.path in self.replies:
            return self.replies[asked.path]
        content = self.tags.get(name, self.blobs.get(name)) if kind == "manifests" else self.blobs.get(name)
        return Reply(404) if content is None else Reply(200, content, {"Content-Type": MANIFEST})

    def access(self, **changes: Any) -> Access:
        """What a boot with the key has."""
        trust = Trust((keys_policy([self.key.public], 1),))
        return Access(**{"tell": quiet, "unsecure": True, "policy": QUICK, "trust": trust, **changes})


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    return Key(tmp_path_factory.mktemp("key")), Key(tmp_path_factory.mktemp("other"))


def look(served: Served, tamper: Callable[[Served], Access | None], reference: str = "HOST/os:1") -> tuple[str, ...]:
    """The keys that signed what the registry has after it was tampered with."""
    with archive_server(served.answer) as server:
        served.host = f"127.0.0.1:{server.port}"
        served.put(*TARS)
        served.sign()
        access = tamper(served) or served.access()
        spec = parse_source(f"docker://{reference.replace('HOST', served.host)}")
        with looked_up(spec, access, Recorder(quiet=True)) as (_, _image, verdict):
            return verdict.keys


def exact(served: Served) -> Access:
    """What a boot with a policy has that wants the signature to name the very image."""
    wanted = {"type": "sigstoreSigned", "keyPath": "/k", "signedIdentity": {"type": "matchRepoDigestOrExact"}}
    policy = parse_policy(json.dumps({"default": [wanted]}).encode(), "/policy.json", lambda _: served.key.public.pem)
    return served.access(trust=Trust((policy,)))


def unsigned(served: Served) -> None:
    served.tags = {"1": served.tags["1"]}


def another_key(served: Served) -> None:
    served.sign(served.other)


def rollback(served: Served) -> Access:
    return served.access(trust=replace(served.access().trust, not_before=datetime(2026, 3, 2, tzinfo=UTC)))


def another_tag(served: Served) -> Access:
    served.sign(reference=f"{served.host}/os:2")
    return exact(served)


def another_repository(served: Served) -> Access:
    served.sign(reference=f"{served.host}/test-os:1")
    return exact(served)


def another_signature(served: Served) -> None:
    served.sign(digest=sha256(b"another"))


def another_image(served: Served) -> None:
    before = served.digest
    served.put(*TARS[:1])
    served.sign(digest=before)


def extra_layer(served: Served) -> None:
    before = served.digest
    served.put(*TARS, layer(file("root/.ssh/authorized_keys", "x")))
    served.sign(digest=before)


def swapped_by_digest(served: Served) -> None:
    served.replies[f"/v2/os/manifests/{served.digest}"] = Reply(200, b"{}", {"Content-Type": MANIFEST})


def another_config(served: Served) -> None:
    digest = json.loads(served.tags["1"])["config"]["digest"]
    served.blobs[digest] = served.blobs[digest].replace(CREATED.encode(), b"2027-01-01T12:00:00Z")


def bomb(served: Served) -> None:
    served.tags["1"] += b" " * 5_000_000


def signature_bomb(served: Served) -> None:
    served.tags[f"{served.digest.replace(':', '-')}.sig"] += b" " * 5_000_000


def deep(served: Served) -> None:
    served.tags["1"] = served.tags["1"].replace(b'"config"', b'"x":' + b"[" * 65 + b"]" * 65 + b',"config"', 1)


def wide(served: Served) -> None:
    served.tags["1"] = served.tags["1"].replace(b'"config"', b'"x":[' + b"[]," * 100_000 + b'1],"config"', 1)


def key_twice(served: Served) -> None:
    served.sign(change=lambda payload: payload.replace(b'{"critical"', b'{"critical":{},"critical"'))


def other_case(served: Served) -> None:
    served.sign(change=lambda payload: payload.replace(b'"optional"', b'"Critical"'))


def algorithm(served: Served) -> None:
    served.sign(digest="md5:d41d8cd98f00b204e9800998ecf8427e")


def short_digest(served: Served) -> None:
    served.sign(digest=served.digest[:-1])


def same_hex(served: Served) -> None:
    served.sign(digest=f"sha512:{served.digest.partition(':')[2] * 2}")


def huge(served: Served) -> None:
    served.sign(change=lambda payload: payload + b" " * 300_000)


def thousands(served: Served) -> None:
    served.sign(change=lambda _payload: b"{}", times=1000)


def of_a_file(served: Served) -> None:
    bundle = served.key.bundle(served.blobs[served.digest])
    served.blobs[sha256(bundle)] = bundle
    tag = f"{served.digest.replace(':', '-')}.sig"
    manifest = json.loads(served.tags[tag])
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    manifest["layers"] = [{"mediaType": kind, "digest": sha256(bundle), "size": len(bundle)}]
    served.tags[tag] = json.dumps(manifest).encode()


def redirect(served: Served) -> None:
    payload = served.key.simple(served.digest, f"{served.host}/os")[0]
    place = Reply(307, headers={"Location": "file:///etc/passwd"})
    served.replies[f"/v2/os/blobs/{sha256(payload)}"] = place


ROWS: dict[str, tuple[Callable[[Served], Access | None], str]] = {
    "no signature": (unsigned, "there is none beside it"),
    "a signature by another key": (another_key, "a signature is by none of the keys"),
    "a rollback": (rollback, "or later"),
    "the image of another tag": (another_tag, "a signature names the repository"),
    "the image of another repository": (another_repository, "a signature names the repository"),
    "the signature of another image": (another_signature, "a signature names another image"),
    "another image with the signature": (another_image, "a signature names another image"),
    "an extra layer": (extra_layer, "a signature names another image"),
    "another config": (another_config, "it must be sha256:"),
    "a bomb": (bomb, "has more than 4194304 bytes"),
    "a bomb of signatures": (signature_bomb, "has more than 4194304 bytes"),
    "deep JSON": (deep, "more than 64 levels deep"),
    "wide JSON": (wide, "more than 100000 brackets and commas"),
    "a name twice": (key_twice, "an object has a name twice"),
    "a name in another case": (other_case, "differs from a known one only in upper and lower case"),
    "another algorithm": (algorithm, "is not a sha256 or sha512 digest"),
    "a short digest": (short_digest, "is not a sha256 or sha512 digest"),
    "the hexadecimal of another algorithm": (same_hex, "a signature names another image"),
    "a huge signature": (huge, "262144 is the limit"),
    "thousands of signatures": (thousands, "there are more than 256 signatures"),
    "the signature of a file in place of one of an image": (of_a_file, "a signature is that of a file"),
    "a redirect to a file": (redirect, "neither http: nor https:"),
}


def test_the_image_itself_is_used(keys: tuple[Key, Key]) -> None:
    assert look(Served(*keys), lambda _: None) == (keys[0].public.name,)


@pytest.mark.parametrize("row", ROWS)
def test_tampering(row: str, keys: tuple[Key, Key]) -> None:
    tamper, said = ROWS[row]
    with pytest.raises(BootcLiveError, match=re.escape(said)) as caught:
        look(Served(*keys), tamper)
    assert caught.value.hint


def test_swapped_by_digest(keys: tuple[Key, Key]) -> None:
    served = Served(*keys)
    digest = image(*TARS)[""].decode()
    with pytest.raises(BootcLiveError, match="it must be sha256:"):
        look(served, swapped_by_digest, f"HOST/os@{digest}")


def test_a_manifest_that_is_swapped_after_the_check(keys: tuple[Key, Key], tmp_path: Path) -> None:
    """A tag is asked for once; everything after that by digest."""
    served = Served(*keys)

    def answer(asked: Asked) -> Reply:
        reply = served.answer(asked)
        if asked.path == "/v2/os/manifests/1":
            served.tags["1"] = b"{}"
        return reply

    with archive_server(answer) as server:
        served.host = f"127.0.0.1:{server.port}"
        served.put(*TARS)
        served.sign()
        wanted = Attempted({"trust": served.access().trust, "unsecure": True})
        made = wanted.acquire(tmp_path / "data", f"docker://{served.host}/os:1")
    assert (made.verdict.signed, contents(made.image)) == (True, TARS)
    assert served.asked.count("/v2/os/manifests/1") == 1


@pytest.mark.parametrize("end", ["\r\nX-Evil: 1", "\nX: 1", "%0d%0aX: 1", " HTTP/1.1\r\n", "\0", "?x=1", "#x", "/../x"])
def test_headers_in_a_reference(end: str, keys: tuple[Key, Key]) -> None:
    served = Served(*keys)
    with pytest.raises(BootcLiveError, match="is not an image reference"):
        look(served, lambda _: None, f"HOST/os:1{end}")
    assert served.asked == []


@pytest.mark.parametrize("status", [401, 500])
def test_secrets_of_a_url_beside_which_a_signature_should_be(status: int, keys: tuple[Key, Key]) -> None:
    said: list[str] = []
    with archive_server(lambda _: Reply(status)) as server:
        url = f"{server.url('/os.oci', login='me:n0b0dy')}?token=n0b0dy"
        access = Served(*keys).access(tell=said.append)
        with (
            pytest.raises(BootcLiveError) as caught,
            looked_up(parse_source(url), access, Recorder(quiet=True)),
        ):
            pass
    assert "n0b0dy" not in f"{caught.value.message} {caught.value.hint} {said}"


def test_what_a_signature_says_is_shown_as_text(keys: tuple[Key, Key]) -> None:
    """A name with a line break or a terminal's sequence is quoted."""

    def tamper(served: Served) -> Access:
        served.sign(reference="x\n\x1b[31m/os")
        return exact(served)

    with pytest.raises(TrustError, match=re.escape(r"names the repository 'x\n\x1b[31m/os'")):
        look(Served(*keys), tamper)


def test_the_page_has_all_messages() -> None:
    page = PAGE.read_text(encoding="utf-8")
    said = {said for _, said in ROWS.values()} | {"is not an image reference", "is a symbolic link"}
    assert not {one for one in said if f"`{one}`" not in page}
