"""
What a stream and its groups look like now, in two round trips whose cost does not grow with the stream's length.

The server's own lag is wrong after trimming (Redis 7.0) and missing after deletions: it is corrected here, from what
the same answer says about the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mainstem.engine import GroupInfo, StreamInfo, StreamSpec
from mainstem.engines.redis.layout import clock, group_key, log_key, members_key
from mainstem.engines.redis.replies import checked, data, integer, items, pairs
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import Reply, ReplyError, command

COUNTABLE = 1000
"""Undelivered events that are counted one by one where the server has lost count; beyond, the lag is unknown."""

ALIVE = 30_000
"""Milliseconds since a queue's consumer was last heard for which it counts as a member."""

_COUNTERS = (b"lost", b"handled", b"failed")
_PER_GROUP = 5


@dataclass(frozen=True, slots=True)
class _Log:
    """One part's log, as XINFO STREAM tells it."""

    length: int = 0
    added: int = 0
    first: str = ""
    last: str = "0-0"


@dataclass(slots=True)
class _Sum:
    """A group, summed over the parts so far."""

    lag: int | None = 0
    oldest_ms: list[int] = field(default_factory=list[int])
    pending: int = 0
    members: int = 0
    lost: int = 0
    dead: int = 0
    handled: int = 0
    failed: int = 0


async def describe(server: Server, spec: StreamSpec) -> StreamInfo:
    """Ask the server about one stream, which may have no log yet."""
    what = f"describe stream {spec.name!r}"
    logs = [log_key(spec, part) for part in spec.parts]
    asked = [command(b"TIME")]
    for log in logs:
        asked += [
            command(b"XINFO", b"STREAM", log),
            command(b"XINFO", b"GROUPS", log),
            command(b"MEMORY", b"USAGE", log, b"SAMPLES", 5),
        ]
    now, *answers = await server.pipeline(what, asked)
    parts = [_log(reply, what) for reply in answers[::3]]
    groups = [_groups(reply, what) for reply in answers[1::3]]
    sums = await _sums(server, spec, parts, groups)
    now_ms = integer(items(now)[0]) * 1000 + integer(items(now)[1]) // 1000
    sizes = [size for size in answers[2::3] if isinstance(size, int)]
    present = [part for part in parts if part.first]
    return StreamInfo(
        spec=spec,
        length=sum(part.length for part in parts),
        added=sum(part.added for part in parts),
        bytes=sum(sizes) if len(sizes) == len(present) else None,
        first_ms=min((_ms(part.first) for part in present), default=None),
        last_ms=max((_ms(part.last) for part in parts if part.added), default=None),
        groups=tuple(_info(name, found, now_ms) for name, found in sorted(sums.items())),
    )


def _log(reply: Reply, what: str) -> _Log:
    if isinstance(reply, ReplyError) and "no such key" in reply.text:
        return _Log()
    about = pairs(checked(reply, what))
    first = about[b"first-entry"]
    return _Log(
        length=integer(about[b"length"]),
        added=integer(about[b"entries-added"]),
        first=data(items(first)[0]).decode() if first else "",
        last=data(about[b"last-generated-id"]).decode(),
    )


def _groups(reply: Reply, what: str) -> list[dict[bytes, Reply]]:
    if isinstance(reply, ReplyError) and "no such key" in reply.text:
        return []
    return [pairs(group) for group in items(checked(reply, what))]


async def _sums(
    server: Server, spec: StreamSpec, parts: Sequence[_Log], groups: Sequence[Sequence[Mapping[bytes, Reply]]]
) -> dict[str, _Sum]:
    asked: list[bytes] = []
    order: list[tuple[str, _Log, Mapping[bytes, Reply]]] = []
    for partition, (part, found) in enumerate(zip(parts, groups, strict=True)):
        for group in found:
            name = data(group[b"name"]).decode()
            order.append((name, part, group))
            last = data(group[b"last-delivered-id"]).decode()
            asked += _questions(spec, partition, name, last, COUNTABLE if _lag(part, group) is None else 1)
    answers = await server.pipeline(f"describe the groups of {spec.name!r}", asked)
    sums: dict[str, _Sum] = {}
    for at, (name, part, group) in enumerate(order):
        _add(sums.setdefault(name, _Sum()), part, group, answers[at * _PER_GROUP : (at + 1) * _PER_GROUP], spec)
    return sums


def _questions(spec: StreamSpec, partition: int, group: str, last: str, count: int) -> list[bytes]:
    log = log_key(spec, partition)
    return [
        command(b"HMGET", group_key(spec, partition, group), *_COUNTERS),
        command(b"XLEN", group_key(spec, partition, group, "dead")),
        command(b"XPENDING", log, group),
        command(b"XRANGE", log, f"({last}", b"+", b"COUNT", count),
        command(b"ZCOUNT", members_key(spec.name, group), int(clock() * 1000), b"+inf")
        if spec.keyed
        else command(b"XINFO", b"CONSUMERS", log, group),
    ]


def _lag(part: _Log, group: Mapping[bytes, Reply]) -> int | None:
    """Events in the log that the group was not given; None where nobody counted."""
    last = _order(data(group[b"last-delivered-id"]).decode())
    if part.length == 0 or last >= _order(part.last):
        return 0
    if last < _order(part.first):
        return part.length
    read = group.get(b"entries-read")
    return None if read is None else min(part.length, max(0, part.added - integer(read)))


def _add(found: _Sum, part: _Log, group: Mapping[bytes, Reply], answers: Sequence[Reply], spec: StreamSpec) -> None:
    counters, dead, pending, undelivered, members = answers
    lost, handled, failed = (integer(value or 0) for value in items(counters))
    found.lost += lost
    found.handled += handled
    found.failed += failed
    found.dead += integer(dead)
    waiting = items(pending)
    found.pending += integer(waiting[0])
    if waiting[1] is not None:
        found.oldest_ms.append(_ms(data(waiting[1]).decode()))
    following = items(undelivered)
    if following:
        found.oldest_ms.append(_ms(data(items(following[0])[0]).decode()))
    lag = _lag(part, group)
    if lag is None and len(following) < COUNTABLE:
        lag = len(following)
    found.lag = None if lag is None or found.lag is None else found.lag + lag
    alive = integer(members) if spec.keyed else sum(_alive(consumer) for consumer in items(members))
    found.members = max(found.members, alive)


def _alive(consumer: Reply) -> bool:
    return integer(pairs(consumer)[b"idle"]) < ALIVE


def _info(name: str, found: _Sum, now_ms: int) -> GroupInfo:
    oldest = min(found.oldest_ms, default=now_ms)
    return GroupInfo(
        name=name,
        lag=found.lag,
        lag_seconds=max(0, now_ms - oldest) / 1000,
        pending=found.pending,
        members=found.members,
        lost=found.lost,
        dead=found.dead,
        handled=found.handled,
        failed=found.failed,
    )


def _ms(entry: str) -> int:
    return int(entry.partition("-")[0])


def _order(entry: str) -> tuple[int, int]:
    ms, _, seq = entry.partition("-")
    return int(ms), int(seq)
