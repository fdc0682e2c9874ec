"""
A member in another process, that can be stopped and continued: how the suite makes a zombie. Run as
`python -m mainstem.testing.elsewhere` it is that process, and takes its orders, one a line, from standard input.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pickle
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import msgspec

from mainstem.engine import Dead, Delivery, Done, Engine, GroupSpec, Lost, Member, Record, Settled, StreamSpec
from mainstem.testing.harness import Harness

_PATIENCE = 20.0  # seconds for a process to start and answer
_SOON = 1.0  # seconds for a refusal to be reported


class Zombie(Protocol):
    """A member that can lose its signs of life without noticing."""

    async def receive(self, count: int) -> Sequence[str]:
        """Take so many events, and hold them; returns their ids."""
        ...

    async def freeze(self) -> None:
        """From now on it gives no sign of life."""
        ...

    async def settle(self, how: str) -> Sequence[str]:
        """Go on, and settle all it holds as "done" or "dead"; returns the ids that were refused."""
        ...


async def refused(member: Member, items: Sequence[Settled]) -> list[Delivery]:
    """Settle; returns what was fenced, or was reported lost soon after by an engine that commits a moment later."""
    fenced = list(await member.settle(items))
    left: list[Delivery] = [item.delivery for item in items if item.delivery not in fenced]
    end = time.monotonic() + _SOON
    while left and time.monotonic() < end:
        signals = await member.receive(1, 0.1, frozenset(each.part for each in left))
        lost = [each for each in left if any(_covers(signal, each) for signal in signals)]
        fenced += lost
        left = [each for each in left if each not in lost]
    return fenced


def _covers(signal: object, delivery: Delivery) -> bool:
    if not isinstance(signal, Lost) or signal.part != delivery.part:
        return False
    return not signal.positions or delivery.position in signal.positions


@contextlib.asynccontextmanager
async def zombie(harness: Harness, engine: Engine, stream: StreamSpec, group: GroupSpec) -> AsyncGenerator[Zombie]:
    """A member of the group: in this process if the harness can stall it, otherwise in one of its own."""
    if harness.stall is not None:
        member = await engine.join(group)
        await member.follow([stream])
        yield _Here(harness, engine, member)
        return
    async with another_process(harness, stream, group) as process:
        yield process


@contextlib.asynccontextmanager
async def another_process(harness: Harness, stream: StreamSpec, group: GroupSpec) -> AsyncGenerator[OtherProcess]:
    """A process with an engine and a member of its own; it is killed at the end."""
    order = base64.b64encode(pickle.dumps((harness.open, stream, group))).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mainstem.testing.elsewhere",
        order,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield OtherProcess(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


class OtherProcess:
    """Passes orders to the process, and its answers back."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def receive(self, count: int) -> Sequence[str]:
        return await self._ask(f"receive {count}")

    async def publish(self, event_id: str) -> Sequence[str]:
        """Publish an event to partition 0; returns its position."""
        return await self._ask(f"publish {event_id}")

    async def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    async def settle(self, how: str) -> Sequence[str]:
        os.kill(self._process.pid, signal.SIGCONT)
        return await self._ask(f"settle {how}")

    async def _ask(self, order: str) -> Sequence[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{order}\n".encode())
        answer = await asyncio.wait_for(self._process.stdout.readline(), _PATIENCE)
        assert answer, f"the other process ended at the order {order!r}; its error is on standard error"
        return msgspec.json.decode(answer, type=list[str])


class _Here:
    def __init__(self, harness: Harness, engine: Engine, member: Member) -> None:
        self._harness = harness
        self._engine = engine
        self._member = member
        self._held: list[Delivery] = []

    async def receive(self, count: int) -> Sequence[str]:
        self._held += await _take(self._member, count)
        return [_id(delivery) for delivery in self._held]

    async def freeze(self) -> None:
        assert self._harness.stall is not None
        self._harness.stall(self._engine)

    async def settle(self, how: str) -> Sequence[str]:
        return [_id(each) for each in await refused(self._member, _settled(self._held, how))]


async def _take(member: Member, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    end = time.monotonic() + _PATIENCE
    while len(taken) < count and time.monotonic() < end:
        found = await member.receive(count - len(taken), 0.2, frozenset())
        taken += [each for each in found if isinstance(each, Delivery)]
    return taken


def _settled(held: Sequence[Delivery], how: str) -> list[Settled]:
    if how == "dead":
        return [Dead(each, b'{"error":"from a zombie"}') for each in held]
    return [Done(each) for each in held]


def _id(delivery: Delivery) -> str:
    return delivery.record.id.decode()


async def _serve(order: str) -> None:
    opening, stream, group = pickle.loads(base64.b64decode(order))
    engine: Engine = await opening()
    spec: StreamSpec = stream
    member = await engine.join(group)
    await engine.declare(spec)
    await member.follow([spec])
    held: list[Delivery] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        verb, word = line.split()
        print(msgspec.json.encode(await _obey(engine, member, spec, held, verb, word)).decode(), flush=True)  # noqa: T201
    await engine.close()


async def _obey(
    engine: Engine, member: Member, spec: StreamSpec, held: list[Delivery], verb: str, word: str
) -> Sequence[str]:
    if verb == "receive":
        held += await _take(member, int(word))
        return [_id(each) for each in held]
    if verb == "settle":
        return [_id(each) for each in await refused(member, _settled(held, word))]
    record = Record(word.encode(), b"test", b"elsewhere", b"2026-01-02T03:04:05Z", b"", b"{}", b"")
    return [str(outcome) for outcome in await engine.publish([((spec.name, 0), record)], _PATIENCE)]


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
