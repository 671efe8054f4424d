"""Users of a docker-registry with passwords, the logins that clients keep for them, and what must never be shown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus


@dataclass(frozen=True)
class User:
    """A name, a password, and its bcrypt hash, as `htpasswd -nbB` of Apache prints it."""

    name: str
    password: str
    hashed: str

    @property
    def encoded(self) -> str:
        """Name and password as basic authentication and auth.json have them."""
        return base64.b64encode(f"{self.name}:{self.password}".encode()).decode()

    @property
    def entry(self) -> dict[str, object]:
        """The entry of containers-auth.json(5)."""
        return {"auth": self.encoded}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password in every spelling that could slip into a text."""
        plain = base64.b64encode(self.password.encode()).decode()
        return (
            self.password,
            self.encoded,
            plain,
            quote(self.password),
            quote_plus(self.password),
            json.dumps(self.password)[1:-1],
        )


# Cheap hashes (cost 4): this is about logging in, not about breaking in.
USER: Final = User("somebody", "correct-horse-93", "$2y$04$c4fhnS2QdVwq8mJzYb1L3eUX1RgxlGnF.tVAnPQI9Qko0EqDeIZsS")
# Everything that has to be escaped somewhere.
ODD: Final = User("odd", "pä:ss wörd/+%", "$2y$04$Qw8mJzYb1L3ec4fhnS2QdOSao53gyJ30bfB1U6aS//IUjpN8Ag6M2")
STRANGER: Final = User("stranger", "open-barn-door-88", "")


def htpasswd(path: Path, *users: User) -> Mapping[str, Mapping[str, str]]:
    """The `auth` section of a registry that knows these users; writes its password file to `path`."""
    path.write_text("".join(f"{user.name}:{user.hashed}\n" for user in users))
    return {"htpasswd": {"realm": "test", "path": str(path)}}


def auth_json(logins: Mapping[str, Mapping[str, object]], **more: object) -> str:
    """An auth.json with these entries by key, such as `HOST:PORT/NAMESPACE`."""
    return json.dumps({"auths": logins, **more})
