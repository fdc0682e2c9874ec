"""A batch handler that is stopped between two attempts of an event does not run the later events of its key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mainstem import BatchFailed, Mainstem, Received, Retry


@pytest.mark.parametrize("as_a_whole", [True, False])
async def test_a_stop_does_not_let_later_events_of_a_key_overtake(url: str, stream_name: str, as_a_whole: bool) -> None:
    app = Mainstem(url, drain="3s")
    stream = app.stream(stream_name, partitions=1, key=lambda data: "k")
    stop = asyncio.Event()
    completed: list[int] = []

    @app.subscribe_batch(stream, group="g", size=10, max_wait="200ms", retry=Retry(5, base="20ms", cap="20ms"))
    async def handle(events: Sequence[Received[Any]]) -> None:
        bad = [event for event in events if event.data == 0]
        stop.set()
        await asyncio.sleep(0.1)  # the worker learns of the end while the batch runs
        if bad:
            raise ValueError("as a whole") if as_a_whole else BatchFailed({bad[0].position: ValueError("one")})
        completed.extend(event.data for event in events)

    async with app:
        await stream.publish_batch([0, 1, 2, 3])
        await app.serve(stop)
    assert completed == []
