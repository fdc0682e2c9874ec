"""A server of our own that is killed and started again under a running app: it goes on by itself, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from front.lab import served
from mainstem import EventStream, Mainstem, OutcomeUnknown, Received, Unavailable
from servers_for_tests import _answers, _free_port, redis7_binary, valkey_binary  # pyright: ignore[reportPrivateUsage]
from waiting import wait_until

pytestmark = pytest.mark.timeout(90)


class Machine:
    """A server that writes and syncs everything before it answers."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        options += ["--appendonly", "yes", "--appendfsync", "always", "--logfile", "log"]
        self._process = subprocess.Popen([self._binary, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        assert _answers(self._process, self._port)

    def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)


@pytest.fixture(params=["valkey", "redis7"])
def machine(request: pytest.FixtureRequest, short_root: Path) -> Iterator[Machine]:
    binary = valkey_binary() if request.param == "valkey" else redis7_binary()
    made = Machine(binary, Path(tempfile.mkdtemp(prefix="m", dir=short_root)))
    made.start()
    yield made
    made.kill()


@pytest.mark.parametrize("keyed", [False, True], ids=["queue", "keyed"])
async def test_killed_and_started_again_under_load(machine: Machine, keyed: bool) -> None:
    app = Mainstem(machine.url, publish_deadline="20s")
    stream: EventStream[Any] = app.stream("s", **({"key": lambda n: str(n % 50), "partitions": 4} if keyed else {}))  # type: ignore[arg-type]
    seen: set[int] = set()
    certain: set[int] = set()
    perhaps: set[int] = set()
    ended = asyncio.Event()

    @app.subscribe(stream, group="g", concurrency=8, lease="2s")
    async def handle(event: Received[Any]) -> None:
        seen.add(event.data)

    async def publisher(first: int) -> None:
        number = first
        while not ended.is_set():
            try:
                await stream.publish(number)
                certain.add(number)
            except OutcomeUnknown:
                perhaps.add(number)
            number += 8

    async with served(app):
        publishers = [asyncio.create_task(publisher(first)) for first in range(8)]
        try:
            for _ in range(2):
                await more_than(certain, len(certain) + 200)
                machine.kill()
                await asyncio.sleep(0.5)  # how long the outage is
                machine.start()
            await more_than(certain, len(certain) + 200)
        finally:
            ended.set()
            await asyncio.gather(*publishers)
        await wait_until(lambda: certain <= seen, 30)
        stored = {event.data async for event in stream.read()}
    assert certain <= stored, "no acknowledged event is lost"
    assert certain <= seen, "and each is handled"
    assert stored <= certain | perhaps, "nothing is stored that was said not to be"
    assert seen <= stored


async def more_than(found: set[int], count: int) -> None:
    await wait_until(lambda: len(found) > count, 20)


async def test_a_publish_waits_for_a_server_that_comes_back(machine: Machine) -> None:
    async with Mainstem(machine.url, publish_deadline="20s") as app:
        stream = app.stream("s")
        await stream.publish(1)
        machine.kill()
        waiting = asyncio.create_task(stream.publish(2))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.3)
        machine.start()
        try:
            await waiting
            expected = [1, 2]
        except OutcomeUnknown:  # it was on its way when the server ended
            expected = [1]
        assert [event.data async for event in stream.read()][: len(expected)] == expected


async def test_at_the_deadline_a_publish_says_that_it_was_not_stored(machine: Machine) -> None:
    async with Mainstem(machine.url, publish_deadline="500ms") as app:
        stream = app.stream("s")
        await stream.publish("before")
        machine.kill()
        with pytest.raises((Unavailable, OutcomeUnknown)):  # the first finds out that the connection is dead
            await stream.publish("finds out")
        begun = time.monotonic()
        with pytest.raises(Unavailable) as caught:
            await stream.publish("never")
        assert 0.2 < time.monotonic() - begun < 3
        assert "\n" not in str(caught.value)
        machine.start()
        await wait_until(lambda: publishes(stream, "after"), 10)
        stored = [event.data async for event in stream.read()]
    assert "never" not in stored
    assert stored[0] == "before"
    assert "after" in stored


async def publishes(stream: EventStream[Any], data: str) -> bool:
    try:
        await stream.publish(data)
    except (Unavailable, OutcomeUnknown):
        return False
    return True


async def test_a_reply_that_does_not_come_leaves_the_outcome_unknown(machine: Machine) -> None:
    async with Mainstem(machine.url, publish_deadline="500ms") as app:
        stream = app.stream("s")
        await stream.publish("before")
        machine.freeze()
        with pytest.raises(OutcomeUnknown) as caught:
            await stream.publish("perhaps", id="perhaps-1")
        assert caught.value.ids == ("perhaps-1",)
        machine.kill()


async def test_work_goes_on_after_an_outage_without_new_events(machine: Machine) -> None:
    """A quiet stream recovers too: what was read and not settled is not forgotten."""
    app = Mainstem(machine.url, publish_deadline="20s")
    stream = app.stream("s")
    begun, go, done = asyncio.Event(), asyncio.Event(), set[int]()

    @app.subscribe(stream, group="g", concurrency=2, lease="1s")
    async def handle(event: Received[Any]) -> None:
        begun.set()
        await go.wait()
        done.add(event.data)

    async with served(app) as running:
        await stream.publish_batch(list(range(10)))
        await begun.wait()
        machine.kill()
        go.set()
        machine.start()
        await wait_until(lambda: done == set(range(10)), 20)
        await running.quiet(stream, "g", timeout=20)


async def test_a_server_that_is_not_there_at_the_start_is_named(machine: Machine) -> None:
    machine.kill()
    begun = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        async with Mainstem(machine.url, publish_deadline="1s"):
            pass
    assert time.monotonic() - begun < 10
    assert machine.url.removeprefix("redis://").removesuffix("/0") in str(caught.value)
    assert "\n" not in str(caught.value)
