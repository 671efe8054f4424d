"""Pass descriptors to another process through a socket (unix(7), SCM_RIGHTS), without loading Python's network code."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

from bootc_live.system.system_call import Argument, libc_call

_AF_UNIX, _SOCK_STREAM_CLOEXEC = 1, 0o2000001
_SOL_SOCKET, _SCM_RIGHTS, _MSG_CMSG_CLOEXEC = 1, 1, 0x40000000
# struct cmsghdr: length, level, type. struct iovec: address, length. struct msghdr: address and length of a name,
# vectors and their number, control data and its length, flags.
_CONTROL, _VECTOR, _MESSAGE = struct.Struct("Nii"), struct.Struct("PN"), struct.Struct("PIPNPNi0P")
_INT = 4
_MOST_DESCRIPTORS = 8
_PIECE = 1 << 16


def socket_pair() -> tuple[int, int]:
    """Return two connected sockets; raise OSError."""
    pair = ctypes.create_string_buffer(2 * _INT)
    libc_call("socketpair", _AF_UNIX, _SOCK_STREAM_CLOEXEC, 0, pair)
    one, other = struct.unpack("2i", pair.raw)
    return one, other


def send(channel: int, data: bytes, descriptors: Sequence[int]) -> int:
    """Send data with descriptors, and return how many bytes were sent; raise OSError."""
    numbers = struct.pack(f"{len(descriptors)}i0N", *descriptors)
    control = _CONTROL.pack(_CONTROL.size + _INT * len(descriptors), _SOL_SOCKET, _SCM_RIGHTS) + numbers
    buffers = ctypes.create_string_buffer(data, len(data)), ctypes.create_string_buffer(control, len(control))
    return _call("sendmsg", channel, _message(*buffers), 0)


def receive(channel: int) -> tuple[bytes, list[int]]:
    """Return some data, none at the end, and the descriptors that came with it; raise OSError."""
    data = ctypes.create_string_buffer(_PIECE)
    control = ctypes.create_string_buffer(_CONTROL.size + _INT * _MOST_DESCRIPTORS)
    message = _message(data, control)
    count = _call("recvmsg", channel, message, _MSG_CMSG_CLOEXEC)
    descriptors = list[int]()
    if _MESSAGE.unpack(message.raw)[5] >= _CONTROL.size:
        length = _CONTROL.unpack_from(control)[0] - _CONTROL.size
        descriptors += struct.unpack_from(f"{length // _INT}i", control, _CONTROL.size)
    return data.raw[:count], descriptors


def _message(data: ctypes.Array[ctypes.c_char], control: ctypes.Array[ctypes.c_char]) -> ctypes.Array[ctypes.c_char]:
    vector = ctypes.create_string_buffer(_VECTOR.pack(ctypes.addressof(data), len(data)), _VECTOR.size)
    places = ctypes.addressof(vector), 1, ctypes.addressof(control), len(control)
    message = ctypes.create_string_buffer(_MESSAGE.pack(0, 0, *places, 0), _MESSAGE.size)
    # It points to these.
    message.parts = data, control, vector  # type: ignore[attr-defined]
    return message


def _call(name: str, *arguments: Argument) -> int:
    while True:
        try:
            return libc_call(name, *arguments)
        except InterruptedError:
            # As Python's own functions do (PEP 475).
            continue
