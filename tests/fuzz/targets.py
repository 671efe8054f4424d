"""All targets; each has its inputs in corpus/NAME.zip."""

from __future__ import annotations

from typing import Final

from bootc_live.base.errors import BootcLiveError
from bootc_live.config.cmdline.table import KARGS
from tests.fuzz import documents, kernels, lines, names, signatures, tar, trees
from tests.fuzz.target import Target

_ALL: Final = (
    Target(
        "tar",
        tar.headers,
        refusals=(ValueError,),
        largest=4096,
        words=(
            *(b"ustar\0", b"ustar  \0", b"path=", b"linkpath=", b"size=", b"uid=", b"mtime=", b"SCHILY.xattr."),
            *(b"GNU.sparse.major=1\n", b"GNU.sparse.map=", b"GNU.sparse.name=", b"GNU.sparse.realsize="),
            *(b"GNU.sparse.offset=", b"GNU.sparse.numbytes=", b"GNU.sparse.size=", b".wh.", b".wh..wh..opq"),
        ),
    ),
    Target(
        "json",
        documents.documents,
        refusals=(),
        largest=2048,
        words=(
            *(b'"schemaVersion":2', b'"mediaType":', b'"manifests":[', b'"layers":[', b'"config":{', b'"digest":'),
            *(b'"size":', b'"annotations":{', b'"platform":{', b'"architecture":', b'"variant":', b'"os":"linux"'),
            *(b'"rootfs":{', b'"diff_ids":[', b'"artifactType":', b'"fsLayers":', b'"history":', b'"Config":'),
            *(b'"Layers":[', b'"RepoTags":[', b'"auths":{', b'"auth":', b'"credHelpers":{', b'"credsStore":'),
            *(b'"username":', b'"password":', b'"identitytoken":', b'"org.opencontainers.image.ref.name":'),
            *(b"null", b"true", b"NaN", b"1e999", b"\\ud800", b"[[[[[[[[[[[[[[[[", b"sha256:" + b"0" * 64),
            *(b"application/vnd.oci.image.manifest.v1+json", b"application/vnd.oci.image.index.v1+json"),
        ),
    ),
    Target(
        "challenges",
        names.challenges,
        refusals=(),
        largest=512,
        words=(
            *(b"Bearer ", b"Basic ", b"Negotiate ", b'realm="', b'service="', b'scope="', b"https://", b"docker://"),
            *(b"http://me:pw@", b"user:pw@h:1", b"token=", b"?x=", b"bootc-live:", b"proxy=", b"nfs4:", b'\\"', b'", '),
        ),
    ),
    Target(
        "references",
        names.references,
        refusals=(ValueError,),
        largest=512,
        words=(
            *(b"docker.io/", b"library/", b"localhost:5000/", b"[::1]:443/", b"registry-1.docker.io/", b":latest"),
            *(b"@sha256:" + b"0" * 64, b"@sha512:" + b"0" * 128, b"__", b"index.docker.io/"),
        ),
    ),
    Target(
        "cmdline",
        lines.command_line,
        refusals=(BootcLiveError,),
        largest=512,
        words=(
            *(karg.name.encode() + b"=" for karg in KARGS),
            *(word.encode() for karg in KARGS for word in karg.choices),
            *(
                b" -- ",
                b'"',
                b"'",
                b" ip=dhcp",
                b" systemd.setenv=",
                b" rd.neednet=1",
                b"bootc-live:",
                b"docker://h/os",
            ),
            *(
                b"https://h/x.oci",
                b"LABEL=USB:/x",
                b"nfs4:h:/x",
                b"ftp://",
                b"torrent://",
                b"/dev/sda1:/x",
                b"\xc2\xa0",
            ),
            *(b"sha256:" + b"0" * 64, b"8G", b"50%", b"30s", b"bind:0-3", b"http://me:pw@h:1", b"bootc.kexec.append="),
        ),
    ),
    Target(
        "kernels",
        kernels.kernels,
        refusals=(BootcLiveError,),
        largest=4096,
        words=(
            *(b"MZ\0\0zimg", b"PE\0\0", b".profile", b".linux", b".cmdline", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"),
            *(b"\x5d\0\0", b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd"),
        ),
    ),
    Target(
        "cpio",
        kernels.archives,
        refusals=(),
        largest=2048,
        words=(b"070701", b"070702", b"TRAILER!!!\0", b"00000000", b"FFFFFFFF", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"),
    ),
    Target(
        "signatures",
        signatures.documents,
        refusals=(),
        largest=2048,
        words=(
            *(b'"critical":{', b'"identity":{', b'"docker-reference":', b'"image":{', b'"docker-manifest-digest":'),
            *(b'"type":"cosign container image signature"', b'"mediaType":', b'"verificationMaterial":{'),
            *(b'"dsseEnvelope":{', b'"payload":', b'"payloadType":"application/vnd.in-toto+json"', b'"signatures":['),
            *(b'"messageSignature":{', b'"messageDigest":{', b'"algorithm":"SHA2_256"', b'"digest":', b'"sig":'),
            *(b'"default":[', b'"transports":{', b'"docker":{', b'"oci-archive":{"":[', b'"docker-archive":{"":['),
            *(b'{"type":"reject"}', b'{"type":"insecureAcceptAnything"}', b'"type":"sigstoreSigned"', b'"fulcio":{}'),
            *(b'"keyPath":"/k"', b'"keyPaths":["/k"]', b'"keyData":', b'"signedIdentity":{"type":"matchRepository"}'),
            *(b'"exactRepository"', b'"dockerRepository":', b'"dockerReference":', b'"*.example":[', b":443"),
            *(b'"base64Signature":', b"sha256:" + b"0" * 64, b"index.docker.io/", b"\\ud800", b"NaN", b"[[[[[[[["),
        ),
    ),
    Target(
        "keys",
        signatures.keys,
        refusals=(ValueError,),
        largest=2048,
        words=(
            b"-----BEGIN PUBLIC KEY-----\n",
            b"-----END PUBLIC KEY-----\n",
            b"-----BEGIN CERTIFICATE-----\n",
            b"MFkw",
        ),
    ),
    Target("erofs", trees.trees, refusals=(ValueError, BootcLiveError), largest=1024),
)
TARGETS: Final = {target.name: target for target in _ALL}


def _fall_over(data: bytes) -> None:
    assert data[:1] != b"x", "it begins with x"


AWAKE: Final = Target("awake", _fall_over, refusals=(), largest=16)
"""Has a fault, by which a test sees that faults are found."""
