"""A queue member never stops for good: what it counts as held, what it waits for and what it renews stays exact."""

from __future__ import annotations

import asyncio
import time

from engines.queue_lab import lab_on, names, record
from mainstem.engine import Back, Dead, Delivery, Lost, Record, StreamSpec
from mainstem.engines.redis import open_engine
from mainstem.errors import MainstemError
from mainstem.hooks import Hooks
from mainstem.publisher import Publisher


async def test_what_is_settled_is_held_no_more_to_the_byte(valkey_url: str, stream_name: str) -> None:
    """A remainder would add up until the member counts itself as full and never reads again."""
    async with lab_on(valkey_url) as lab:
        spec = await lab.engines[0].declare(StreamSpec(name=stream_name))
        reader = await lab.reader(spec)
        events = [((spec.name, 0), record(f"{n}", n % 7)) for n in range(1000)]
        await lab.engines[0].publish(events, 5.0)
        found = await reader.get(1000, limit=200)
        assert names(found) == [f"{n}" for n in range(1000)]
        assert await reader.done(*found) == []
        queue = reader.member._queue
        assert queue is not None
        assert queue._intake.held == 0


async def test_a_lease_is_renewed_without_counting_a_delivery(valkey_url: str, stream_name: str) -> None:
    async with lab_on(valkey_url) as lab:
        spec = await lab.engines[0].declare(StreamSpec(name=stream_name))
        slow = await lab.reader(spec, lease=1.0)
        other = await lab.reader(spec, lease=1.0)
        await lab.publish(spec, "a")
        await slow.get(1)
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert names(await other.some(10, 0.1)) == []
        assert [each["times_delivered"] for each in lab.pending(spec)] == [1]


async def test_an_entry_taken_over_and_lost_again_does_not_end_taking_over(valkey_url: str, stream_name: str) -> None:
    """On a quiet stream, where nothing else is ever settled."""
    async with lab_on(valkey_url) as lab:
        spec = await lab.engines[0].declare(StreamSpec(name=stream_name))
        first, third = await lab.engine(), await lab.engine()
        await lab.publish(spec, "a")
        await (await lab.reader(spec, engine=first, lease=1.0)).get(1)
        lab.crash(first)
        second = await lab.reader(spec, lease=1.0)
        assert names(await second.get(1)) == ["a"]
        thief = await lab.reader(spec, engine=third, lease=1.0)
        entry = lab.pending(spec)[0]["message_id"]
        lab.raw.execute_command("XCLAIM", spec.name, "g", thief.member._id, 0, entry)
        await second.told(Lost)
        lab.crash(third)
        assert names(await second.get(1)) == ["a"]


async def test_what_is_to_come_later_does_not_bar_its_own_return(valkey_url: str, stream_name: str) -> None:
    """Events that wait longer than a lease and take all of `max_bytes` come back when they are due."""
    async with lab_on(valkey_url) as lab:
        spec = await lab.engines[0].declare(StreamSpec(name=stream_name))
        reader = await lab.reader(spec, lease=1.0)
        queue = reader.member._queue
        assert queue is not None
        await lab.publish(spec, *[f"{n}" for n in range(170)], size=100_000)
        found: list[Delivery] = []
        while not queue._intake.held >= queue._group.max_bytes:
            some = await reader.some(20, 1.0)
            found += some
            await reader.member.settle([Back(each, 3.0, 1) for each in some])
        first, again = set(names(found)), set[str]()
        until = time.monotonic() + 8.0
        while not first <= again:
            assert time.monotonic() < until, f"{len(first - again)} of {len(first)} did not come again"
            some = await reader.some(20, 0.2)
            again |= set(names(some))
            await reader.done(*some)


async def test_a_letter_with_thousands_of_foreign_fields_keeps_them(valkey_url: str, stream_name: str) -> None:
    """Lua passes on 8,000 arguments at most; a letter that cannot be stored would come again for ever, or be lost."""
    for partitions in (0, 1):
        async with lab_on(valkey_url) as lab:
            spec = await lab.engines[0].declare(StreamSpec(name=f"{stream_name}{partitions}", partitions=partitions))
            extra = tuple(f"{n}".encode() for n in range(9000))
            foreign = Record(b"a", b"t", b"/s", b"", b"", b"x", b"", extra)
            await lab.engines[0].publish([((spec.name, 0), foreign)], 5.0)
            reader = await lab.reader(spec)
            found = await reader.get(1)
            assert list(await reader.member.settle([Dead(each, b"{}") for each in found])) == []
            dead = lab.engines[0].can.dead
            assert dead is not None
            letters = await dead.dead(spec.name, "g", "", 10)
            assert [letter.record for letter in letters] == [foreign]
            assert await dead.restore(spec.name, "g", [letters[0].id]) == 1
            assert [each.record for each in await reader.get(1)] == [foreign]


async def test_a_backlog_that_never_ends_fails_nothing(valkey_url: str, stream_name: str) -> None:
    """The deadline counts from when an event was accepted, not from when the backlog began."""
    engine = await open_engine(valkey_url)
    await engine.declare(StreamSpec(name=stream_name, max_events=1000))
    publisher = Publisher(engine, Hooks(), 2.0)
    failed: list[MainstemError] = []
    until = time.monotonic() + 5.0

    async def keep_on(number: int) -> None:
        while time.monotonic() < until and not failed:
            try:
                await publisher.publish((stream_name, 0), record(f"{number}"))
            except MainstemError as error:
                failed.append(error)

    await asyncio.gather(*(keep_on(n) for n in range(2500)))
    await engine.close()
    assert failed == []


async def test_large_events_published_together_keep_their_order(valkey_url: str, stream_name: str) -> None:
    engine = await open_engine(valkey_url)
    await engine.declare(StreamSpec(name=stream_name))
    publisher = Publisher(engine, Hooks(), 20.0)
    ids = [f"{n}" for n in range(1500)]
    await asyncio.gather(*(publisher.publish((stream_name, 0), record(each, 20_000)) for each in ids))
    page = await engine.read(stream_name, {}, 5000, 1.0)
    found = names(list(page.deliveries))
    while len(found) < len(ids) and page.deliveries:
        page = await engine.read(stream_name, page.cursor, 5000, 1.0)
        found += names(list(page.deliveries))
    await engine.close()
    assert found == ids
