"""Sockets that stop waiting: what a server sends to look busy, in headers, chunk sizes or trailers, gains no time."""

from __future__ import annotations

import math
import socket
import ssl
import time
from typing import Any


class Deadline:
    """Until when the bytes that are waited for must be there; one for each connection."""

    def __init__(self, patience: float) -> None:
        """``patience`` is how many seconds an answer's headers, and each piece of its body, may take."""
        self._patience = patience
        self._end = math.inf

    def begin(self) -> None:
        """Start the time for the headers of an answer, or for the next piece of its body."""
        self._end = time.monotonic() + self._patience

    def left(self) -> float:
        """Return the seconds that are left; raise TimeoutError where there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer, or no piece of it, was complete after {self._patience:g} s")
        return left


class _Patient:
    """Mixed into a socket class."""

    deadline: Deadline | None = None

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        if self.deadline is not None:
            self.settimeout(self.deadline.left())  # type: ignore[attr-defined]
        received: int = super().recv_into(*args, **kwargs)  # type: ignore[misc]
        return received


class PatientSocket(_Patient, socket.socket):
    """A socket whose readers wait until its deadline."""

    @classmethod
    def instead_of(cls, plain: socket.socket, deadline: Deadline) -> PatientSocket:
        """Return a socket that takes the place of another one, which is no more."""
        timeout = plain.gettimeout()
        patient = cls(plain.family, plain.type, plain.proto, plain.detach())
        patient.settimeout(timeout)
        patient.deadline = deadline
        return patient


class PatientTLSSocket(_Patient, ssl.SSLSocket):
    """The same for TLS; contexts make them, so that the deadline comes later."""
