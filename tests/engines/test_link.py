"""A link comes back after its server does, asks once for all who wait, and tells what happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from engines.wire_lab import Server, proxied, until
from mainstem.engines.redis import fast
from mainstem.engines.redis.address import Address
from mainstem.engines.redis.link import Link, LinkChange
from mainstem.engines.redis.wire import ReplyLost, Wire, command
from mainstem.errors import PermissionDenied, Unavailable


@pytest.fixture
def server() -> Iterator[Server]:
    with TemporaryDirectory(prefix="ms") as folder:
        server = Server(Path(folder)).start()
        try:
            yield server
        finally:
            server.kill()


class Counted:
    """Says where the server is, and how often it was asked and connected to."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.resolved: list[float] = []
        self.dialled = 0

    async def resolve(self) -> Address:
        self.resolved.append(time.monotonic())
        return self.address

    async def connect(self, address: Address) -> Wire:
        self.dialled += 1
        return await fast.connect(address)


async def test_all_who_wait_share_one_connection(server: Server) -> None:
    counted = Counted(server.address)
    link = Link(counted.resolve, connect=counted.connect)
    assert link.live is None
    wires = await asyncio.gather(*[link.get() for _ in range(1_000)])
    assert set(map(id, wires)) == {id(link.live)}
    assert await link.get() is wires[0]
    assert counted.dialled == len(counted.resolved) == 1
    await link.close()


async def test_it_comes_back_with_its_server_and_says_so(server: Server) -> None:
    changes: list[LinkChange] = []
    counted = Counted(server.address)
    link = Link(counted.resolve, connect=counted.connect, on_change=changes.append)
    first = await link.get()
    lost = first.send(command("BLPOP", "nothing", 0), within=60)
    await asyncio.sleep(0)
    server.kill()
    with pytest.raises(ReplyLost):
        await lost
    with pytest.raises(Unavailable, match=f"no server answers at 127.0.0.1:{server.port}"):
        await link.get()
    waiting = asyncio.create_task(link.get(wait=20))
    await until(lambda: counted.dialled >= 4)
    assert not waiting.done()
    await asyncio.to_thread(server.start)
    second = await waiting
    assert second is not first
    assert await second.send(command("PING")) == b"PONG"
    assert [change.kind for change in changes] == ["lost", "restored"]
    assert changes[0].reason is first.reason
    assert changes[0].where == changes[1].where == server.address.where
    assert changes[1].away > 0
    await link.close()
    assert [change.kind for change in changes] == ["lost", "restored"]  # closing is no incident


async def test_a_thousand_waiters_on_a_dead_server_are_no_flood(server: Server) -> None:
    server.kill()
    counted = Counted(server.address)
    link = Link(counted.resolve, connect=counted.connect)
    start = time.monotonic()
    results = await asyncio.gather(*[link.get(wait=1.0) for _ in range(1_000)], return_exceptions=True)
    assert 0.9 < time.monotonic() - start < 3
    assert all(isinstance(result, Unavailable) for result in results)
    assert "no server answers" in str(results[0])
    # Pauses of 10-20, 20-40, 40-80 ... ms: seven or eight attempts fit into a second.
    assert 4 <= counted.dialled <= 9
    gaps = [after - before for before, after in zip(counted.resolved, counted.resolved[1:], strict=False)]
    assert gaps[-1] > 4 * gaps[0]
    await link.close()


async def test_a_wrong_password_is_not_tried_again(server: Server) -> None:
    wire = await fast.connect(server.address)
    await wire.send(command("CONFIG", "SET", "requirepass", "right"))
    await wire.aclose()
    counted = Counted(server.address)
    link = Link(counted.resolve, connect=counted.connect)
    with pytest.raises(PermissionDenied):
        await link.get(wait=30)
    assert counted.dialled == 1
    await link.close()


async def test_the_server_may_be_started_by_the_attempt_itself(server: Server) -> None:
    server.kill()
    starts = 0

    async def resolve() -> Address:
        nonlocal starts
        starts += 1
        if server.process is None:
            await asyncio.to_thread(server.start)
        return server.address

    link = Link(resolve)
    for expected in (1, 2):
        wire = await link.get()
        assert await wire.send(command("PING")) == b"PONG"
        assert starts == expected
        server.kill()
        await wire.closed.wait()
    await link.close()


async def test_cancelled_waiters_disturb_nobody(server: Server) -> None:
    async with proxied(server.port) as proxy:
        proxy.reading.clear()  # the attempt hangs in its greeting
        counted = Counted(proxy.address)
        link = Link(counted.resolve, connect=counted.connect)
        waiters = [asyncio.create_task(link.get(wait=10 * (n % 2))) for n in range(20)]
        await until(lambda: len(proxy.clients) == 1)
        for waiter in waiters[:19]:
            waiter.cancel()
        results = await asyncio.gather(*waiters[:19], return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        proxy.reading.set()
        assert await waiters[19] is link.live
        assert counted.dialled == 1
        await link.close()


async def test_closing_ends_an_attempt_and_all_later_ones(server: Server) -> None:
    async with proxied(server.port) as proxy:
        proxy.reading.clear()
        link = Link(Counted(proxy.address).resolve)
        waiters = [asyncio.create_task(link.get(wait=10 * n)) for n in range(2)]
        await until(lambda: len(proxy.clients) == 1)
        await link.close()
        for waiter in waiters:
            with pytest.raises(Unavailable, match="closed by this program"):
                await waiter
        with pytest.raises(Unavailable, match="closed by this program"):
            await link.get(wait=5)
        await link.close()


async def test_a_server_that_drops_every_connection_is_asked_ever_more_slowly(server: Server) -> None:
    counted = Counted(server.address)
    link = Link(counted.resolve, connect=counted.connect)
    for _ in range(6):
        wire = await link.get()
        wire.send(command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")).add_done_callback(
            lambda done: done.exception()
        )
        await wire.closed.wait()
    gaps = [after - before for before, after in zip(counted.resolved, counted.resolved[1:], strict=False)]
    assert gaps[-1] > 4 * gaps[0]
    await link.close()
