"""A real server and a misbehaving network for the tests of the connection: nothing here pretends to be Redis."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mainstem.engines.redis import fast
from mainstem.engines.redis.address import Address
from mainstem.engines.redis.wire import NotSent, Reply, ReplyLost, Wire, command
from servers_for_tests import redis7_binary

Connect = Callable[[Address], Awaitable[Wire]]


async def until(holds: Callable[[], bool | Awaitable[bool]], within: float = 10.0) -> None:
    """Poll until it holds; fails after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        answer = holds()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert time.monotonic() < deadline, f"not within {within} s"
        await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One redis-server process, which can be killed and started again on the same port."""

    folder: Path
    options: Sequence[str] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> Address:
        return Address(host="127.0.0.1", port=self.port)

    @property
    def socket(self) -> str:
        return str(self.folder / "s")

    def start(self, *more: str) -> Server:
        self.port = self.port or free_port()
        arguments = [
            redis7_binary(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.folder),
        ]
        arguments += ["--unixsocket", self.socket, *self.options, *more]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while not self._listens():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "redis-server does not listen"
            time.sleep(0.01)
        return self

    def _listens(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def ask(address: Address, *parts: bytes | str | int) -> Reply:
    """One command on a connection of its own."""
    wire = await fast.connect(address)
    try:
        return await wire.send(command(*parts))
    finally:
        await wire.aclose()


async def fresh(server: Server) -> Address:
    await ask(server.address, "FLUSHALL")
    return server.address


async def stored(address: Address) -> list[int]:
    """The numbers in the stream ``s``, in order."""
    entries: Any = await ask(address, "XRANGE", "s", "-", "+")
    return [int(fields[1]) for _, fields in entries]


def add(number: int, size: int = 1) -> bytes:
    return command("XADD", "s", "*", "n", number, "pad", b"x" * size)


@dataclass
class Proxy:
    """A TCP proxy that can slice, swallow, stall or cut what passes through it."""

    target: int
    port: int = 0
    replies: Literal["pass", "slice", "swallow"] = "pass"
    cut_after: int | None = None
    """Reset the client's connection once so many bytes of replies have passed."""

    def __post_init__(self) -> None:
        self.reading = asyncio.Event()
        self.reading.set()
        self.received = 0
        self.swallowed = 0
        self.clients: list[asyncio.StreamWriter] = []
        self._passed = 0
        self._servers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def address(self) -> Address:
        return Address(host="127.0.0.1", port=self.port)

    def segments(self) -> int:
        """TCP segments with data that the newest client sent: with TCP_NODELAY, the number of its writes."""
        info = self.clients[-1].get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("I", info, 152)[0])

    def reset(self) -> None:
        """Cut every connection with a TCP reset."""
        for writer in self.clients:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def half_close(self) -> None:
        """Say that no more replies come, but keep reading."""
        for writer in self.clients:
            writer.write_eof()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.append(writer)
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._servers.append(server_writer)
        self._tasks += [
            asyncio.create_task(self._commands(reader, server_writer)),
            asyncio.create_task(self._replies(server_reader, writer)),
        ]

    async def _commands(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while True:
                await self.reading.wait()
                data = await reader.read(1 << 16)
                if not data:
                    break
                self.received += len(data)
                server.write(data)
                await server.drain()
        server.close()

    async def _replies(self, server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(1 << 16):
                if self.replies == "swallow":
                    self.swallowed += len(data)
                    continue
                await self._forward(data, writer)
        writer.close()

    async def _forward(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.cut_after is not None and self._passed + len(data) >= self.cut_after:
            writer.write(data[: self.cut_after - self._passed])
            await writer.drain()
            self.reset()
            return
        self._passed += len(data)
        if self.replies == "pass":
            writer.write(data)
            await writer.drain()
            return
        for number in range(len(data)):
            writer.write(data[number : number + 1])
            await asyncio.sleep(0)

    async def stop(self) -> None:
        for writer in (*self.clients, *self._servers):
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in (*self.clients, *self._servers):
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def proxied(target: int, *, receive_buffer: int = 0) -> AsyncIterator[Proxy]:
    """A proxy in front of the server on port ``target``."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if receive_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    listener.bind(("127.0.0.1", 0))
    proxy = Proxy(target, port=listener.getsockname()[1])
    server = await asyncio.start_server(proxy.serve, sock=listener)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()


async def cancel_storm(connect: Connect, address: Address, seed: int) -> None:
    """Thousands of commands, single and in batches, a third of them cancelled at random moments."""
    chance = random.Random(seed)
    wire = await connect(address)
    crossed: list[object] = []
    answered = 0

    async def one(n: int) -> None:
        nonlocal answered
        reply = await wire.send(command("ECHO", n))
        answered += 1
        if reply != b"%d" % n:
            crossed.append((n, reply))

    async def many(n: int) -> None:
        nonlocal answered
        replies = await wire.send_many([command("ECHO", f"{n}-{k}") for k in range(10)], 10)
        answered += 1
        if replies != [b"%d-%d" % (n, k) for k in range(10)]:
            crossed.append((n, replies))

    tasks = [asyncio.create_task(one(n) if n % 4 else many(n)) for n in range(3_000)]
    victims = chance.sample(tasks, 1_000)
    for batch in range(0, 1_000, 50):
        for task in victims[batch : batch + 50]:
            task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    cancelled = sum(isinstance(result, asyncio.CancelledError) for result in results)
    assert crossed == []
    assert cancelled + answered == 3_000
    assert cancelled > 100
    assert await wire.send(command("ECHO", "last")) == b"last"
    assert wire.pending == 0
    await wire.aclose()


async def truth(connect: Connect, server: Server, seed: int) -> tuple[int, int, int]:
    """Publish through a connection that is cut at a random moment; compare what was said with what is stored."""
    chance = random.Random(seed)
    said: dict[type[Exception] | None, set[int]] = {None: set(), NotSent: set(), ReplyLost: set()}
    async with proxied(server.port) as proxy:
        wire = await connect(proxy.address)

        async def publish(n: int) -> None:
            for _ in range(chance.randrange(40)):
                await asyncio.sleep(0)
            try:
                await (wire.send_many([add(n)], 1) if n % 3 else wire.send(add(n)))
                said[None].add(n)
            except (NotSent, ReplyLost) as error:
                said[type(error)].add(n)

        tasks = [asyncio.create_task(publish(n)) for n in range(600)]
        for _ in range(chance.randrange(5, 30)):
            await asyncio.sleep(0)
        if seed % 2:
            proxy.reset()
        else:
            wire.close()
        await asyncio.gather(*tasks)
        await wire.aclose()
    there = await stored(server.address)
    assert len(there) == len(set(there))
    assert said[None] <= set(there)
    assert not said[NotSent] & set(there)
    return len(said[None]), len(said[NotSent]), len(said[ReplyLost])


async def stalled(connect: Connect, proxy: Proxy) -> int:
    """How many bytes eager tasks hand over while nothing is read at the other end; then everything is answered."""
    wire = await connect(proxy.address)
    proxy.reading.clear()
    payload, handed = add(0, size=20_000), 0
    batches: list[asyncio.Future[list[Reply]]] = []

    async def singly() -> None:
        nonlocal handed
        for _ in range(15):
            await wire.drain()
            handed += len(payload)
            assert isinstance(await wire.send(payload), bytes)

    async def in_batches() -> None:
        nonlocal handed
        for _ in range(15):
            await wire.drain()
            handed += 20 * len(payload)
            batches.append(wire.send_many([payload] * 20, 20))

    tasks = [asyncio.create_task(singly()) for _ in range(200)] + [asyncio.create_task(in_batches()) for _ in range(10)]
    await until(lambda: _paused(wire))
    for _ in range(100):
        await asyncio.sleep(0)
    at_rest = handed
    proxy.reading.set()
    await asyncio.gather(*tasks)
    assert all(isinstance(reply, bytes) for batch in await asyncio.gather(*batches) for reply in batch)
    await wire.aclose()
    return at_rest


async def _paused(wire: Wire) -> bool:
    try:
        await asyncio.wait_for(wire.drain(), 0.02)
    except TimeoutError:
        return True
    return False
