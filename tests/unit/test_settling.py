"""Settling in the background: few calls, in order, nothing waits long, nothing is forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest

from mainstem.engine import Delivery, Done, Part, Record, Settled
from mainstem.processing.session import Session
from mainstem.processing.settling import ENOUGH, LINGER, Settler
from waiting import wait_until

RECORD = Record(b"i", b"t", b"s", b"", b"", b"{}", b"")


def done(number: int) -> Done:
    return Done(Delivery(("q", 0), str(number), RECORD, 0))


class Desk:
    """Where settled items go: what a session is to a settler."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def settle(self, items: Sequence[Settled]) -> set[tuple[Part, str]]:
        self.calls.append([item.delivery.position for item in items])
        await self.gate.wait()
        return set()

    @property
    def settled(self) -> list[str]:
        return [position for call in self.calls for position in call]


@asynccontextmanager
async def settling(desk: Desk) -> AsyncIterator[Settler]:
    settler = Settler(cast(Session, desk))
    task = asyncio.create_task(settler.run())
    try:
        yield settler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_item_leaves_by_itself_and_soon() -> None:
    desk = Desk()
    async with settling(desk) as settler:
        begun = time.monotonic()
        settler.add(done(1))
        await wait_until(lambda: desk.calls)
        assert time.monotonic() - begun < LINGER * 5
    assert desk.calls == [["1"]]


async def test_items_that_finish_together_leave_together() -> None:
    desk = Desk()
    async with settling(desk) as settler:
        for number in range(100):
            settler.add(done(number))
        settler.kick()
        await wait_until(lambda: desk.calls)
    assert desk.calls == [[str(number) for number in range(100)]]


async def test_enough_leave_without_waiting() -> None:
    desk = Desk()
    async with settling(desk) as settler:
        begun = time.monotonic()
        for number in range(ENOUGH):
            settler.add(done(number))
        await wait_until(lambda: desk.calls, every=0.001)
        assert time.monotonic() - begun < LINGER
    assert len(desk.settled) == ENOUGH


async def test_what_comes_during_a_call_leaves_after_it_in_order() -> None:
    desk = Desk()
    desk.gate.clear()
    async with settling(desk) as settler:
        settler.add_all([done(0)])
        await wait_until(lambda: desk.calls)
        for number in range(1, 50):
            settler.add(done(number))
        assert desk.calls == [["0"]], "one call at a time"
        desk.gate.set()
        await wait_until(lambda: len(desk.settled) == 50)
    assert desk.settled == [str(number) for number in range(50)]
    assert len(desk.calls) == 2


async def test_flush_waits_for_everything() -> None:
    desk = Desk()
    async with settling(desk) as settler:
        for number in range(10):
            settler.add(done(number))
        await settler.flush()
        assert len(desk.settled) == 10
        await settler.flush()


async def test_flush_gives_up_in_time_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.gate.clear()
    async with settling(desk) as settler:
        settler.add(done(1))
        begun = time.monotonic()
        await settler.flush(0.1)
        assert time.monotonic() - begun < 1.0
    assert "could not be settled in time: they will be delivered again" in caplog.text


async def test_any_mix_of_adding_loses_nothing() -> None:
    desk = Desk()
    async with settling(desk) as settler:
        for number in range(2000):
            if number % 7 == 0:
                settler.add_all([done(number)])
            else:
                settler.add(done(number))
            if number % 13 == 0:
                settler.kick()
            if number % 31 == 0:
                await asyncio.sleep(0)
        await settler.flush()
    assert desk.settled == [str(number) for number in range(2000)]
