"""Servers in trouble: killed under load, full, read-only, loading, evicting; and what leaves in one write."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from engines.queue_lab import NO_PARTS, Reader, lab_on, names, record, sync
from mainstem.engine import Delivery, Done, GroupSpec, StreamSpec
from mainstem.engines.redis import RedisEngine, open_engine
from mainstem.engines.redis.address import Address, parse
from mainstem.errors import ConfigError, MainstemError, OutcomeUnknown, Unavailable
from servers_for_tests import redis7_binary, serving, valkey_binary
from waiting import wait_until

Start = Callable[..., str]


@pytest.fixture(params=["redis7", "valkey"])
def start(request: pytest.FixtureRequest, short_root: Path) -> Iterator[Start]:
    """Starts a private server with these options, in a new folder or the given one; gives its URL."""
    binary = redis7_binary() if request.param == "redis7" else valkey_binary()
    with ExitStack() as stack:

        def started(*options: str, folder: Path | None = None) -> str:
            folder = folder or Path(tempfile.mkdtemp(dir=short_root))
            return f"redis://127.0.0.1:{stack.enter_context(serving(binary, folder, *options))}/0"

        yield started


@asynccontextmanager
async def chunks_through(url: str) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy's URL and what clients wrote, chunk by chunk."""
    address, chunks = parse(url), list[bytes]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: list[bytes] | None) -> None:
        while data := await reader.read(1 << 16):
            if kept is not None:
                kept.append(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(address.host, address.port)
        await asyncio.gather(pump(reader, there[1], chunks), pump(there[0], writer, None), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", chunks
    finally:
        server.close()


async def test_acks_and_the_next_read_leave_in_one_write(valkey_url: str, stream_name: str) -> None:
    """Settling and receiving in one turn of the event loop costs one write, the ack before the read."""
    async with chunks_through(valkey_url) as (url, chunks), lab_on(url) as lab:
        spec = await lab.engines[0].declare(StreamSpec(name=stream_name, max_events=100_000))
        reader = await lab.reader(spec)
        await lab.publish(spec, *(f"e{number}" for number in range(1000)))
        first = await reader.some(50)
        queue = reader.member._queue
        assert queue is not None
        for _ in range(5):
            await wait_until(lambda: queue._intake.full and queue._intake._reading is None)
            chunks.clear()
            settling = asyncio.ensure_future(reader.member.settle([Done(each) for each in first]))
            first = await reader.some(50)
            more = await reader.some(50)
            assert await settling == []
            (acks,) = [chunk for chunk in chunks if b"XACK" in chunk]
            assert 0 < acks.index(b"XACK") < acks.index(b"XREADGROUP")
            assert await reader.done(*more) == []


async def test_a_server_killed_under_load_loses_nothing_acknowledged(start: Start, short_root: Path) -> None:
    """kill -9 with appendfsync always: every acknowledged event is there, and every one is handled, by identity."""
    folder = Path(tempfile.mkdtemp(dir=short_root))
    always = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder))
    where: list[Address] = [parse(start(*always, folder=folder))]

    async def resolve() -> Address:
        return where[0]

    engine = await RedisEngine.open(resolve)
    spec = await engine.declare(StreamSpec(name="orders", max_events=1_000_000))
    member = await engine.join(GroupSpec(name="g", lease=1.0))
    await member.follow([spec])
    handled, stored, unknown = set[str](), set[str](), set[str]()
    stop = asyncio.Event()

    async def publish() -> None:
        number = 0
        while not stop.is_set():
            batch = [record(f"e{number + at}") for at in range(20)]
            number += 20
            outcomes = await engine.publish([((spec.name, 0), each) for each in batch], 1.0)
            for each, outcome in zip(batch, outcomes, strict=True):
                kind = stored if isinstance(outcome, str) else unknown if isinstance(outcome, OutcomeUnknown) else None
                if kind is not None:
                    kind.add(each.id.decode())
            await asyncio.sleep(0.002)

    async def consume() -> None:
        while True:
            got = [each for each in await member.receive(50, 0.2, NO_PARTS) if isinstance(each, Delivery)]
            handled.update(names(got))
            while got:
                try:
                    await member.settle([Done(each) for each in got])
                    break
                except MainstemError:
                    await asyncio.sleep(0.02)

    consuming, publishing = asyncio.create_task(consume()), asyncio.create_task(publish())
    for _ in range(3):
        enough = len(stored) + 300
        await wait_until(lambda enough=enough: len(stored) >= enough, 10.0)  # type: ignore[misc]
        with_pid = sync(f"redis://{where[0].where}/0")
        os.kill(int(with_pid.info("server")["process_id"]), signal.SIGKILL)
        with_pid.close()
        where[0] = parse(await asyncio.to_thread(start, *always, folder=folder))
    enough = len(stored) + 300
    await wait_until(lambda: len(stored) >= enough, 10.0)
    stop.set()
    await publishing
    await wait_until(lambda: stored <= handled, 10.0)
    consuming.cancel()
    await asyncio.gather(consuming, return_exceptions=True)
    page = await engine.read(spec.name, {}, 1_000_000, 0.0)
    kept = set(names(page.deliveries))
    assert stored <= kept
    assert kept <= stored | unknown
    assert handled == kept
    await engine.close()


