"""Calls that belong in one place only: starting processes, leaving the process, printing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

PROCESSES = re.compile(
    r"(subprocess|multiprocessing|pty|popen2)(\..*)?"
    r"|os\.(fork|forkpty|system|popen|exec\w+|spawn\w+|posix_spawnp?)"
    r"|asyncio\.(subprocess.*|create_subprocess_\w+)"
)
Pattern = re.Pattern[str]
EXITS = re.compile(r"sys\.exit|os\.(_exit|abort)|SystemExit|exit|quit|traceback\.print_\w+|sys\.(last|except)\w*hook")


OUTPUT = re.compile(r"print|sys\.(__)?std(out|err)(__)?(\..*)?|warnings\.(warn|show)\w*|logging(\..*)?")


# Ways to send a request that follow redirects, keep cookies or read the environment, and the adapters below.
REQUESTS = re.compile(
    r"requests\.((api|sessions|adapters)(\..*)?|request|get|post|put|patch|delete|head|options|[sS]ession|HTTPAdapter)"
    r"|urllib3\.(request|\w*[pP]ool\w*|poolmanager(\..*)?|connection_from_url|proxy_from_url)"
    r"|urllib\.request(\..*)?|http\.client(\..*)?|http\.cookiejar(\..*)?|ftplib(\..*)?"
    r"|oras\.client(\..*)?"
)


def uses(source: str, forbidden: Pattern) -> list[str]:
    """`line: name` for every use of a name that `forbidden` matches as a whole, whatever it was imported as."""
    tree = ast.parse(source)
    aliases = dict(_aliases(tree))
    found = {(line, name) for line, name in _names(tree, aliases) if forbidden.fullmatch(name)}
    return [f"{line}: {name}" for line, name in sorted(found)]


def _aliases(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def _names(tree: ast.Module, aliases: dict[str, str]) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.Name(id=name):
                yield node.lineno, aliases.get(name, name)
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                yield node.lineno, f"{aliases.get(owner, owner)}.{attribute}"
