"""
Lines out of a file or a pipe, numbered, with the place behind each: pure splitting, and a reader that never holds more
than a few chunks however fast the other side writes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

CHUNK = 1 << 18  # bytes read at once
AHEAD = 2  # chunks read before the last one is worked on
LONGEST = 16 << 20  # bytes of one line; JSON text may be larger than the event it becomes


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end. `raw` is None where it was too long to be kept; `end`: the offset behind it."""

    number: int
    raw: bytes | None
    end: int


class Splitter:
    """Cuts chunks into lines. `number` and `offset` say where the first chunk begins."""

    def __init__(self, number: int = 0, offset: int = 0) -> None:
        self._number = number
        self._offset = offset
        self._rest = bytearray()
        self._skipped = 0  # bytes of an overlong line that were dropped

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that this chunk completes."""
        *whole, rest = chunk.split(b"\n")
        lines = [self._line(piece, 1) for piece in whole]
        self._keep(rest)
        return lines

    def close(self) -> list[Line]:
        """The last line, where it has no end of its own."""
        return [self._line(b"", 0)] if self._rest or self._skipped else []

    def _line(self, piece: bytes, ending: int) -> Line:
        self._keep(piece)
        self._number += 1
        self._offset += self._skipped + len(self._rest) + ending
        raw = None if self._skipped else bytes(self._rest)
        self._rest.clear()
        self._skipped = 0
        return Line(self._number, raw, self._offset)

    def _keep(self, piece: bytes) -> None:
        if self._skipped or len(self._rest) + len(piece) > LONGEST:
            self._skipped += len(self._rest) + len(piece)
            self._rest.clear()
        else:
            self._rest += piece


async def chunks(descriptor: int) -> AsyncIterator[bytes]:
    """What can be read from a descriptor, as it comes.

    A thread of its own reads, as a daemon: a read that waits for a silent pipe must not keep Ctrl-C from ending us.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(AHEAD)  # bounds the queue

    def pump() -> None:
        item: bytes | OSError = b" "
        while item and not isinstance(item, OSError):
            room.acquire()
            try:
                item = os.read(descriptor, CHUNK)
            except OSError as error:
                item = error
            try:
                loop.call_soon_threadsafe(queue.put_nowait, item)
            except RuntimeError:
                return  # the loop is closed: nobody listens any more

    threading.Thread(target=pump, name="mainstem-read", daemon=True).start()
    while item := await queue.get():
        if isinstance(item, OSError):
            raise item
        yield item
        room.release()
