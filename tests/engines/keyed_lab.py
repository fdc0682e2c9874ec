"""Members of a keyed group on a real server, and an audit of who held what when: nothing here pretends to be Redis."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from mainstem.engine import Delivery, Done, GroupSpec, Part, Record, Revoking, Signal, StreamSpec
from mainstem.engines.redis.address import parse
from mainstem.engines.redis.keyed import RedisKeyedMember
from mainstem.engines.redis.layout import group_key, log_key, record_fields
from mainstem.engines.redis.server import Server

WORKER = Path(__file__).with_name("keyed_worker.py")
NOTHING: frozenset[Part] = frozenset()


@dataclass(frozen=True)
class Note:
    """One event that a handler began with."""

    at: float
    member: str
    partition: int
    ordinal: int
    position: str
    key: str
    number: int
    deliveries: int


def open_server(url: str) -> Server:
    async def resolve() -> object:
        return parse(url)

    return Server(resolve)  # type: ignore[arg-type]


def record(key: str, number: int) -> Record:
    return Record(f"{key}.{number}".encode(), b"t", b"s", b"2026-01-01T00:00:00Z", key.encode(), b"%d" % number, b"")


def publish(client: redis.Redis, spec: StreamSpec, keys: Sequence[str], numbers: Iterable[int]) -> list[str]:
    """Number by number, one event for each key; returns the positions."""
    pipe = client.pipeline(transaction=False)
    for number in numbers:
        for key in keys:
            flat = record_fields(record(key, number))
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            pipe.xadd(log_key(spec, zlib.crc32(key.encode()) % spec.partitions), fields)
    return [position.decode() for position in pipe.execute()]


def state(client: redis.Redis, spec: StreamSpec, partition: int, group: str = "g") -> dict[str, str]:
    found = client.hgetall(group_key(spec, partition, group))
    return {name.decode(): value.decode() for name, value in found.items()}


def note_of(delivery: Delivery, member: str) -> Note:
    r = delivery.record
    tag = delivery.tag if isinstance(delivery.tag, int) else 0
    return Note(
        time.monotonic(), member, delivery.part[1], tag, delivery.position, r.key.decode(), int(r.data),
        delivery.deliveries or 0,
    )  # fmt: skip


Handle = Callable[[Delivery], Awaitable[None]]


@dataclass
class Runner:
    """A member that handles what it receives and settles it; `notes` is what it did, `signals` what it was told."""

    member: RedisKeyedMember
    name: str
    handle: Handle | None = None
    limit: int = 100
    notes: list[Note] = field(default_factory=list)
    signals: list[Signal] = field(default_factory=list)
    fenced: list[Delivery] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    held: dict[Part, float] = field(default_factory=dict)

    def start(self) -> Runner:
        self.task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        while True:
            batch = await self.member.receive(self.limit, 0.5, NOTHING)
            done: list[Done] = []
            leaving: list[Part] = []
            for item in batch:
                if isinstance(item, Delivery):
                    self.notes.append(note_of(item, self.name))
                    if self.handle is not None:
                        await self.handle(item)
                    done.append(Done(item))
                    continue
                self.signals.append(item)
                if isinstance(item, Revoking):
                    leaving.append(item.part)
            self.fenced += await self.member.settle(done)
            for part in leaving:
                await self.member.yield_part(part)

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                self.task.result()
        await self.member.leave()

    @property
    def owned(self) -> set[int]:
        return {part[1] for part in self.member._holdings.owned}


def check_owners(notes: Sequence[Note]) -> None:
    """No two owners of one partition at the same time: what each did in one ownership is apart from what others did."""
    spans: dict[int, dict[tuple[str, int], list[float]]] = defaultdict(dict)
    for note in notes:
        spans[note.partition].setdefault((note.member, note.ordinal >> 40), []).append(note.at)
    for partition, owners in spans.items():
        ordered = sorted((min(times), max(times), owner) for owner, times in owners.items())
        for (_, ended, one), (began, _, other) in itertools.pairwise(ordered):
            assert ended <= began, f"partition {partition} was held by {one} until {ended} and by {other} from {began}"


def check_order(notes: Sequence[Note], keys: Sequence[str], count: int) -> None:
    """Each key's events were first handled in order, and all of them were."""
    first: dict[str, list[int]] = {key: [] for key in keys}
    seen: set[tuple[str, int]] = set()
    for note in sorted(notes, key=lambda note: note.at):
        if (note.key, note.number) not in seen:
            seen.add((note.key, note.number))
            first[note.key].append(note.number)
    for key in keys:
        wrong = next((at for at, number in enumerate(first[key]) if at != number), None)
        near = [note for note in sorted(notes, key=lambda note: note.at) if note.key == key]
        told = [n for n in near if wrong is not None and abs(n.number - wrong) < 3]
        assert first[key] == list(range(count)), f"{key} is out of order at {wrong}: {told}"


