"""Apps in processes of their own: sharing work, handlers that kill them, and how they end on a signal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from front.lab import cause_of, dead_letters, standing
from front.processes import crew
from mainstem import EventStream, Mainstem, StreamEvent
from mainstem.engine import GroupInfo
from waiting import wait_until

pytestmark = pytest.mark.timeout(90)


async def settled(stream: EventStream[str], timeout: float = 30.0) -> GroupInfo:
    async def look() -> GroupInfo | None:
        found = await standing(stream, "g")
        return found if found is not None and not found.lag and not found.pending else None

    found = await wait_until(look, timeout, every=0.05)
    assert found is not None
    return found


def events(count: int, data: str = "x") -> list[StreamEvent[str]]:
    return [StreamEvent(data=data, id=f"{data}-{n}", key=str(n % 20)) for n in range(count)]


@pytest.mark.parametrize("mode", ["queue", "keyed", "sync"])
async def test_processes_share_the_work_of_a_group(
    valkey_url: str, stream_name: str, tmp_path: Path, mode: str
) -> None:
    with crew(valkey_url, stream_name, tmp_path, mode) as crowd:
        async with Mainstem(valkey_url) as app:
            stream: EventStream[str] = app.stream(stream_name, **({"partitions": 4} if mode == "keyed" else {}))  # type: ignore[arg-type]
            await stream.open()
            crowd.start(), crowd.start()

            async def both() -> bool:
                found = await standing(stream, "g")
                return found is not None and found.members == 2

            await wait_until(both, 20, every=0.05)
            sent: list[str] = []

            async def each_had_its_share() -> bool:
                batch = [StreamEvent(data="x", id=f"{len(sent)}-{n}", key=str(n)) for n in range(100)]
                sent.extend(event.id for event in batch)
                await stream.publish_batch(batch)
                return len([count for count in crowd.workers().values() if count > 50]) == 2

            await wait_until(each_had_its_share, 30, every=0.05)
            await settled(stream)
            done = Counter(crowd.notes("done"))
    assert set(done) == set(sent)
    assert set(done.values()) == {1}


@pytest.mark.parametrize("how", ["exit", "abort"])
async def test_a_handler_that_kills_its_process_does_not_loop_for_ever(
    server_url: str, stream_name: str, tmp_path: Path, how: str
) -> None:
    """Three attempts, each the end of a process; then the event is given up, and its neighbours are not."""
    with crew(server_url, stream_name, tmp_path) as crowd:
        async with Mainstem(server_url) as app:
            stream: EventStream[str] = app.stream(stream_name)
            await stream.publish_batch([*events(5, "before"), StreamEvent(data=how, id="poison"), *events(30, "after")])
            process = crowd.start()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                found = await standing(stream, "g")
                if found is not None and found.dead and not found.lag and not found.pending:
                    break
                if process.poll() is not None:
                    process = crowd.start()
                await asyncio.sleep(0.05)
            letters = await dead_letters(stream, "g")
    assert [letter.record.id for letter in letters] == [b"poison"]
    assert Counter(crowd.notes("begin"))["poison"] == 3
    assert cause_of(letters[0]).attempts == 3
    assert "its worker ended 3 times" in cause_of(letters[0]).reason
    expected = {event.id for event in [*events(5, "before"), *events(30, "after")]}
    assert set(crowd.notes("done")) == expected, "all others were handled"
    assert len(crowd.all) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_finishes_what_runs_and_gives_back_the_rest(
    valkey_url: str, stream_name: str, tmp_path: Path, number: signal.Signals
) -> None:
    with crew(valkey_url, stream_name, tmp_path) as crowd:
        async with Mainstem(valkey_url) as app:
            stream: EventStream[str] = app.stream(stream_name)
            await stream.publish_batch(events(12, "slow"))
            process = crowd.start()
            await wait_until(lambda: len(crowd.notes("begin")) == 4, 20)
            process.send_signal(number)
            await wait_until(lambda: process.poll() is not None, 10)
            group = await standing(stream, "g")
            begun, done = crowd.notes("begin"), crowd.notes("done")
            assert process.returncode == 0
            assert sorted(begun) == sorted(done), "what had begun was finished"
            assert group is not None
            assert (group.pending, group.members, group.dead) == (0, 0, 0) or group.lag is not None
            assert "were released unhandled at the end" in crowd.said()
            crowd.start()
            await settled(stream)
    counted = Counter(crowd.notes("done"))
    assert set(counted) == {event.id for event in events(12, "slow")}
    assert set(counted.values()) == {1}, "nothing ran twice"


async def test_what_takes_too_long_is_released_and_said(valkey_url: str, stream_name: str, tmp_path: Path) -> None:
    with crew(valkey_url, stream_name, tmp_path) as crowd:
        async with Mainstem(valkey_url) as app:
            stream: EventStream[str] = app.stream(stream_name)
            await stream.publish(StreamEvent(data="hang", id="hang"))
            process = crowd.start()
            await wait_until(lambda: crowd.notes("begin"), 20)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            await wait_until(lambda: process.poll() is not None, 15)
            assert time.monotonic() - begun < 6, "drain is 2 s"
            assert process.returncode == 0
            assert "1 events were released unhandled at the end" in crowd.said()
            async with stream.consume("g", lease="1s") as received, asyncio.timeout(5):
                item = await anext(received)
                assert item.event.id == "hang"
                await item.ack()


async def test_a_second_ctrl_c_is_immediate_and_loses_nothing(
    valkey_url: str, stream_name: str, tmp_path: Path
) -> None:
    with crew(valkey_url, stream_name, tmp_path) as crowd:
        async with Mainstem(valkey_url) as app:
            stream: EventStream[str] = app.stream(stream_name)
            await stream.publish_batch([StreamEvent(data="hang", id="hang"), *events(20)])
            process = crowd.start()
            await wait_until(lambda: "hang" in crowd.notes("begin") and len(crowd.notes("done")) == 20, 20)
            process.send_signal(signal.SIGINT)
            await wait_until(lambda: "once more (Ctrl-C)" in crowd.said(), 5)
            begun = time.monotonic()
            process.send_signal(signal.SIGINT)
            await wait_until(lambda: process.poll() is not None, 5)
            assert time.monotonic() - begun < 1
            assert process.returncode == 130
            async with stream.consume("g", lease="1s") as received, asyncio.timeout(20):
                item = await anext(received)
                while item.event.id != "hang":  # acknowledgements that had not left yet: at least once
                    await item.ack()
                    item = await anext(received)
                await item.ack()
