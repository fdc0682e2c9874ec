"""
The seam between the Redis engine and a socket: what a connection is, whoever implements it.

Only the contract, its values and its errors live here. No socket, no retry, no stream: ``fast`` and ``plain`` carry the
bytes, ``link`` reconnects, the engine above knows what the commands mean. The errors are internal to the engine, which
answers its callers with Unavailable for NotSent and OutcomeUnknown for ReplyLost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, TypeAlias

HIGH_WATER = 1 << 20
"""Bytes on their way out from which ``drain`` waits."""


class ReplyError(Exception):
    """An error reply of the server, a value like any other reply: ``code`` is its first word (``NOGROUP``)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = text.partition(" ")[0]


Reply: TypeAlias = "bytes | int | list[Reply] | ReplyError | None"


class ConnectionGone(Exception):
    """The connection ended before a command was answered. ``__cause__`` says what ended it, where that is known."""


class NotSent(ConnectionGone):
    """No byte of the command was handed to the system: the server certainly did not apply it."""


class ReplyLost(ConnectionGone):
    """The command may have been applied. ``replies`` are the first ones of a batch, as far as they had arrived."""

    def __init__(self, message: str, replies: Sequence[Reply] = ()) -> None:
        super().__init__(message)
        self.replies = tuple(replies)


class Wire(Protocol):
    """
    One connection, used by any number of tasks of one event loop.

    Replies come in the order of the commands. A returned future may be cancelled or dropped at any time: its command is
    still sent and its reply is thrown away, never given to another. Error replies are values, never raised. When the
    connection ends every unanswered future raises NotSent or ReplyLost.
    """

    @property
    def closed(self) -> asyncio.Event:
        """Set once nothing more can be sent and every future is settled."""
        ...

    @property
    def reason(self) -> Exception | None:
        """Why the connection ended; None while it lives, and after ``close``."""
        ...

    @property
    def pending(self) -> int:
        """How many calls of ``send`` and ``send_many`` are unanswered."""
        ...

    def send(self, command: bytes, within: float = 0.0) -> asyncio.Future[Reply]:
        """
        Send one packed command; all commands of one turn of the event loop leave in one write.

        ``within`` is how many seconds the server was told that it may block (its BLOCK time): so much longer may the
        reply take before the connection counts as dead.
        """
        ...

    def send_many(
        self, commands: bytes | Sequence[bytes], replies: int, within: float = 0.0
    ) -> asyncio.Future[list[Reply]]:
        """Send packed commands that have ``replies`` answers (at least one), all behind one future, without delay."""
        ...

    async def drain(self) -> None:
        """
        Wait until the socket takes more. ``await drain()`` directly before each send keeps what is on its way out under
        twice HIGH_WATER plus one command, however many tasks send and however slow the server is.
        """
        ...

    def close(self) -> None:
        """End the connection now; unanswered futures raise."""
        ...

    async def aclose(self) -> None:
        """End the connection and wait until it has ended."""
        ...


def command(*parts: bytes | str | int) -> bytes:
    """Pack one command for ``send``; text becomes UTF-8, numbers decimal digits."""
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        packed.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(packed)
