"""Members beyond one stream: many streams, both kinds, pauses, restored letters; and the outcomes of publishing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from engines.queue_lab import Lab, Reader, lab_on, names, record
from mainstem.engine import Back, Dead, Delivery, GroupSpec, Record, StreamSpec
from mainstem.engines.redis import open_engine
from mainstem.engines.redis.address import parse
from mainstem.errors import ConfigError, OutcomeUnknown, Unavailable
from waiting import wait_until


@pytest.fixture(params=["redis7_url", "valkey_url"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    async with lab_on(request.getfixturevalue(request.param)) as made:
        yield made


async def _declared(lab: Lab, name: str, count: int) -> list[StreamSpec]:
    specs = [StreamSpec(name=f"{name}-{number}", max_events=1000) for number in range(count)]
    for at in range(0, count, 100):
        await asyncio.gather(*(lab.engines[0].declare(spec) for spec in specs[at : at + 100]))
    return specs


async def test_one_member_follows_600_streams_with_one_reading_connection(lab: Lab, stream_name: str) -> None:
    """More streams than one read takes: events of any of them arrive, and the buffer keeps its bound."""
    specs = await _declared(lab, stream_name, 600)
    before = lab.raw.info("clients")["connected_clients"]
    reader = await lab.reader(*specs)
    await reader.some(100, 0.05)
    assert lab.raw.info("clients")["connected_clients"] <= before + 2  # reads, and the renewal thread
    batch = [((spec.name, 0), record(f"{spec.name}/{n}")) for spec in specs for n in range(2)]
    outcomes = await lab.engines[0].publish(batch, 5.0)
    assert all(isinstance(each, str) for each in outcomes)
    queue = reader.member._queue
    assert queue is not None
    deadline = time.monotonic() + 15
    while len(reader.seen) < 1200:
        assert time.monotonic() < deadline, len(reader.seen)
        await reader.done(*await reader.some(100, 0.2))
        assert queue._intake.buffered <= 200
    assert sorted(names(reader.seen)) == sorted(f"{spec.name}/{n}" for spec in specs for n in range(2))
    lab.raw.xadd(specs[577].name, {"id": "late", "data": "1"})
    assert names(await reader.get(1)) == ["late"]


async def test_a_busy_stream_does_not_starve_the_quiet_ones(lab: Lab, stream_name: str) -> None:
    """Events of a quiet stream arrive while another one is never empty."""
    specs = await _declared(lab, stream_name, 5)
    await lab.publish(specs[0], *(f"busy{number}" for number in range(3000)))
    reader = await lab.reader(*specs)
    await reader.get(100)
    await lab.publish(specs[3], "quiet")
    count = len(reader.seen)
    while "quiet" not in names(reader.seen[-200:]):
        assert len(reader.seen) < count + 1500
        await reader.done(*await reader.some(100, 0.5))


async def test_a_member_takes_part_in_queues_and_keyed_streams_at_once(lab: Lab, stream_name: str) -> None:
    """A pattern may match both kinds: each is received, settled and counted its own way."""
    queue = await lab.engines[0].declare(StreamSpec(name=stream_name + "-q", max_events=1000))
    keyed = await lab.engines[0].declare(StreamSpec(name=stream_name + "-k", partitions=2, max_events=1000))
    reader = await lab.reader(queue, keyed)
    await lab.publish(queue, "q1", "q2")
    await lab.publish(keyed, "k1", "k2")
    got = await reader.get(4)
    assert sorted(names(got)) == ["k1", "k2", "q1", "q2"]
    assert await reader.done(*got) == []
    for spec in (queue, keyed):
        await reader.member.count(spec.name, 2, 1)
    await reader.member.leave()
    for spec in (queue, keyed):
        (group,) = (await lab.engines[0].describe(spec.name)).groups
        assert (group.lag, group.pending, group.handled, group.failed) == (0, 0, 2, 1)


async def test_what_is_paused_waits_and_does_not_block_the_others(lab: Lab, stream_name: str) -> None:
    """Paused parts are left out of reads and of what is received; they come when they are not paused any more."""
    paused, other = await _declared(lab, stream_name, 2)
    reader = await lab.reader(paused, other)
    await lab.publish(paused, *(f"p{number}" for number in range(300)))
    await lab.publish(other, *(f"o{number}" for number in range(50)))
    stopped = frozenset({(paused.name, 0)})
    got: list[Delivery] = []
    deadline = time.monotonic() + 8
    while len(got) < 50:
        assert time.monotonic() < deadline
        got += [each for each in await reader.member.receive(20, 0.1, stopped) if isinstance(each, Delivery)]
    assert sorted(names(got)) == sorted(f"o{number}" for number in range(50))
    began = time.monotonic()
    later = await reader.get(300)
    assert time.monotonic() - began < 5.0
    assert sorted(names(later)) == sorted(f"p{number}" for number in range(300))
    assert {each.deliveries for each in later} == {1}


async def test_a_restored_letter_has_a_lease_too(lab: Lab, stream_name: str) -> None:
    """If its worker dies it is delivered again; settled, nothing of it is left."""
    spec = await lab.engines[0].declare(StreamSpec(name=stream_name, max_events=100))
    dead = lab.engines[0].can.dead
    assert dead is not None
    reader = await lab.reader(spec, lease=0.6)
    (position,) = await lab.publish(spec, "a")
    (held,) = await reader.get(1)
    assert await reader.member.settle([Dead(held, b'{"why":"tired"}')]) == []
    await reader.member.leave()
    (letter,) = await dead.dead(spec.name, "g", "", 10)
    assert (letter.position, letter.cause, letter.record) == (position, b'{"why":"tired"}', record("a"))
    assert await dead.restore(spec.name, "g", [letter.id]) == 1
    doomed = await lab.engine()
    first = await lab.reader(spec, engine=doomed, lease=0.6)
    (again,) = await first.get(1)
    assert (again.position, again.record, again.deliveries) == (position, record("a"), 1)
    lab.crash(doomed)
    second = await lab.reader(spec, lease=0.6)
    (last,) = await second.get(1)
    assert (last.position, last.deliveries) == (position, 2)
    assert await second.member.settle([Back(last, 0.0)]) == []
    (last,) = await second.get(1)
    assert await second.done(last) == []
    assert lab.raw.xlen(f"{{{spec.name}}}:g:g:again") == 0
    assert await dead.dead(spec.name, "g", "", 10) == []


async def test_events_older_than_retain_are_swept_while_members_run(lab: Lab, stream_name: str) -> None:
    """Also on a stream to which nobody publishes any more: whole nodes of it go."""
    spec = await lab.engines[0].declare(StreamSpec(name=stream_name, retain=1.0))
    await lab.publish(spec, *(f"e{number}" for number in range(500)))
    reader = await lab.reader(spec)
    await reader.done(*await reader.get(500))
    await wait_until(lambda: lab.raw.xlen(spec.name) <= 100, 8.0)


# -------------------------------------------------------------------------------------------------------- publishing


@asynccontextmanager
async def mute_proxy(url: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A proxy that swallows all replies, and ends their connection soon after, while the event is set."""
    address, mute = parse(url), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(address.host, address.port)

        async def back() -> None:
            while data := await there[0].read(1 << 16):
                if mute.is_set():
                    break
                writer.write(data)
            writer.close()

        async def forth() -> None:
            while data := await reader.read(1 << 16):
                there[1].write(data)
            there[1].close()

        await asyncio.gather(back(), forth(), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", mute
    finally:
        server.close()


async def test_a_lost_reply_is_an_unknown_outcome_with_the_event_ids(lab: Lab, stream_name: str) -> None:
    """The server stored it, we never heard: neither ok nor failed, and never repeated by the engine."""
    async with mute_proxy(lab.url) as (url, mute):
        engine = await open_engine(url)
        spec = await engine.declare(StreamSpec(name=stream_name, max_events=100))
        mute.set()
        outcomes = await engine.publish([((spec.name, 0), record(name)) for name in ("a", "b")], 5.0)
        mute.clear()
        assert [type(each) for each in outcomes] == [OutcomeUnknown, OutcomeUnknown]
        assert [each.ids for each in outcomes if isinstance(each, OutcomeUnknown)] == [("a",), ("b",)]
        assert lab.raw.xlen(spec.name) == 2
        await engine.close()


async def test_a_lost_ack_is_settled_by_asking_again(lab: Lab, stream_name: str) -> None:
    """The ack was applied and its reply lost: settling again is safe, and does not call it fenced."""
    async with mute_proxy(lab.url) as (url, mute):
        engine = await open_engine(url)
        spec = await engine.declare(StreamSpec(name=stream_name, max_events=100))
        member = await engine.join(GroupSpec(name="g"))
        await member.follow([spec])
        reader = Reader(member)
        await lab.publish(spec, "a")
        (held,) = await reader.get(1)
        mute.set()
        with pytest.raises(OutcomeUnknown):
            await reader.done(held)
        mute.clear()
        assert lab.pending(spec) == []
        assert await reader.done(held) == []
        await engine.close()


async def test_a_stream_kept_until_read_is_full_at_its_cap_and_in_order(lab: Lab, stream_name: str) -> None:
    """What does not fit, and all behind it, is not stored; there is room again once a group has settled."""
    spec = await lab.engines[0].declare(StreamSpec(name=stream_name, until_read=True, max_events=150))
    reader = await lab.reader(spec, lease=1.0)
    batch = [((spec.name, 0), record(f"e{number}")) for number in range(300)]
    outcomes = await lab.engines[0].publish(batch, 5.0)
    assert [isinstance(each, str) for each in outcomes] == [True] * 150 + [False] * 150
    assert all(isinstance(each, Unavailable) for each in outcomes[150:])
    got = await reader.get(150)
    assert names(got) == [f"e{number}" for number in range(150)]
    await reader.done(*got)
    await wait_until(lambda: lab.raw.xlen(spec.name) == 0)
    assert len(await lab.publish(spec, "next")) == 1


async def test_a_foreign_writers_fields_are_kept(lab: Lab, stream_name: str) -> None:
    """Fields of its own, another order, missing ones: read as far as they go, and published again byte for byte."""
    spec = await lab.engines[0].declare(StreamSpec(name=stream_name, max_events=100))
    lab.raw.xadd(spec.name, {"data": b"\xff\x00", "colour": "red", "id": "x"})
    (read,) = (await lab.engines[0].read(spec.name, {}, 10, 0.0)).deliveries
    assert read.record == Record(b"x", b"", b"", b"", b"", b"\xff\x00", b"", (b"colour", b"red"))
    (position,) = await lab.engines[0].publish([((spec.name, 0), read.record)], 5.0)
    assert isinstance(position, str)
    (_, again) = (await lab.engines[0].read(spec.name, {}, 10, 0.0)).deliveries
    assert (again.record, again.position) == (read.record, position)


async def test_a_key_that_is_no_stream_is_named(lab: Lab, stream_name: str) -> None:
    """Somebody else's data is never touched."""
    spec = await lab.engines[0].declare(StreamSpec(name=stream_name, max_events=100))
    lab.raw.set(spec.name, "mine")
    (outcome,) = await lab.engines[0].publish([((spec.name, 0), record("a"))], 5.0)
    assert isinstance(outcome, ConfigError)
    with pytest.raises(ConfigError, match="not a stream"):
        await lab.reader(spec)
    assert lab.raw.get(spec.name) == b"mine"
