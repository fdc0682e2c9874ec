"""
Reading replies: from the server's shapes to Python's, and from its error codes to ours, in one table.

Nothing here sends, retries or knows a stream. Codes that the engine itself acts on (NOGROUP, NOSCRIPT, BUSYGROUP) are
looked at where they are expected; here they are only ever an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from mainstem.engines.redis.wire import Reply, ReplyError
from mainstem.errors import ConfigError, MainstemError, PermissionDenied, Unavailable

# The first word of an error reply, or the beginning of the text of a bare ERR: the class that answers the caller's
# question, what it means, what to do.
ERRORS: Mapping[str, tuple[type[MainstemError], str, str]] = {
    "NOAUTH": (PermissionDenied, "the server asks for a password", "put it in the URL as redis://user:password@host"),
    "WRONGPASS": (PermissionDenied, "the server refused the user name or password", "check both, percent-encoded"),
    "NOPERM": (PermissionDenied, "the server's ACL refuses this user", "grant it with ACL SETUSER or use another user"),
    "DENIED": (PermissionDenied, "the server is in protected mode", "give it a password or bind it to this address"),
    "OOM": (Unavailable, "the server is out of memory (maxmemory)", "raise maxmemory or shorten what streams retain"),
    "READONLY": (Unavailable, "the server is a read-only replica", "connect to the primary, or wait for the failover"),
    "LOADING": (Unavailable, "the server is loading its data set", "try again shortly"),
    "MISCONF": (Unavailable, "the server cannot write to its disk", "free disk space there and read its log"),
    "CLUSTERDOWN": (Unavailable, "the cluster has no owner for some slots", "bring its missing nodes back"),
    "MASTERDOWN": (Unavailable, "this replica has lost its primary", "connect to the primary or bring it back"),
    "BUSY": (Unavailable, "a script keeps the server busy", "wait, or end it with SCRIPT KILL or FUNCTION KILL"),
    "TRYAGAIN": (Unavailable, "the cluster is moving this slot", "try again shortly"),
    "NOREPLICAS": (Unavailable, "too few replicas are connected (min-replicas-to-write)", "bring the replicas back"),
    "MOVED": (ConfigError, "the server is one node of a cluster", "give the address of a server that is not clustered"),
    "ASK": (ConfigError, "the server is one node of a cluster", "give the address of a server that is not clustered"),
    "CROSSSLOT": (ConfigError, "the server is one node of a cluster", "give the address of a server not clustered"),
    "WRONGTYPE": (ConfigError, "the key holds something that is not a stream", "choose another name or delete the key"),
    "max number of clients": (Unavailable, "the server has no connection left (maxclients)", "raise maxclients"),
    "unknown command": (ConfigError, "the server does not know the command", "use Redis 7.0, Valkey 8 or newer"),
    "AUTH <password> called": (PermissionDenied, "the server has no password", "remove it from the URL"),
    "invalid password": (PermissionDenied, "the server refused the password", "check it, percent-encoded"),
    "DB index is out of range": (ConfigError, "the server has no such database", "choose a lower number"),
    "invalid DB index": (ConfigError, "the server has no such database", "choose a lower number"),
    "SELECT is not allowed": (ConfigError, "a cluster has only database 0", "leave the database out of the URL"),
}


def translate(error: ReplyError, context: str) -> MainstemError:
    """
    The error to raise for an error reply; ``context`` is what was tried, as in ``"publish to 'orders' on host:6379"``.

    The reply stays its ``__cause__``. A code that is in no table is a plain MainstemError with the server's own words.
    """
    kind, meaning, remedy = _entry(error)
    translated = kind(f"cannot {context}: {meaning} ({_brief(error.text)}): {remedy}.")
    translated.__cause__ = error
    return translated


def checked(reply: Reply, context: str) -> Reply:
    """The reply, or the translated error if it is one."""
    if isinstance(reply, ReplyError):
        raise translate(reply, context)
    return reply


def pairs(reply: Reply) -> dict[bytes, Reply]:
    """A flat list of names and values, the form RESP2 gives to every map, as a dict."""
    flat = items(reply)
    return {data(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def items(reply: Reply) -> list[Reply]:
    """A list; nil, which the server answers for "none", is an empty one."""
    if reply is None:
        return []
    return reply if isinstance(reply, list) else _unexpected("a list", reply)


def data(reply: Reply) -> bytes:
    """A string."""
    return reply if isinstance(reply, bytes) else _unexpected("a string", reply)


def integer(reply: Reply) -> int:
    """A number, also where the server writes it as a string."""
    if isinstance(reply, bytes) and reply.lstrip(b"-").isdigit():
        return int(reply)
    return reply if isinstance(reply, int) else _unexpected("a number", reply)


def _entry(error: ReplyError) -> tuple[type[MainstemError], str, str]:
    if error.code != "ERR" and error.code in ERRORS:
        return ERRORS[error.code]
    words = error.text.removeprefix("ERR ")
    for start, entry in ERRORS.items():
        if words.startswith(start):
            return entry
    return MainstemError, "the server answered with an error", "its log and the documentation of that code say more"


def _brief(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= 200 else f"{line[:197]}..."


def _unexpected(wanted: str, reply: Reply) -> NoReturn:
    if isinstance(reply, ReplyError):
        raise translate(reply, "read the reply")
    raise MainstemError(f"the server answered {reply!r:.100} where {wanted} was expected: is it Redis or Valkey?")
