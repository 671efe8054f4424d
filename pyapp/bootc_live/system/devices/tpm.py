"""Extend PCRs of a TPM 2.0, and log that as systemd does (systemd.io/TPM2_PCR_MEASUREMENTS).

Commands are those of the TPM 2.0 Library Specification, part 3. The kernel's device takes and gives them as they are.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bootc_live.base.errors import RunError
from bootc_live.system.files import write_all

# The kernel makes this device only for a TPM 2.0.
_DEVICE = "/dev/tpmrm0"
# There if the firmware has a TPM 2.0: its driver may not be loaded yet.
_FIRMWARE = "/sys/firmware/acpi/tables/TPM2"
_LOG = "/run/log/systemd/tpm2-measure.log"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Seconds to wait for the driver.
_TIMEOUT, _STEP = 10.0, 0.05

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_GET_CAPABILITY, _PCR_EXTEND = 0x17A, 0x182
_CAP_PCRS = 5
# The authorization by an empty password: TPM_RS_PW, no nonce, no attributes, no password.
_NO_PASSWORD = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
_HEADER = struct.Struct(">HII")
_LARGEST_ANSWER = 4096
# Algorithms of banks (TCG Algorithm Registry), by their names in hashlib.
_ALGORITHMS = {
    0x04: "sha1",
    0x0B: "sha256",
    0x0C: "sha384",
    0x0D: "sha512",
    0x12: "sm3",
    0x27: "sha3_256",
    0x28: "sha3_384",
    0x29: "sha3_512",
}
_HINT = "check the TPM"


def tpm_obstacle() -> str:
    """Return why nothing can be measured here, or an empty string; wait for a driver that is being loaded."""
    deadline = time.monotonic() + _TIMEOUT
    while not os.path.exists(_DEVICE):
        if not os.path.exists(_FIRMWARE):
            return "this machine has no TPM 2.0"
        if time.monotonic() > deadline:
            return "the kernel has no driver for this machine's TPM 2.0"
        time.sleep(_STEP)
    return ""


def extend(pcr: int, text: str) -> None:
    """Extend a PCR with the digest of a text, in all banks, and log that; raise RunError."""
    try:
        with _opened_tpm() as tpm:
            digests = {bank: _digest(bank, os.fsencode(text)) for bank in _banks(tpm, pcr)}
            if not digests:
                raise RunError(f"the TPM has no bank with PCR {pcr}", hint="activate a bank in the firmware's settings")
            with _event_log() as log:
                _call(tpm, _SESSIONS, _PCR_EXTEND, _extension(pcr, digests))
                write_all(log, _record(pcr, digests, text))
    except OSError as error:
        raise RunError(f"cannot extend PCR {pcr}: {error.strerror}", hint=_HINT) from error


@contextmanager
def _opened_tpm() -> Iterator[int]:
    # Tests have a terminal in its place, which must not become that of their session.
    tpm = os.open(_DEVICE, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield tpm
    finally:
        os.close(tpm)


@contextmanager
def _event_log() -> Iterator[int]:
    """Open the log for a record of what the block does; an error leaves it marked as incomplete, as systemd does.

    That mark is the sticky bit.
    """
    os.makedirs(os.path.dirname(_LOG), exist_ok=True)
    log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(log, fcntl.LOCK_EX)
        mode = stat.S_IMODE(os.fstat(log).st_mode)
        if mode & stat.S_ISVTX:
            raise RunError(f"{_LOG} lacks an earlier measurement of this boot", hint=_HINT)
        os.fchmod(log, mode | stat.S_ISVTX)
        yield log
        os.fchmod(log, mode)
    finally:
        os.close(log)


def _banks(tpm: int, pcr: int) -> list[int]:
    """Return the algorithms of the active banks that have a PCR (TPM2_GetCapability, TPML_PCR_SELECTION)."""
    answer = _call(tpm, _NO_SESSIONS, _GET_CAPABILITY, struct.pack(">III", _CAP_PCRS, 0, 1))
    found, at = [], 9
    try:
        (count,) = struct.unpack_from(">I", answer, at - 4)
        for _ in range(count):
            algorithm, size = struct.unpack_from(">HB", answer, at)
            selected = int.from_bytes(answer[at + 3 : at + 3 + size], "little")
            at += 3 + size
            if selected >> pcr & 1:
                found.append(algorithm)
    except struct.error as error:
        raise RunError("the TPM does not say which banks it has", hint=_HINT) from error
    return found


def _digest(bank: int, data: bytes) -> bytes:
    """Return the digest for a bank; raise RunError if nobody here can compute it: no bank may be left out."""
    try:
        return hashlib.new(_ALGORITHMS[bank], data).digest()
    except (KeyError, ValueError) as error:
        raise RunError(
            f"the TPM has a bank of the algorithm {_ALGORITHMS.get(bank, hex(bank))!r}, which is not known here",
            hint="deactivate that bank in the firmware's settings",
        ) from error


def _extension(pcr: int, digests: Mapping[int, bytes]) -> bytes:
    """Return what follows the header of TPM2_PCR_Extend."""
    values = b"".join(struct.pack(">H", bank) + digest for bank, digest in digests.items())
    return struct.pack(">II", pcr, len(_NO_PASSWORD)) + _NO_PASSWORD + struct.pack(">I", len(digests)) + values


def _call(tpm: int, tag: int, command: int, body: bytes) -> bytes:
    """Let the TPM execute a command; return what follows the header of its answer. Raise OSError and RunError."""
    # The kernel wants a whole command in one call, and gives a whole answer.
    os.write(tpm, _HEADER.pack(tag, _HEADER.size + len(body), command) + body)
    answer = os.read(tpm, _LARGEST_ANSWER)
    code = _HEADER.unpack_from(answer)[2] if len(answer) >= _HEADER.size else -1
    if code:
        raise RunError(f"the TPM answers a command with the error {code:#x}", hint=_HINT)
    return answer[_HEADER.size :]


def _record(pcr: int, digests: Mapping[int, bytes], text: str) -> bytes:
    """Return a record of the log: a subset of CEL-JSON of the TCG, in a JSON text sequence (RFC 7464)."""
    with open(_BOOT_ID, encoding="ascii") as file:
        boot = file.read().strip().replace("-", "")
    content = {
        "eventType": "phase",
        "string": os.fsencode(text).decode(errors="backslashreplace"),
        "bootId": boot,
        "timestamp": time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000,
    }
    hashes = [{"hashAlg": _ALGORITHMS[bank], "digest": digest.hex()} for bank, digest in digests.items()]
    record = {"pcr": pcr, "digests": hashes, "content_type": "systemd", "content": content}
    return b"\x1e" + json.dumps(record, separators=(",", ":")).encode() + b"\n"