async def test_a_read_only_replica_refuses_publishing_and_is_named(start: Start) -> None:
    """Nothing is stored, the error says why; the facts tell it at opening."""
    primary = parse(start("--repl-diskless-sync-delay", "0"))
    replica = start("--replicaof", f"127.0.0.1 {primary.port}")
    async with lab_on(f"redis://127.0.0.1:{primary.port}/0") as lab:
        spec = await lab.engines[0].declare(StreamSpec(name="s", max_events=100))
        engine = await open_engine(replica)
        lab.engines.append(engine)
        assert engine.facts.role == "slave"
        assert any("replica" in notice for notice in engine.facts.notices)

        async def copied() -> bool:
            return [each.name for each in await engine.streams("*")] == ["s"]

        await wait_until(copied)
        (outcome,) = await engine.publish([((spec.name, 0), record("a"))], 1.0)
        assert isinstance(outcome, Unavailable)
        assert "read-only" in str(outcome)
        assert (await lab.engines[0].read("s", {}, 10, 0.0)).deliveries == []


async def test_a_full_server_refuses_and_resumes_by_itself(start: Start) -> None:
    """maxmemory with noeviction: Unavailable, no false outcome, acks still work, and it goes on once there is room."""
    async with lab_on(start("--maxmemory", "8mb", "--maxmemory-policy", "noeviction")) as lab:
        spec = await lab.engines[0].declare(StreamSpec(name="s", max_events=1_000_000))
        reader = await lab.reader(spec)
        stored: list[str] = []
        refused: list[object] = []
        for at in range(0, 2000, 50):
            batch = [((spec.name, 0), record(f"e{at + n}", 8192)) for n in range(50)]
            for (_, each), outcome in zip(batch, await lab.engines[0].publish(batch, 5.0), strict=True):
                (stored if isinstance(outcome, str) else refused).append(
                    each.id.decode() if isinstance(outcome, str) else outcome
                )
            if refused:
                break
        assert refused
        assert all(isinstance(each, Unavailable) for each in refused)
        got = await reader.get(len(stored))
        assert names(got) == stored
        assert await reader.done(*got) == []
        assert lab.pending(spec) == []
        lab.raw.config_set("maxmemory", "64mb")
        assert len(await lab.publish(spec, "after")) == 1
        assert names(await reader.get(1)) == ["after"]


async def test_a_server_that_evicts_streams_is_refused(start: Start) -> None:
    """Before anything is written; what evicts only keys with a time to live is fine."""
    engine = await open_engine(start("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"))
    with pytest.raises(ConfigError, match="allkeys-lru"):
        await engine.declare(StreamSpec(name="s", max_events=10))
    assert list(await engine.streams("*")) == []
    await engine.close()
    engine = await open_engine(start("--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru"))
    assert (await engine.declare(StreamSpec(name="s", max_events=10))).name == "s"
    await engine.close()


async def test_a_server_that_loads_its_data_is_unavailable_until_it_has(start: Start) -> None:
    """Publishing and opening say so in one sentence; both work afterwards, by themselves."""
    url = start("--enable-debug-command", "yes")
    async with lab_on(url) as lab:
        spec = await lab.engines[0].declare(StreamSpec(name="s", max_events=100))
        for number in range(150):
            lab.raw.set(f"k{number}", "x" * 100)
        lab.raw.config_set("key-load-delay", "10000")
        lab.raw.config_set("loading-process-events-interval-bytes", "1024")
        loading = asyncio.create_task(asyncio.to_thread(lab.raw.execute_command, "DEBUG", "RELOAD"))
        refusals: list[str] = []

        async def refused() -> bool:
            (outcome,) = await lab.engines[0].publish([((spec.name, 0), record("a"))], 1.0)
            if isinstance(outcome, Unavailable):
                refusals.append(str(outcome))
            return bool(refusals)

        await wait_until(refused)
        assert "loading" in refusals[0]
        with pytest.raises(Unavailable, match="loading"):
            await open_engine(url)
        await loading
        assert len(await lab.publish(spec, "after")) == 1
        await (await open_engine(url)).close()


@pytest.mark.parametrize("durability", ["always", "everysec"])
async def test_a_durability_that_does_not_hold_is_refused(start: Start, durability: str) -> None:
    """The server's own settings decide; with them in place it opens."""
    with pytest.raises(ConfigError, match="appendonly"):
        await open_engine(start(), durability=durability)
    engine = await open_engine(start("--appendonly", "yes", "--appendfsync", durability), durability=durability)
    assert "append-only file" in engine.facts.durability
    await engine.close()


async def test_a_server_that_is_away_is_waited_for_while_reading(start: Start, short_root: Path) -> None:
    """A member reads on by itself once its server is back, wherever it is then."""
    folder = Path(tempfile.mkdtemp(dir=short_root))
    where = [parse(start("--appendonly", "yes", "--dir", str(folder), folder=folder))]

    async def resolve() -> Address:
        return where[0]

    engine = await RedisEngine.open(resolve)
    spec = await engine.declare(StreamSpec(name="s", max_events=100))
    member = await engine.join(GroupSpec(name="g"))
    await member.follow([spec])
    reader = Reader(member)
    raw = sync(f"redis://{where[0].where}/0")
    os.kill(int(raw.info("server")["process_id"]), signal.SIGKILL)
    raw.close()
    assert await reader.some(10, 0.3) == []
    (outcome,) = await engine.publish([((spec.name, 0), record("never"))], 0.2)
    assert isinstance(outcome, Unavailable)
    where[0] = parse(await asyncio.to_thread(start, "--appendonly", "yes", "--dir", str(folder), folder=folder))
    (outcome,) = await engine.publish([((spec.name, 0), record("a"))], 5.0)
    assert isinstance(outcome, str)
    assert names(await reader.get(1)) == ["a"]
    await engine.close()
