"""
The facts of Redis and Valkey Streams that an engine can trip over, one test each, on a Redis 7.0 and on a Valkey:
reading, groups, leases, recovery, trimming, lag.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from engines.queue_lab import Lab, lab_on, names
from mainstem.engine import Back, Dead, Gap, GroupSpec, Incident, Lost, StreamSpec
from mainstem.engines.redis.queue_scripts import TIDY
from mainstem.engines.redis.scripts import Call, run_blocking
from waiting import wait_until


@pytest.fixture(params=["redis7_url", "valkey_url"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with lab_on(request.getfixturevalue(request.param)) as made:
        yield made


@pytest.fixture
async def spec(lab: Lab, stream_name: str) -> StreamSpec:
    return await lab.engines[0].declare(StreamSpec(name=stream_name, max_events=1_000_000))


# ------------------------------------------------------------------------------------------------ leases and owners


async def test_a_lease_is_renewed_only_by_its_owner(lab: Lab, spec: StreamSpec) -> None:
    """What another client claimed is not stolen back by the renewal; the handler is told, its ack refused."""
    reader = await lab.reader(spec, lease=0.8)
    await lab.publish(spec, "a", "b")
    a, b = await reader.get(2)
    lab.raw.xclaim(spec.name, "g", "thief", 0, [a.position])
    lost = await reader.told(Lost)
    assert lost == [Lost((spec.name, 0), (a.position,))]
    assert {each["message_id"]: each["consumer"] for each in lab.pending(spec)}[a.position.encode()] == b"thief"
    assert await reader.done(a, b) == [a]
    assert [each["message_id"] for each in lab.pending(spec)] == [a.position.encode()]


async def test_a_lease_is_renewed_while_the_event_loop_is_blocked(lab: Lab, spec: StreamSpec) -> None:
    """A CPU-bound handler keeps its events: renewing does not raise their delivery count either."""
    reader = await lab.reader(spec, lease=0.8)
    await lab.publish(spec, "a")
    (a,) = await reader.get(1)
    time.sleep(1.8)  # noqa: ASYNC251 - the handler that blocks the loop
    (entry,) = lab.pending(spec)
    assert entry["time_since_delivered"] < 600
    assert entry["times_delivered"] == 1
    assert await reader.done(a) == []


async def test_an_ack_by_a_zombie_is_fenced(lab: Lab, spec: StreamSpec) -> None:
    """Its lease over, another member has the event: the late ack changes nothing and says so."""
    zombie = await lab.reader(spec, lease=0.6)
    await lab.publish(spec, "a")
    (held,) = await zombie.get(1)
    queue = zombie.member._queue
    assert queue is not None
    lab.engines[0]._server.renewals(0.6).remove(queue.consumer)  # stopped, as by SIGSTOP
    for task in queue._tasks:
        task.cancel()
    heir = await lab.reader(spec, engine=await lab.engine(), lease=0.6)
    (again,) = await heir.get(1)
    assert (again.position, again.deliveries) == (held.position, 2)
    assert await zombie.done(held) == [held]
    assert len(lab.pending(spec)) == 1
    assert await heir.done(again) == []
    assert lab.pending(spec) == []


@pytest.mark.parametrize("how", ["back", "dead"])
async def test_a_zombie_cannot_return_or_bury_either(lab: Lab, spec: StreamSpec, how: str) -> None:
    """Every change of a pending entry asks who owns it."""
    reader = await lab.reader(spec)
    await lab.publish(spec, "a")
    (held,) = await reader.get(1)
    lab.raw.xclaim(spec.name, "g", "other", 0, [held.position])
    item = Back(held) if how == "back" else Dead(held, b"{}")
    assert await reader.member.settle([item]) == [held]
    (entry,) = lab.pending(spec)
    assert entry["consumer"] == b"other"
    assert lab.raw.exists(f"{{{spec.name}}}:g:g:dead") == 0


# ---------------------------------------------------------------------------------------------------------- reading


async def test_cancelling_receive_200_times_loses_nothing(lab: Lab, spec: StreamSpec) -> None:
    """Reads are never cancelled: what they bring is received by whoever asks next, once."""
    reader = await lab.reader(spec)
    expected = [f"e{number}" for number in range(400)]

    async def publish() -> None:
        for at in range(0, 400, 2):
            await lab.publish(spec, *expected[at : at + 2])

    publishing = asyncio.create_task(publish())
    for number in range(200):
        receiving = asyncio.create_task(reader.some(3, 1.0))
        await asyncio.sleep(0.0005 * (number % 5))
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    await publishing
    await reader.get(400 - len(reader.seen))
    assert names(reader.seen) == expected
    assert await reader.done(*reader.seen) == []
    assert lab.pending(spec) == []


async def test_a_read_whose_reply_was_lost_is_recovered_while_running(lab: Lab, spec: StreamSpec) -> None:
    """Entries the server gave to us, and we never saw, come back after a lease, without a restart."""
    reader = await lab.reader(spec, lease=0.8)
    queue = reader.member._queue
    assert queue is not None
    await lab.publish(spec, "a")
    await reader.done(*await reader.get(1))
    lab.raw.xadd(spec.name, {"id": "unseen", "data": "1"})
    # Deliver to our own consumer behind its back: what a reply lost on the wire leaves behind.
    await wait_until(lambda: lab.raw.xinfo_groups(spec.name)[0]["lag"] == 0)
    seen = await reader.get(1)
    lab.raw.xclaim(spec.name, "g", queue.consumer, 0, [seen[0].position], idle=5000)
    queue._intake.holds.clear()
    again = await reader.get(1)
    assert names(again) == ["unseen"]
    assert await reader.done(*again) == []


async def test_a_blocked_read_does_not_delay_acks(lab: Lab, spec: StreamSpec) -> None:
    """The ack takes another connection while a read blocks."""
    reader = await lab.reader(spec)
    await lab.publish(spec, "a")
    (a,) = await reader.get(1)
    waiting = asyncio.create_task(reader.some(10, 5.0))
    queue = reader.member._queue
    assert queue is not None
    await wait_until(lambda: queue._intake.blocking)
    began = time.monotonic()
    assert await reader.done(a) == []
    assert time.monotonic() - began < 0.3
    assert lab.pending(spec) == []
    await lab.publish(spec, "b")
    assert names(await waiting) == ["b"]


async def test_buffers_are_bounded_in_events_and_bytes(lab: Lab, spec: StreamSpec) -> None:
    """However much waits, a member takes no more than twice the limit, and stops at its bytes."""
    reader = await lab.reader(spec)
    await lab.publish(spec, *(f"e{number}" for number in range(2000)))
    first = await reader.some(50, 2.0)
    assert 0 < len(first) <= 50
    await asyncio.sleep(0.3)
    assert len(lab.pending(spec)) <= len(first) + 100
    large = await lab.engines[0].declare(StreamSpec(name=spec.name + "-large", max_events=1000))
    await lab.publish(large, *(f"e{number}" for number in range(40)), size=1 << 20)
    member = await lab.engines[0].join(GroupSpec(name="g", max_bytes=4 << 20))
    await member.follow([large])
    for _ in range(20):
        await member.receive(100, 0.05, frozenset())
    assert len(lab.pending(large)) <= 20


# --------------------------------------------------------------------------------------------------------- recovery


async def test_claims_keep_their_cursor_with_5000_pending(lab: Lab, spec: StreamSpec) -> None:
    """Abandoned entries behind 4,990 that are in other hands are found: the search goes on where it stopped."""
    positions = await lab.publish(spec, *(f"e{number}" for number in range(5000)))
    lab.raw.xgroup_create(spec.name, "g", "0")
    lab.raw.xreadgroup("g", "busy", {spec.name: ">"}, count=5000)
    old = positions[-10:]
    lab.raw.xclaim(spec.name, "g", "dead", 0, old, idle=60_000, justid=True)
    reader = await lab.reader(spec, lease=20.0)
    found: list[str] = []
    deadline = time.monotonic() + 8
    while len(found) < 10:
        assert time.monotonic() < deadline, found
        got = await reader.some(10, 0.2)
        found += [each.position for each in got]
        await reader.done(*got)
    assert found == old
    assert len(lab.pending(spec)) == 4990


async def test_recovery_starts_slowly_so_that_a_poison_stands_alone(lab: Lab, spec: StreamSpec) -> None:
    """An event that kills each process that has it is given up alone: its neighbours keep their attempts."""
    await lab.publish(spec, *(f"e{number:02}" for number in range(20)))
    poison, counts, handled = "e07", dict[str, int](), set[str]()
    first = await lab.engine()
    reader = await lab.reader(spec, engine=first, lease=0.4)
    await reader.get(20)
    lab.crash(first)
    for _ in range(4):
        engine = await lab.engine()
        reader = await lab.reader(spec, engine=engine, lease=0.4)
        alive = True
        deadline = time.monotonic() + 8
        while alive and len(handled) < 19:
            assert time.monotonic() < deadline, (handled, counts)
            for each in await reader.some(20, 0.1):
                name = each.record.id.decode()
                counts[name] = max(counts.get(name, 0), each.deliveries or 0)
                if name == poison:
                    alive = False
                    break
                handled.add(name)
                await reader.done(each)
        if alive:
            break
        lab.crash(engine)
    assert handled == {f"e{number:02}" for number in range(20)} - {poison}
    assert counts[poison] >= 3
    assert max(count for name, count in counts.items() if name != poison) <= 3


async def test_what_is_returned_comes_again_in_time_and_counted_right(lab: Lab, spec: StreamSpec) -> None:
    """Uncounted: the same number; counted: one more. Longer than a lease too, and never early."""
    reader = await lab.reader(spec, lease=0.5)
    await lab.publish(spec, "a", "b", "c")
    a, b, c = await reader.get(3)
    began = time.monotonic()
    items = [Back(a, 0.0, attempts=0), Back(b, 0.2, attempts=1), Back(c, 1.0, attempts=1)]
    assert await reader.member.settle(items) == []
    came: dict[str, tuple[float, int | None]] = {}
    while len(came) < 3:
        for each in await reader.get(1):
            came[each.record.id.decode()] = (time.monotonic() - began, each.deliveries)
            assert await reader.done(each) == []
    assert [came[name][1] for name in "abc"] == [1, 2, 2]
    assert came["b"][0] >= 0.19
    assert came["c"][0] >= 0.99
    assert lab.pending(spec) == []


# --------------------------------------------------------------------------------------------------------- consumers


async def test_each_incarnation_has_a_name_of_its_own(lab: Lab, spec: StreamSpec) -> None:
    """Two members of one process, and the same program started again, never share a pending list."""
    readers = [await lab.reader(spec), await lab.reader(spec)]
    await lab.publish(spec, *(f"e{number}" for number in range(100)))
    await asyncio.gather(*(reader.get(1, limit=1) for reader in readers))
    assert len({each["consumer"] for each in lab.pending(spec)}) == 2


async def test_leaving_gives_back_and_deletes_the_consumer(lab: Lab, spec: StreamSpec) -> None:
    """Nothing pending is thrown away with it: the next member gets it at once and uncounted."""
    reader = await lab.reader(spec, lease=30.0)
    await lab.publish(spec, "a", "b")
    a, _ = await reader.get(2)
    await reader.done(a)
    await reader.member.leave()
    # What it gave back stays on its list until somebody takes it: then the consumer may go.
    heir = await lab.reader(spec, lease=30.0)
    (b,) = await heir.get(1)
    assert (b.record.id, b.deliveries) == (b"b", 1)
    assert await heir.done(b) == []


async def test_a_dead_consumer_is_deleted_only_with_nothing_pending(lab: Lab, spec: StreamSpec) -> None:
    """Deleting it would discard its pending entries for good."""
    await lab.publish(spec, "a")
    lab.raw.xgroup_create(spec.name, "g", "0")
    lab.raw.xreadgroup("g", "holder", {spec.name: ">"})
    lab.raw.xgroup_createconsumer(spec.name, "g", "empty")
    await asyncio.sleep(0.05)
    assert run_blocking(lab.raw, Call(TIDY, (spec.name.encode(),), ("g", 1))) == 1
    assert [each["name"] for each in lab.raw.xinfo_consumers(spec.name, "g")] == [b"holder"]
    assert len(lab.pending(spec)) == 1


# ------------------------------------------------------------------------------------------------ groups that vanish


@pytest.mark.parametrize("how", ["flushall", "del", "destroy"])
async def test_a_group_that_vanishes_is_made_again_while_running(lab: Lab, spec: StreamSpec, how: str) -> None:
    """Reading goes on without a restart, from the checkpoint, and an incident is reported."""
    reader = await lab.reader(spec, lease=2.0)
    await lab.publish(spec, "a", "b")
    await reader.done(*await reader.get(2))
    hash_key = f"{{{spec.name}}}:g:g"
    await wait_until(lambda: (lab.raw.hget(hash_key, "checkpoint") or b"0-0") != b"0-0")
    if how == "flushall":
        lab.raw.flushall()
    elif how == "del":
        lab.raw.delete(spec.name)
    else:
        lab.raw.xgroup_destroy(spec.name, "g")
    began = time.monotonic()
    incidents = await reader.told(Incident)
    await lab.publish(spec, "c", "d")
    got = await reader.get(2)
    assert time.monotonic() - began < 2.0
    assert names(got) == ["c", "d"]
    assert await reader.done(*got) == []
    assert [each.part for each in incidents if isinstance(each, Incident)] == [(spec.name, 0)]
    assert [each.name for each in await lab.engines[0].streams(spec.name)] == [spec.name]


async def test_a_new_group_starts_at_the_beginning_unless_told_otherwise(lab: Lab, spec: StreamSpec) -> None:
    """What came before the first start is not skipped."""
    await lab.publish(spec, "before")
    early = await lab.reader(spec, group="early")
    assert names(await early.get(1)) == ["before"]


# ---------------------------------------------------------------------------------------------------- trimming, lag


async def test_trimming_under_a_slow_group_is_counted_exactly(lab: Lab, spec: StreamSpec) -> None:
    """Whatever was trimmed before the group read it: delivered plus missing is what was published."""
    reader = await lab.reader(spec)
    await lab.publish(spec, *(f"a{number}" for number in range(10)))
    await reader.done(*await reader.get(10))
    await reader.member.leave()
    await lab.publish(spec, *(f"b{number}" for number in range(300)))
    lab.raw.xtrim(spec.name, maxlen=120, approximate=False)
    late = await lab.reader(spec)
    await late.get(50)
    await late.done(*late.seen)
    lab.raw.xtrim(spec.name, maxlen=20, approximate=False)
    gaps = 0
    deadline = time.monotonic() + 8
    while late.seen[-1].record.id != b"b299":
        assert time.monotonic() < deadline
        await late.some(30, 0.2)
    await late.done(*late.seen[50:])
    gaps = sum(each.missing for each in late.signals if isinstance(each, Gap))
    assert len(late.seen) + gaps == 300
    info = (await lab.engines[0].describe(spec.name)).groups[0]
    assert (info.lost, info.lag, info.pending) == (gaps, 0, 0)
    assert gaps >= 180


async def test_ghosts_of_trimmed_pending_entries_are_lost_not_delivered(lab: Lab, spec: StreamSpec) -> None:
    """An abandoned entry whose event was trimmed has no body: it is counted, cleared, and no handler sees it."""
    await lab.publish(spec, "a", "b")
    lab.raw.xgroup_create(spec.name, "g", "0")
    lab.raw.xreadgroup("g", "dead", {spec.name: ">"})
    lab.raw.xtrim(spec.name, maxlen=1, approximate=False)
    reader = await lab.reader(spec, lease=0.5)
    got = await reader.get(1)
    assert names(got) == ["b"]
    await reader.done(*got)
    assert await reader.told(Gap) == [Gap((spec.name, 0), 1)]
    await wait_until(lambda: lab.pending(spec) == [])
    assert (await lab.engines[0].describe(spec.name)).groups[0].lost == 1


async def test_lag_survives_that_the_server_lost_count(lab: Lab, spec: StreamSpec) -> None:
    """Deleting live entries makes the server's own figure NULL: it is counted instead."""
    reader = await lab.reader(spec)
    positions = await lab.publish(spec, *(f"e{number}" for number in range(10)))
    got = await reader.get(10)
    await reader.done(*got[:9])
    await reader.member.leave()
    lab.raw.xgroup_setid(spec.name, "g", positions[3])
    lab.raw.xdel(spec.name, positions[7])
    assert lab.raw.xinfo_groups(spec.name)[0]["lag"] is None
    info = (await lab.engines[0].describe(spec.name)).groups[0]
    assert info.lag == 5
    assert info.pending == 1


async def test_nothing_new_and_something_pending_are_told_apart(lab: Lab, spec: StreamSpec) -> None:
    """lag 0 with pending events: delivered, unprocessed, and their age shows."""
    reader = await lab.reader(spec)
    await lab.publish(spec, "a")
    await reader.get(1)
    await asyncio.sleep(0.1)
    info = (await lab.engines[0].describe(spec.name)).groups[0]
    assert (info.lag, info.pending, info.members) == (0, 1, 1)
    assert info.lag_seconds >= 0.1
