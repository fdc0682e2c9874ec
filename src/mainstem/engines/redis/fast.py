"""
The hot path's connection: an asyncio protocol of our own that hands bytes straight to hiredis.

It knows sockets, parsing and back-pressure; commands it carries without reading them. It exists because redis-py's
asynchronous path spends a quarter of its time on a timeout per reply and a third on packing; ``plain`` is the same seam
over redis-py. TCP_NODELAY is set by asyncio and uvloop themselves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis

from mainstem.engines.redis.address import Address
from mainstem.engines.redis.greeting import greeted, tls_context
from mainstem.engines.redis.slots import (
    Batch,
    Pulse,
    Slots,
    Unsolicited,
    abandon,
    deliver,
    fail,
    not_sent,
    patient,
    silence,
)
from mainstem.engines.redis.wire import HIGH_WATER, Reply, ReplyError, Wire

READ_BYTES = 1 << 18
PARSER_KEEPS = 1 << 20
"""Bytes the parser may hold on to; its own default of 16 KiB would be freed and made again at every full read."""

_MORE: Any = object()


async def connect(address: Address) -> Wire:
    """
    Open, authenticate and name a connection within ``address.connect_timeout``.

    Raises Unavailable, PermissionDenied or ConfigError, one sentence with the address and what to do.
    """
    return await greeted(address, lambda: _dial(address))


async def _dial(address: Address) -> Wire:
    loop = asyncio.get_running_loop()
    if address.path:
        _, wire = await loop.create_unix_connection(lambda: FastWire(address), address.path)
        return wire
    tls = tls_context(address) if address.tls else None
    _, wire = await loop.create_connection(lambda: FastWire(address), address.host, address.port, ssl=tls)
    return wire


class FastWire(asyncio.BufferedProtocol):
    """``Wire`` over one socket; ``wire`` has the contract."""

    def __init__(self, address: Address) -> None:
        self.closed = asyncio.Event()
        self.reason: Exception | None = None
        self._where = address.where
        self._timeout = address.reply_timeout
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._slots: Slots = deque()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._reader = hiredis.Reader(replyError=ReplyError, notEnoughData=_MORE)
        self._reader.setmaxbuf(PARSER_KEEPS)

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
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(command)
        self._slots.append(future)
        self._waiting_bytes += len(command)
        if self._waiting_bytes > HIGH_WATER:
            self._flush()
        return future

    def send_many(
        self, commands: bytes | Sequence[bytes], replies: int, within: float = 0.0
    ) -> asyncio.Future[list[Reply]]:
        """Send a batch at once, in one write with what waits; one future for all its replies."""
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        if not self._open or self._transport.is_closing():
            fail(future, not_sent(self._where, self.reason))
            return future
        self._slots.append(Batch(replies, future, within))
        if isinstance(commands, bytes) and not self._waiting:
            self._transport.write(commands)
            return future
        self._waiting += (commands,) if isinstance(commands, bytes) else commands
        self._flush()
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

    def _flush(self) -> None:
        waiting = self._waiting
        if not waiting or self._transport.is_closing():
            return  # a closing transport drops what it is given: left here, it is known never to have been sent
        self._waiting = []
        self._waiting_bytes = 0
        self._transport.write(b"".join(waiting))

    def _end(self, reason: Exception | None) -> None:
        if not self._open:
            return
        self._open = False
        self.reason = reason
        self._transport.abort()  # nothing unanswered is promised, and a graceful end would wait for a dead peer

    # What follows is called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._pulse = Pulse(self._slots, self._timeout, lambda: self._end(silence(self._where, self._timeout)))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes arrived: hand on every reply that is complete."""
        self._pulse.beats += 1
        try:
            self._reader.feed(cast(bytes, self._buffer), 0, nbytes)
            deliver(self._slots, list(iter(self._reader.gets, _MORE)))
        except (hiredis.ProtocolError, Unsolicited) as error:
            self._end(error)

    def pause_writing(self) -> None:
        """More than HIGH_WATER is on its way out."""
        if self._open:
            self._writable.clear()

    def resume_writing(self) -> None:
        """The socket takes more."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: settle what is unanswered."""
        if self._open:
            self._open = False
            self.reason = exc or ConnectionResetError(f"{self._where} closed the connection")
        self._pulse.stop()
        abandon(self._slots, len(self._waiting), self._where, self.reason)
        self._waiting.clear()
        self._writable.set()
        self.closed.set()
