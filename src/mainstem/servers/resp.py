"""
The few words of RESP that starting and watching a server takes: one connection, a few commands, their replies.

Not for events: no pooling, no pipelining beyond one call, no asyncio. Clients that move data live in the engines.
"""

from __future__ import annotations

import socket
from io import BufferedReader


class Failure(str):
    """An error reply, such as ``LOADING ...`` or ``ERR ...``: returned, not raised, since it is an answer."""

    __slots__ = ()


Reply = str | bytes | int | None | Failure | list["Reply"]


def call(address: str, *commands: tuple[str, ...], timeout: float = 1.0) -> list[Reply]:
    """
    Send commands to the unix socket at ``address`` and return one reply for each.

    Raises OSError when nobody listens, or when a reply takes longer than ``timeout`` seconds.
    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout)
        link.connect(address)
        link.sendall(b"".join(_command(words) for words in commands))
        with link.makefile("rb") as replies:
            return [_reply(replies) for _ in commands]


def info(reply: Reply) -> dict[str, str]:
    """The ``name:value`` lines of an INFO reply; empty when the reply is something else."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _command(words: tuple[str, ...]) -> bytes:
    parts = [word.encode(errors="surrogateescape") for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _reply(replies: BufferedReader) -> Reply:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server closed the connection before it had answered")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        return Failure(rest.decode(errors="replace"))
    if kind == b":":
        return int(rest)
    if kind == b"*":
        return [_reply(replies) for _ in range(int(rest))]
    size = int(rest)
    return None if size < 0 else replies.read(size + 2)[:-2]
