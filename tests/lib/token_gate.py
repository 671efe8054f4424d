"""Logins in front of a faulty server: bearer tokens that run out, passwords, and a record of what was shown.

Follows the token authentication of the distribution project, with opaque tokens.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections import Counter
from typing import Final

from tests.lib.fault_messages import Answer, Request, whole
from tests.lib.faults import BLOBS, TOKEN

SERVICE: Final = "test-registry"


class TokenGate:
    """Lets requests pass that show one of its tokens; gives them at `/token`, to everybody or for a `login`.

    A token is good for `uses` requests for blobs, or for ever; and for a request that was refused with an older one, as
    others may have used it up meanwhile (with 0 uses no token ever helps). `basic` does without tokens: every request
    shows the login. `tokens` are all that were given; `refused` counts wrong logins, `expired` requests with a used-up
    token.
    """

    def __init__(self, *, uses: int | None = None, login: tuple[str, str] | None = None, basic: bool = False) -> None:
        assert login or not basic, "a password needs somebody it belongs to"
        self._uses, self._basic = uses, basic
        self._login = "" if login is None else f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"
        self._lock = threading.Lock()
        self._used: Counter[str] = Counter()
        self._refused: dict[str, int] = {}
        self.tokens: list[str] = []
        self.refused = 0
        self.expired = 0

    def answer(self, request: Request) -> Answer | None:
        """See `Guard`."""
        with self._lock:
            if self._basic:
                return None if self._knows(request) else self._wanted('Basic realm="test"')
            if request.path == TOKEN:
                return self._give() if self._knows(request) else self._wanted('Basic realm="test"')
            if self._good(request):
                return None
            name = request.path.removeprefix("/v2/").rpartition(BLOBS)[0] or "os"
            scope = f'realm="{request.base}{TOKEN}",service="{SERVICE}",scope="repository:{name}:pull"'
            return self._wanted(f"Bearer {scope}")

    def _knows(self, request: Request) -> bool:
        shown = request.header("Authorization")
        known = not self._login or shown == self._login
        self.refused += bool(shown) and not known
        return known

    def _give(self) -> Answer:
        self.tokens.append(f"secret-token-{secrets.token_hex(8)}")
        given = {"token": self.tokens[-1], "access_token": self.tokens[-1], "expires_in": 300}
        return whole(200, json.dumps(given).encode(), {"Content-Type": "application/json"})

    def _good(self, request: Request) -> bool:
        shown = request.header("Authorization").removeprefix("Bearer ")
        if shown not in self.tokens:
            return False
        newer = self.tokens.index(shown) > self._refused.get(request.path, len(self.tokens))
        if self._uses is not None and self._used[shown] >= self._uses and not (newer and self._uses):
            self.expired += 1
            self._refused[request.path] = self.tokens.index(shown)
            return False
        self._used[shown] += BLOBS in request.path
        return True

    @staticmethod
    def _wanted(challenge: str) -> Answer:
        error = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]})
        return whole(401, error.encode(), {"Www-Authenticate": challenge, "Content-Type": "application/json"})
