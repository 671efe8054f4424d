"""Read what an image must be signed with: policies and keys of the initramfs, credentials, and the kernel command line.

What is packed into the initramfs cannot be weakened by the kernel command line, which a boot server may choose: every
policy must be met, and ``bootc.trust.insecure`` counts only where the initramfs allows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from bootc_live.base.advice import advise
from bootc_live.base.errors import ConfigError
from bootc_live.config.host.policy import Policy, keys_policy, parse_policy, read_key
from bootc_live.config.model import Require, TrustConfig

_POLICY, _KEYS = "/etc/bootc-live/policy.json", "/etc/bootc-live/keys"
_CONTAINERS_POLICY = "/etc/containers/policy.json"
_ALLOW_INSECURE = "/etc/bootc-live/allow-insecure"
_CREDENTIALS = "/run/credentials/@system"
# Of one key or policy.
_LARGEST = 2**20
# Gives the content of a file, or raises ValueError.
Read = Callable[[str], bytes]


@dataclass(frozen=True)
class Trust:
    """What must be true of an image: all ``policies`` are met, ``require`` too, and it is not older than a time.

    ``unchecked`` tells that somebody switched policies off; ``warning`` is what to tell about it.
    """

    policies: tuple[Policy, ...] = ()
    require: Require = Require.NONE
    not_before: datetime | None = None
    unchecked: bool = False
    warning: str = ""


def read_trust(config: TrustConfig, root: str = "/") -> Trust:
    """Return the trust that files below ``root`` and the kernel command line ask for; raise ConfigError."""
    packed = tuple(_packed(root))
    added = tuple(_added(config, root))
    locked = bool(packed) and not os.path.isfile(_below(root, _ALLOW_INSECURE))
    if config.insecure and not locked:
        warning = "INSECURE: signatures are NOT checked, as bootc.trust.insecure asks for"
        return Trust((), config.require, config.not_before, unchecked=True, warning=warning)
    warning = f"bootc.trust.insecure is ignored: {packed[0].origin} is locked" if config.insecure else ""
    return Trust((*packed, *added), config.require, config.not_before, warning=warning)


def desk_trust(keys: Sequence[str], policy: str | None, read: Read | None = None) -> Trust:
    """Return the trust that the options of a command ask for, whatever is packed here; raise ConfigError.

    ``read`` gives the files, by default those that are here.
    """
    policies = [_policy(read or _read, policy, 1)] if policy is not None else []
    return Trust((*policies, *([_policy_of_keys(read or _read, list(keys), 1)] if keys else [])))


@dataclass(frozen=True)
class TrustFiles:
    """The policy and the keys that options of a command named, with all files that these are in, by their paths.

    Another machine can ask for the same with them. The content is text, a character for each byte.
    """

    policy: str | None = None
    keys: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    @property
    def trust(self) -> Trust:
        """Return what they ask for; raise ConfigError."""
        return desk_trust(self.keys, self.policy, self._read)

    def _read(self, path: str) -> bytes:
        if path not in self.files:
            raise ValueError(f"{path!r} is not among the files that were kept")
        return self.files[path].encode("latin-1")


def trust_files(keys: Sequence[str], policy: str | None) -> TrustFiles:
    """Read all files of the options of a command; raise ConfigError."""
    files: dict[str, str] = {}

    def read(path: str) -> bytes:
        content = _read(path)
        files[path] = content.decode("latin-1")
        return content

    desk_trust(keys, policy, read)
    return TrustFiles(policy, tuple(keys), files)


def _packed(root: str) -> Iterator[Policy]:
    read = _reader(root)
    names = _names(_below(root, _KEYS))
    keys = [f"{_KEYS}/{name}" for name in names or ()]
    wrong = [name for name in names or () if not name.endswith(".pub")]
    if wrong or names == []:
        what = f"the file {wrong[0]!r}" if wrong else "no key"
        raise ConfigError(
            f"{_KEYS!r} of the initramfs contains {what}", hint="give each public key a name that ends in .pub"
        )
    if os.path.lexists(_below(root, _POLICY)):
        yield _policy(read, _POLICY, 1)
    elif keys:
        yield _policy_of_keys(read, keys, 1)
    if os.path.lexists(_below(root, _CONTAINERS_POLICY)):
        yield _policy(read, _CONTAINERS_POLICY, 1)


def _added(config: TrustConfig, root: str) -> Iterator[Policy]:
    read = _reader(root)
    credentials = [f"{_CREDENTIALS}/bootc-live.{name}" for name in ("policy", "key")]
    policy, key = (path if os.path.isfile(_below(root, path)) else None for path in credentials)
    if config.policy is not None:
        yield _policy(read, config.policy, config.threshold)
    if config.keys:
        yield _policy_of_keys(read, list(config.keys), config.threshold)
    # Policies of their own: a credential must not stand in for a key of the command line.
    if policy is not None:
        yield _policy(read, policy, 1)
    if key is not None:
        yield _policy_of_keys(read, [key], 1)


def _policy(read: Read, path: str, threshold: int) -> Policy:
    try:
        content = read(path)
    except ValueError as error:
        hint = advise("pack it into the initramfs, or correct bootc.trust.policy=", "name a policy with --policy")
        raise ConfigError(f"the policy {error}", hint=hint) from error
    return parse_policy(content, path, read, threshold)


def _policy_of_keys(read: Read, paths: list[str], threshold: int) -> Policy:
    hint = advise("pack the key into the initramfs, or correct bootc.trust.key=", "name a public key with --key")
    try:
        keys = [read_key(path, read) for path in paths]
    except ValueError as error:
        raise ConfigError(str(error), hint=hint) from error
    if len({key.fingerprint for key in keys}) < threshold:
        raise ConfigError(
            f"'bootc.trust.threshold={threshold}' asks for more signatures than there are different keys", hint=hint
        )
    return keys_policy(keys, threshold)


def _reader(root: str) -> Read:
    return lambda path: _read(_below(root, path))


def _read(path: str) -> bytes:
    """Return the content of a file that is no link: whoever could change a link's target would choose the key."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        reason = "is a symbolic link" if os.path.islink(path) else f"cannot be read: {error.strerror}"
        raise ValueError(f"{path!r} {reason}") from error
    if len(content) > _LARGEST:
        raise ValueError(f"{path!r} is larger than 1 MiB")
    return content


def _names(directory: str) -> list[str] | None:
    """Return the names in a directory, None if there is no directory; raise ConfigError for one that cannot be read."""
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{directory!r} cannot be read: {error.strerror}", hint="build the initramfs anew") from error


def _below(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))
