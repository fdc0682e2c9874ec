"""
An app in a process of its own, as a user would run it: `python program.py URL STREAM FOLDER MODE`.

Each handled event leaves a line in FOLDER/PID, written through to the file before the handler goes on, so that a test
knows what ran even where the process was killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from mainstem import Mainstem, Received, Retry

url, stream_name, folder, mode = sys.argv[1:5]
app = Mainstem(url, drain="2s")
stream = app.stream(stream_name, **({"partitions": 4} if mode.endswith("keyed") else {}))
log = os.open(Path(folder) / str(os.getpid()), os.O_CREAT | os.O_APPEND | os.O_WRONLY)


def note(what: str) -> None:
    os.write(log, f"{what}\n".encode())


async def handle(event: Received[Any]) -> None:
    note(f"begin {event.id}")
    if event.data == "exit":
        os._exit(3)
    if event.data == "abort":
        os.abort()
    if event.data == "slow":
        await asyncio.sleep(0.5)
    if event.data == "hang":
        await asyncio.sleep(3600)
    note(f"done {event.id}")


def handle_in_a_thread(event: Received[Any]) -> None:
    note(f"begin {event.id}")
    time.sleep(0.001)
    note(f"done {event.id}")


handler: Any = handle_in_a_thread if mode.startswith("sync") else handle
handler.__name__ = "handle"
app.subscribe(stream, group="g", concurrency=4, retry=Retry(3, base="10ms", cap="10ms"), lease="1s")(handler)
note("up")
app.run()
note("end")
