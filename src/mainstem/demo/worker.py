"""
One worker process of the demo: runs the app's handlers and reports each success to the process that started it.

`python -m mainstem.demo.worker` reads its `Job` as a line of JSON from stdin, and ends when stdin does: whatever
happens to the process that started it, none is left behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from mainstem.app import Mainstem
from mainstem.demo.ledger import digest
from mainstem.demo.pipeline import GROUPS, Job, Signal, subscribe
from mainstem.errors import MainstemError
from mainstem.event import Received
from mainstem.processing.outcomes import Skip
from mainstem.running import run_loop

REPORT = struct.Struct("<BxxxIQ")
"""Group (its place in GROUPS), microseconds from publish to handler, digest of the event's id."""

_LONGEST = 2**32 - 1


def main() -> None:
    """Work until SIGTERM or the end of stdin."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    try:
        run_loop(_work(job))
    except MainstemError as error:
        sys.exit(str(error))


async def _work(job: Job) -> None:
    app = Mainstem(job.url, source="demo")
    subscribe(app, job)
    app.middleware(_reporting(job, sys.stdout.fileno()))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    lifeline, _ = await loop.connect_read_pipe(lambda: _Lifeline(stop), sys.stdin)
    try:
        async with app:
            await app.serve(stop)
    finally:
        lifeline.close()


class _Lifeline(asyncio.Protocol):
    """Stops the worker when the other end of its stdin is gone."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()


def _reporting(job: Job, pipe: int) -> Callable[[Received[Any], Callable[[], Awaitable[Any]]], Awaitable[Any]]:
    """Report each event after its handler succeeded, and before it is acknowledged.

    The write is one system call, not a buffer of this process: what a killed worker handled has been reported. Whether
    its acknowledgement left too cannot be known, so such an event may come again; it is then reported again.
    """

    async def report(event: Received[Any], call_next: Callable[[], Awaitable[Any]]) -> Any:
        begun = time.monotonic_ns()
        extensions = event.metadata.extensions
        if extensions.get("run") != job.run:
            raise Skip  # of another demo on this server
        result = await call_next()
        to_alerts = isinstance(event.data, Signal)
        sent_ns = event.data.made_ns if to_alerts else int(extensions["sentns"])
        us = min(max(begun - sent_ns, 0) // 1000, _LONGEST)
        os.write(pipe, REPORT.pack(GROUPS.index("alerts" if to_alerts else "signals"), us, digest(event.id)))
        return result

    return report


if __name__ == "__main__":
    main()
