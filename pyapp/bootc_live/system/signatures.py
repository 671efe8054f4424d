"""Verify signatures with libcrypto (OpenSSL): ECDSA on P-256 and P-384, Ed25519 and Ed25519ph, RSA with PKCS #1 v1.5.

No cryptography is implemented here: EVP_DigestVerify(3) and EVP_PKEY_verify(3) do all of it.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache, cached_property

_LIBRARIES = ("libcrypto.so.3", "libcrypto.so.4", "libcrypto.so.1.1")
# The numbers of key types in OpenSSL's object database, which never change.
_RSA, _EC, _ED25519 = 6, 408, 1087
# Accepted sizes in bits, and the methods that cosign uses with each type. Ed25519 hashes by itself: its method is an
# instance of RFC 8032, of which OpenSSL before 3.2 knows only the first.
_SIZES = {_RSA: range(2048, 16385), _EC: (256, 384), _ED25519: (256, 253)}
_METHODS = {_RSA: (b"SHA256",), _EC: (b"SHA256", b"SHA384"), _ED25519: (b"Ed25519", b"Ed25519ph")}
# How keys on P-256 and P-384 begin, with the curve by name and an uncompressed point: each key has one form then.
_CURVES = (
    bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
)
_UTF8_STRING = 4
_FUNCTIONS = {
    "BIO_new_mem_buf": (c_void_p, (c_char_p, c_int)),
    "BIO_free": (c_int, (c_void_p,)),
    "PEM_read_bio_PUBKEY": (c_void_p, (c_void_p, c_void_p, c_void_p, c_void_p)),
    "EVP_PKEY_free": (None, (c_void_p,)),
    "EVP_MD_CTX_new": (c_void_p, ()),
    "EVP_MD_CTX_free": (None, (c_void_p,)),
    "EVP_get_digestbyname": (c_void_p, (c_char_p,)),
    "EVP_DigestVerifyInit": (c_int, (c_void_p, c_void_p, c_void_p, c_void_p, c_void_p)),
    "EVP_DigestVerifyInit_ex": (c_int, (c_void_p, c_void_p, c_char_p, c_void_p, c_char_p, c_void_p, c_void_p)),
    "EVP_PKEY_CTX_new": (c_void_p, (c_void_p, c_void_p)),
    "EVP_PKEY_CTX_free": (None, (c_void_p,)),
    "EVP_PKEY_verify_init": (c_int, (c_void_p,)),
    "EVP_PKEY_CTX_set_signature_md": (c_int, (c_void_p, c_void_p)),
    "EVP_PKEY_verify": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)),
    "EVP_DigestVerify": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t)),
    "i2d_PUBKEY": (c_int, (c_void_p, c_void_p)),
    "ERR_clear_error": (None, ()),
}


@dataclass(frozen=True)
class PublicKey:
    """A public key in PEM; ``name`` says where it is from."""

    pem: bytes
    name: str

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the key in DER, which identifies it however it is written; raise as ``check``."""
        library = _library()
        with _loaded(library, self.pem) as (key, _):
            return f"sha256:{hashlib.sha256(_der(library, key)).hexdigest()}"

    def check(self) -> None:
        """Raise ValueError for what is no key, one that is not accepted, and without libcrypto."""
        with _loaded(_library(), self.pem):
            pass

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Return whether this key made the signature of these bytes; raise as ``check``."""
        library = _library()
        with _loaded(library, self.pem) as (key, kind):
            return any(_verify(library, key, name, signature, signed) for name in _METHODS[kind])

    def verifies_digest(self, signature: bytes, digest: str) -> bool:
        """Return whether this key made the signature of a file with a digest, such as ``sha256:…``.

        Raise as ``check``, and ValueError for Ed25519, which signs the file itself, not its digest.
        """
        library = _library()
        algorithm, _, encoded = digest.partition(":")
        with _loaded(library, self.pem) as (key, kind):
            if kind == _ED25519:
                raise ValueError("Ed25519 keys cannot check signatures of files: sign them with an ECDSA or RSA key")
            if not hasattr(library, "EVP_PKEY_CTX_set_signature_md"):
                raise ValueError("signatures of files need OpenSSL 3")
            return algorithm.upper().encode() in _METHODS[kind] and _verify_digest(
                library, key, algorithm, signature, bytes.fromhex(encoded)
            )


@cache
def _library() -> ctypes.CDLL:
    failure: OSError | None = None
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            failure = failure or error
            continue
        for function, (result, arguments) in _FUNCTIONS.items():
            # OpenSSL 1.1 lacks the newer ones.
            if hasattr(library, function):
                getattr(library, function).restype = result
                getattr(library, function).argtypes = arguments
        return library
    raise ValueError(f"no OpenSSL library is there to check it with ({failure})")


@contextmanager
def _loaded(library: ctypes.CDLL, pem: bytes) -> Iterator[tuple[int, int]]:
    """Give the handle and the type of a key."""
    with ExitStack() as stack:
        buffer = library.BIO_new_mem_buf(pem, len(pem))
        if not buffer:
            raise MemoryError
        stack.callback(library.BIO_free, buffer)
        if pem.count(b"-----BEGIN ") > 1:
            raise ValueError("it contains several keys: put each into a file of its own")
        key = library.PEM_read_bio_PUBKEY(buffer, None, None, None)
        library.ERR_clear_error()
        if not key:
            raise ValueError("it contains no public key in PEM (-----BEGIN PUBLIC KEY-----)")
        stack.callback(library.EVP_PKEY_free, key)
        kind, bits = (_number(library, name, key) for name in ("base_id", "bits"))
        if bits not in _SIZES.get(kind, ()) or (kind == _EC and not _der(library, key).startswith(_CURVES)):
            raise ValueError(
                "its kind is not accepted: use ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 bits or more"
            )
        yield key, kind


def _der(library: ctypes.CDLL, key: int) -> bytes:
    """Return a key as a SubjectPublicKeyInfo (RFC 5280)."""
    size = library.i2d_PUBKEY(key, None)
    if size <= 0:
        raise ValueError("it cannot be encoded")
    buffer = ctypes.create_string_buffer(size)
    # It moves the pointer that it is given.
    library.i2d_PUBKEY(key, ctypes.byref(ctypes.c_void_p(ctypes.addressof(buffer))))
    return buffer.raw


def _number(library: ctypes.CDLL, name: str, key: int) -> int:
    # OpenSSL 3 renamed it.
    function = getattr(library, f"EVP_PKEY_get_{name}", None) or getattr(library, f"EVP_PKEY_{name}")
    function.restype, function.argtypes = c_int, (c_void_p,)
    return int(function(key))


class _Parameter(ctypes.Structure):
    """OSSL_PARAM(3)."""

    _fields_ = (
        ("key", c_char_p),
        ("data_type", ctypes.c_uint),
        ("data", c_void_p),
        ("data_size", c_size_t),
        ("return_size", c_size_t),
    )


def _verify(library: ctypes.CDLL, key: int, method: bytes, signature: bytes, signed: bytes) -> bool:
    context = library.EVP_MD_CTX_new()
    if not context:
        raise MemoryError
    try:
        if not _begin(library, context, key, method):
            return False
        # 0 is a wrong signature, a negative number one that is damaged.
        return bool(library.EVP_DigestVerify(context, signature, len(signature), signed, len(signed)) == 1)
    finally:
        library.EVP_MD_CTX_free(context)
        library.ERR_clear_error()


def _verify_digest(library: ctypes.CDLL, key: int, algorithm: str, signature: bytes, digest: bytes) -> bool:
    context = library.EVP_PKEY_CTX_new(key, None)
    if not context:
        raise MemoryError
    try:
        hashing = library.EVP_get_digestbyname(algorithm.upper().encode())
        return bool(
            library.EVP_PKEY_verify_init(context) == 1
            and library.EVP_PKEY_CTX_set_signature_md(context, hashing) == 1
            and library.EVP_PKEY_verify(context, signature, len(signature), digest, len(digest)) == 1
        )
    finally:
        library.EVP_PKEY_CTX_free(context)
        library.ERR_clear_error()


def _begin(library: ctypes.CDLL, context: int, key: int, method: bytes) -> bool:
    """Prepare to verify; return whether the library can."""
    if method == b"Ed25519ph":
        if not hasattr(library, "EVP_DigestVerifyInit_ex"):
            return False
        name = ctypes.create_string_buffer(method)
        parameters = (_Parameter * 2)(_Parameter(b"instance", _UTF8_STRING, ctypes.addressof(name), len(method)))
        return bool(library.EVP_DigestVerifyInit_ex(context, None, None, None, None, key, parameters) == 1)
    hashing = None if method == b"Ed25519" else library.EVP_get_digestbyname(method)
    return bool(library.EVP_DigestVerifyInit(context, None, hashing, None, key) == 1)
