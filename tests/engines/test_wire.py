"""Both wires, on a real server: replies find their senders, and of a lost connection the truth is told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from engines.wire_lab import Connect, Server, add, ask, cancel_storm, fresh, proxied, stalled, stored, truth, until
from mainstem.engines.redis import fast, plain
from mainstem.engines.redis.wire import HIGH_WATER, NotSent, ReplyError, ReplyLost, command


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with TemporaryDirectory(prefix="ms") as folder:
        server = Server(Path(folder)).start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(params=["fast", "plain"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return {"fast": fast.connect, "plain": plain.connect}[request.param]


# ------------------------------------------------------------------------------------------------------ round trips


async def test_every_kind_of_reply_comes_back_as_it_is(server: Server, connect: Connect) -> None:
    wire = await connect(await fresh(server))
    assert await wire.send(command("PING")) == b"PONG"
    assert await wire.send(command("SET", "k", "Grüße")) == b"OK"
    assert await wire.send(command("GET", b"k")) == "Grüße".encode()
    assert await wire.send(command("GET", "absent")) is None
    assert await wire.send(command("EXISTS", "absent")) == 0
    assert await wire.send(command("LRANGE", "absent", 0, -1)) == []
    nested = await wire.send(command("EVAL", "return {1, 'a', false, {2, {}}, ''}", 0))
    assert nested == [1, b"a", None, [2, []], b""]
    assert wire.pending == 0
    await wire.aclose()


async def test_an_error_reply_is_a_value_with_its_code(server: Server, connect: Connect) -> None:
    wire = await connect(await fresh(server))
    replies = await wire.send_many(
        [command("SET", "k", 1), command("XADD", "k", "*", "a", 1), command("XREADGROUP"), command("GET", "k")], 4
    )
    assert [replies[0], replies[3]] == [b"OK", b"1"]
    assert isinstance(replies[1], ReplyError)
    assert isinstance(replies[2], ReplyError)
    assert replies[1].code == "WRONGTYPE"
    assert replies[2].text == "ERR wrong number of arguments for 'xreadgroup' command"
    inside: Any = await wire.send(command("EVAL", "return {1, redis.error_reply('NOAUTH no'), 2}", 0))
    assert [inside[0], inside[1].code, inside[2]] == [1, "NOAUTH", 2]
    top = await wire.send(command("EVAL", "return redis.error_reply('LOADING not really')", 0))
    assert isinstance(top, ReplyError)
    assert top.code == "LOADING"
    garbled = await wire.send(command("EVAL", b"return redis.error_reply('ODD \xff')", 0))
    assert isinstance(garbled, ReplyError)
    assert garbled.code == "ODD"
    with pytest.raises(ValueError, match="without replies"):
        wire.send_many([], 0)
    assert await wire.send(command("PING")) == b"PONG"
    await wire.aclose()


async def test_batches_and_single_commands_keep_their_order(server: Server, connect: Connect) -> None:
    wire = await connect(await fresh(server))
    first = wire.send(add(0))
    batch = wire.send_many(b"".join(add(n) for n in range(1, 501)), 500)
    more = wire.send_many([add(n) for n in range(501, 1001)], 500)
    last = wire.send(add(1001))
    assert wire.pending == 4
    ids = [await first, *await batch, *await more, await last]
    assert len(set(map(str, ids))) == 1002
    assert await stored(server.address) == list(range(1002))
    await wire.aclose()


async def test_a_reply_of_five_megabytes(server: Server, connect: Connect) -> None:
    wire = await connect(await fresh(server))
    value = random.Random(3).randbytes(5_000_000)
    setting, getting, after = (
        wire.send(command("SET", "big", value)),
        wire.send(command("GET", "big")),
        wire.send(command("PING")),
    )
    assert await setting == b"OK"
    assert await getting == value
    assert await after == b"PONG"
    await wire.aclose()


async def test_replies_cut_into_single_bytes_are_put_together(server: Server, connect: Connect) -> None:
    address = await fresh(server)
    async with proxied(server.port) as proxy:
        proxy.replies = "slice"
        wire = await connect(proxy.address)
        echoes = [wire.send(command("ECHO", f"{n}\r\n$5\r\n")) for n in range(50)]
        nested = wire.send(command("EVAL", "return {1, {'a', {}}, false}", 0))
        assert [await echo for echo in echoes] == [b"%d\r\n$5\r\n" % n for n in range(50)]
        assert await nested == [1, [b"a", []], None]
        await wire.aclose()
    assert await ask(address, "PING") == b"PONG"


# -------------------------------------------------------------------------------------------------- one write a turn


async def test_all_commands_of_one_turn_leave_in_one_write(server: Server, connect: Connect) -> None:
    await fresh(server)
    async with proxied(server.port) as proxy:
        wire = await connect(proxy.address)
        before = proxy.segments()
        await asyncio.gather(*[wire.send(add(n)) for n in range(100)])
        assert proxy.segments() - before == 1
        for n in range(3):
            await wire.send(add(n))
        assert proxy.segments() - before == 4  # the measure itself can tell writes apart
        waiting = wire.send(add(100))
        await wire.send_many([add(n) for n in range(101, 111)], 10)
        assert proxy.segments() - before == 5
        assert isinstance(await waiting, bytes)
        await wire.aclose()


# --------------------------------------------------------------------------------------------------- cancelled tasks


async def test_cancelling_a_thousand_commands_crosses_no_reply(server: Server, connect: Connect) -> None:
    for seed in range(3):
        await cancel_storm(connect, server.address, seed)


async def test_a_cancelled_command_is_still_applied_once(server: Server, connect: Connect) -> None:
    wire = await connect(await fresh(server))
    futures = [wire.send(add(n)) for n in range(100)]
    for future in futures[::2]:
        future.cancel()
    await asyncio.wait(futures[1::2])
    assert await stored(server.address) == list(range(100))
    await wire.aclose()


# ------------------------------------------------------------------------------------------------ a lost connection


async def test_a_reset_in_the_middle_of_a_reply(server: Server, connect: Connect) -> None:
    await fresh(server)
    async with proxied(server.port) as proxy:
        wire = await connect(proxy.address)
        proxy.cut_after = 10_000
        batch = wire.send_many(b"".join(add(n) for n in range(1_000)), 1_000)
        single = wire.send(add(1_000))
        with pytest.raises(ReplyLost) as lost:
            await batch
        with pytest.raises(ReplyLost):
            await single
        assert wire.closed.is_set()
        assert wire.reason is not None
        assert lost.value.__cause__ is wire.reason
    ids: Any = await ask(server.address, "XRANGE", "s", "-", "+")
    assert list(lost.value.replies) == [entry[0] for entry in ids[: len(lost.value.replies)]]
    assert 0 < len(lost.value.replies) < 1_000


async def test_a_server_that_says_no_more(server: Server, connect: Connect) -> None:
    await fresh(server)
    async with proxied(server.port) as proxy:
        wire = await connect(proxy.address)
        proxy.replies = "swallow"
        future = wire.send(add(1))
        await until(lambda: proxy.swallowed > 0)
        proxy.half_close()
        with pytest.raises(ReplyLost, match="may have been applied"):
            await asyncio.wait_for(future, 5)
        assert await stored(server.address) == [1]
        await asyncio.wait_for(wire.closed.wait(), 5)
        with pytest.raises(NotSent, match="was not applied"):
            await wire.send(add(2))
        with pytest.raises(NotSent):
            await wire.send_many([add(3)], 1)
        await wire.drain()
    assert await stored(server.address) == [1]


async def test_what_is_said_of_a_lost_command_is_true(server: Server, connect: Connect) -> None:
    totals = [0, 0, 0]
    for seed in range(12):
        await fresh(server)
        totals = [a + b for a, b in zip(totals, await truth(connect, server, seed), strict=True)]
    assert all(totals), totals  # each of the three outcomes was seen


async def test_commands_of_the_turn_in_which_it_closes_were_not_sent(server: Server, connect: Connect) -> None:
    wire = await connect(await fresh(server))
    futures = [wire.send(add(n)) for n in range(10)]
    await wire.aclose()
    for future in futures:
        assert isinstance(future.exception(), NotSent)
    assert wire.reason is None
    assert await stored(server.address) == []


async def test_a_server_that_is_killed(connect: Connect) -> None:
    with TemporaryDirectory(prefix="ms") as folder:
        server = Server(Path(folder)).start()
        wire = await connect(server.address)
        blocked = wire.send(command("BLPOP", "nothing", 0), within=60)
        await until(lambda: wire.pending == 1)
        await asyncio.sleep(0)
        server.kill()
        with pytest.raises(ReplyLost):
            await asyncio.wait_for(blocked, 5)
        await wire.aclose()


# --------------------------------------------------------------------------------------------------------- liveness


async def test_a_silent_server_counts_as_dead_after_the_reply_timeout(server: Server, connect: Connect) -> None:
    await fresh(server)
    async with proxied(server.port) as proxy:
        wire = await connect(replace(proxy.address, reply_timeout=0.4))
        assert await wire.send(add(1)) is not None
        proxy.replies = "swallow"
        start = time.monotonic()
        futures = [wire.send(add(2)), wire.send_many([add(3), add(4)], 2)]
        await asyncio.wait(futures, timeout=5)
        assert 0.4 <= time.monotonic() - start < 1.0
        assert all(isinstance(future.exception(), ReplyLost) for future in futures)
        assert isinstance(wire.reason, TimeoutError)
        assert "0.4 s" in str(wire.reason)
        await wire.aclose()
    assert await stored(server.address) == [1, 2, 3, 4]


async def test_a_blocking_command_may_take_its_time_and_idleness_is_no_fault(server: Server, connect: Connect) -> None:
    address = replace(await fresh(server), reply_timeout=0.3)
    blocking, idle, hasty = await connect(address), await connect(address), await connect(address)
    waits = command("XREAD", "BLOCK", 1000, "STREAMS", "none", "$")
    assert await blocking.send(waits, within=1.0) is None
    assert await blocking.send_many([waits, command("PING")], 2, within=1.0) == [None, b"PONG"]
    assert await idle.send(command("PING")) == b"PONG"
    with pytest.raises(ReplyLost):
        await hasty.send(waits)  # the same without saying so
    for wire in (blocking, idle, hasty):
        await wire.aclose()


async def test_a_busy_event_loop_is_not_taken_for_a_dead_server(server: Server, connect: Connect) -> None:
    wire = await connect(replace(await fresh(server), reply_timeout=0.2))
    future = wire.send(command("PING"))
    await asyncio.sleep(0)
    time.sleep(0.6)  # noqa: ASYNC251 - the fault under test: a handler that holds the loop
    assert await future == b"PONG"
    await wire.aclose()


# ---------------------------------------------------------------------------------------------------- back-pressure


async def test_a_stalled_server_slows_its_senders_down(server: Server, connect: Connect) -> None:
    await fresh(server)
    kernel = int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2]) + (1 << 20)
    async with proxied(server.port, receive_buffer=1 << 16) as proxy:
        offered = 200 * 15 * 20_000 + 10 * 15 * 20 * 20_000
        handed = await stalled(connect, proxy)
        assert HIGH_WATER <= handed < 2 * HIGH_WATER + kernel
        assert handed < offered / 8
    assert await ask(server.address, "XLEN", "s") == 200 * 15 + 10 * 15 * 20


# ----------------------------------------------------------------------------------------------------- on uvloop too


def test_the_fast_wire_on_uvloop(server: Server) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> None:
        await cancel_storm(fast.connect, server.address, 7)
        await test_batches_and_single_commands_keep_their_order(server, fast.connect)
        await test_a_reply_of_five_megabytes(server, fast.connect)
        await test_a_silent_server_counts_as_dead_after_the_reply_timeout(server, fast.connect)
        await test_a_busy_event_loop_is_not_taken_for_a_dead_server(server, fast.connect)
        await test_a_stalled_server_slows_its_senders_down(server, fast.connect)
        await test_a_server_that_says_no_more(server, fast.connect)
        for seed in range(4):
            await fresh(server)
            await truth(fast.connect, server, seed)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
