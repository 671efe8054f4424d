"""Sockets with a deadline, so that a server cannot delay it with useless headers, chunk sizes or trailers."""

from __future__ import annotations

import math
import socket
import ssl
import time
from typing import Any


class Deadline:
    """The deadline of one connection for the bytes that it waits for."""

    def __init__(self, seconds: float) -> None:
        """Allow ``seconds`` for the headers of a response, and for each chunk of its body."""
        self._seconds = seconds
        self._end = math.inf

    def begin(self) -> None:
        """Start the time for the headers of a response, or for the next chunk of its body."""
        self._end = time.monotonic() + self._seconds

    def left(self) -> float:
        """Return the seconds until the deadline; raise TimeoutError after it."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no complete response, or chunk of it, arrived in {self._seconds:g} s")
        return left


class _WithDeadline:
    """A mixin for socket classes."""

    deadline: Deadline | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.deadline is not None:
            self.settimeout(self.deadline.left())  # type: ignore[attr-defined]
        received: int = super().recv_into(*args, **kwargs)  # type: ignore[misc]
        return received


class DeadlineSocket(_WithDeadline, socket.socket):
    """A socket whose reads end at its deadline."""

    @classmethod
    def replace(cls, plain: socket.socket, deadline: Deadline) -> DeadlineSocket:
        """Return a socket with the connection of ``plain``, which cannot be used any more."""
        timeout = plain.gettimeout()
        replacement = cls(plain.family, plain.type, plain.proto, plain.detach())
        replacement.settimeout(timeout)
        replacement.deadline = deadline
        return replacement


class DeadlineTLSSocket(_WithDeadline, ssl.SSLSocket):
    """A TLS socket with a deadline. SSL contexts create it, so its deadline is set later."""
