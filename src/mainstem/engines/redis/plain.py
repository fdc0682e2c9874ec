"""
The same seam over redis-py's own connection: for comparison, and wherever only redis-py can connect.

It must behave like ``fast`` under the same tests; only speed differs, and that a reply counts as a sign of life when it
is complete, not while it arrives. redis-py neither authenticates nor retries here: ``greeting`` and ``link`` do.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from redis.asyncio.connection import Connection, DefaultParser, SSLConnection, UnixDomainSocketConnection

from mainstem.engines.redis.address import Address
from mainstem.engines.redis.greeting import greeted, tls_context
from mainstem.engines.redis.slots import (
    Batch,
    Pulse,
    Slots,
    abandon,
    deliver,
    fail,
    not_sent,
    patient,
    silence,
)
from mainstem.engines.redis.wire import HIGH_WATER, Reply, ReplyError, Wire

# redis-py's parser, with the errors of this seam as values instead of its own classes, some of which it would raise.
_Parser: Any = type("Parser", (DefaultParser,), {"parse_error": staticmethod(ReplyError)})


async def connect(address: Address) -> Wire:
    """Open, authenticate and name a connection; raises as ``fast.connect`` does."""
    return await greeted(address, lambda: _dial(address))


async def _dial(address: Address) -> Wire:
    connection = _connection(address)
    await connection.connect()
    return PlainWire(address, connection)


def _connection(address: Address) -> Any:
    options: dict[str, Any] = {
        "protocol": 2,
        "driver_info": None,
        "parser_class": _Parser,
        "socket_timeout": None,
        "socket_connect_timeout": address.connect_timeout,
    }
    if address.path:
        return UnixDomainSocketConnection(path=address.path, **options)
    options |= {"host": address.host, "port": address.port}
    if not address.tls:
        return Connection(**options)
    connection = SSLConnection(**options)
    connection.ssl_context.context = tls_context(address)
    return connection


class PlainWire:
    """``Wire`` over a connected redis-py connection; ``wire`` has the contract."""

    def __init__(self, address: Address, connection: Any) -> None:
        self.closed = asyncio.Event()
        self.reason: Exception | None = None
        self._where = address.where
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._slots: Slots = deque()
        self._waiting: list[bytes] = []
        self._unsent = 0
        self._outgoing = 0
        self._work = asyncio.Event()
        self._ending: asyncio.Future[None] = self._loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        timeout = address.reply_timeout
        self._pulse = Pulse(self._slots, timeout, lambda: self._end(silence(self._where, timeout)))
        self._life = self._loop.create_task(self._live(), name=f"redis-py wire to {self._where}")

    @property
    def pending(self) -> int:
        """How many calls are unanswered."""
        return len(self._slots)

    def send(self, command: bytes, within: float = 0.0) -> asyncio.Future[Reply]:
        """Send one command, together with all others of this turn of the event loop."""
        future: asyncio.Future[Reply] = patient(self._loop, within) if within else self._loop.create_future()
        if not self._open:
            fail(future, not_sent(self._where, self.reason))
            return future
        self._slots.append(future)
        self._hand_over((command,))
        return future

    def send_many(
        self, commands: bytes | Sequence[bytes], replies: int, within: float = 0.0
    ) -> asyncio.Future[list[Reply]]:
        """Send a batch, in one write with what waits; one future for all its replies."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        if not self._open:
            fail(future, not_sent(self._where, self.reason))
            return future
        self._slots.append(Batch(replies, future, within))
        self._hand_over((commands,) if isinstance(commands, bytes) else commands)
        return future

    async def drain(self) -> None:
        """Wait until the socket takes more."""
        while not self._writable.is_set():
            await self._writable.wait()

    def close(self) -> None:
        """End the connection now."""
        self._end(None)

    async def aclose(self) -> None:
        """End the connection and wait until it has ended."""
        self._end(None)
        await self.closed.wait()

    def _hand_over(self, commands: Sequence[bytes]) -> None:
        self._waiting += commands
        self._unsent += 1
        self._outgoing += sum(map(len, commands))
        if self._outgoing > HIGH_WATER:
            self._writable.clear()
        self._work.set()

    def _end(self, reason: Exception | None) -> None:
        if not self._open:
            return
        self._open = False
        self.reason = reason
        self._ending.set_result(None)

    async def _live(self) -> None:
        """Read and write until one of them fails or the end is asked for, then settle what is unanswered."""
        tasks = [self._loop.create_task(self._read()), self._loop.create_task(self._write())]
        await asyncio.wait([*tasks, self._ending], return_when=asyncio.FIRST_COMPLETED)
        self._open = False
        self._pulse.stop()
        if not self._ending.done():
            self.reason = next(
                error for task in tasks if task.done() and isinstance(error := task.exception(), Exception)
            )
        unsent = self._unsent
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hang_up()
        abandon(self._slots, unsent, self._where, self.reason)
        self._waiting.clear()
        self._writable.set()
        self.closed.set()

    async def _read(self) -> None:
        while True:
            reply: Any = await self._connection.read_response(timeout=math.inf, disconnect_on_error=False)
            self._pulse.beats += 1
            deliver(self._slots, [cast(Reply, reply)])

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if not self._open:
                return  # what waits is left there: it is known never to have been sent
            waiting, self._waiting, self._unsent = self._waiting, [], 0
            data = b"".join(waiting)
            await self._connection.send_packed_command(data, check_health=False)
            self._outgoing -= len(data)
            if self._outgoing <= HIGH_WATER:
                self._writable.set()

    async def _hang_up(self) -> None:
        # redis-py can only close gracefully, which waits for a dead peer to take what is still to be written.
        writer: asyncio.StreamWriter | None = getattr(self._connection, "_writer", None)
        if writer is not None:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()
        await self._connection.disconnect(nowait=True)