@dataclass
class Worker:
    """A member in a process of its own; what its handler begins with is written to a file that survives kill -9."""

    process: subprocess.Popen[bytes]
    name: str
    path: Path

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def notes(self) -> list[Note]:
        return [Note(**line["note"]) for line in self.lines() if "note" in line]  # type: ignore[arg-type]

    def told(self, kind: str) -> list[object]:
        return [line[kind] for line in self.lines() if kind in line]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def start_worker(url: str, spec: StreamSpec, group: GroupSpec, name: str, folder: Path, **how: object) -> Worker:
    path = folder / f"{name}.jsonl"
    orders = {"url": url, "stream": spec.name, "partitions": spec.partitions, "group": group.name}
    orders |= {"lease": group.lease, "drain": group.drain, "name": name, "path": str(path), **how}
    process = subprocess.Popen([sys.executable, str(WORKER), json.dumps(orders)], stdin=subprocess.DEVNULL)
    return Worker(process, name, path)


@dataclass
class Lab:
    """A server, a stream on it, and the members that a test made."""

    url: str
    name: str
    folder: Path
    client: redis.Redis
    server: Server
    members: list[RedisKeyedMember] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    def spec(self, partitions: int) -> StreamSpec:
        return StreamSpec(name=self.name, partitions=partitions)

    async def join(self, name: str, spec: StreamSpec, group: GroupSpec) -> RedisKeyedMember:
        member = RedisKeyedMember(self.server, group, name)
        self.members.append(member)
        await member.follow([spec])
        return member

    async def run(self, name: str, spec: StreamSpec, group: GroupSpec, **how: object) -> Runner:
        return Runner(await self.join(name, spec, group), name, **how).start()  # type: ignore[arg-type]

    def work(self, name: str, spec: StreamSpec, group: GroupSpec, **how: object) -> Worker:
        self.workers.append(start_worker(self.url, spec, group, name, self.folder, **how))
        return self.workers[-1]


@asynccontextmanager
async def opened_lab(url: str, name: str, folder: Path) -> AsyncIterator[Lab]:
    """A lab on the server at `url`, emptied; what its test made is ended with it."""
    client = redis.Redis.from_url(url)
    client.flushall()
    server = open_server(url)
    await server.open()
    made = Lab(url, name, folder, client, server)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.end()
        for member in made.members:
            await member.leave()
        await server.close()
        client.close()


GROUP = GroupSpec(name="g", lease=2.0, drain=2.0)
KEYS = [f"k{number}" for number in range(40)]


async def collect(
    member: RedisKeyedMember, count: int, within: float = 5.0, limit: int = 100
) -> tuple[list[Delivery], list[Signal]]:
    """Receive until there are so many deliveries."""
    deliveries: list[Delivery] = []
    signals: list[Signal] = []
    deadline = time.monotonic() + within
    while len(deliveries) < count:
        assert time.monotonic() < deadline, f"{len(deliveries)} of {count} deliveries, {signals}"
        for item in await member.receive(limit, 0.2, NOTHING):
            if isinstance(item, Delivery):
                deliveries.append(item)
            else:
                signals.append(item)
    return deliveries, signals


async def told(member: RedisKeyedMember, kind: type, within: float = 5.0) -> Signal:
    """Receive until it tells a signal of this kind."""
    deadline = time.monotonic() + within
    while True:
        assert time.monotonic() < deadline, f"no {kind.__name__}"
        for item in await member.receive(100, 0.2, NOTHING):
            if isinstance(item, kind):
                return item  # type: ignore[return-value]


async def nothing_comes(member: RedisKeyedMember, seconds: float = 0.4) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert not [item for item in await member.receive(100, 0.1, NOTHING) if isinstance(item, Delivery)]
