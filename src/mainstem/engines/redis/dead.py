"""
The dead letters of a group: listing, restoring, purging, the same for queues and keyed streams.

Members write them (``desk`` and the keyed commits); a letter is the original record's fields, then ``cause`` and
``origin``. A letter's id names its partition too: ``3:171-0``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mainstem.engine import DeadLetter, StreamSpec
from mainstem.engines.redis.group_scripts import RESTORE
from mainstem.engines.redis.holds import Entry
from mainstem.engines.redis.layout import delivery_of, group_key
from mainstem.engines.redis.replies import checked, integer, items
from mainstem.engines.redis.scripts import Call
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import command
from mainstem.errors import EventRejected

MANY = 100
_OURS = 4  # fields behind the record's own


class RedisDeadLetters:
    """``mainstem.engine.DeadLetters`` over one server."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def dead(self, stream: str, group: str, after: str, limit: int) -> Sequence[DeadLetter]:
        """List, oldest first over all partitions, those behind the id ``after``."""
        spec = await self._server.spec(stream)
        what = f"list the dead letters of {stream!r}"
        mark = _split(after) if after else None
        asked = [
            command(b"XRANGE", _key(spec, part, group), _start(part, mark), b"+", b"COUNT", limit)
            for part in spec.parts
        ]
        letters: list[DeadLetter] = []
        for part, reply in zip(spec.parts, await self._server.pipeline(what, asked), strict=True):
            entries = cast("list[Entry]", items(checked(reply, what)))
            letters += [_letter(spec, part, entry) for entry in entries]
        return sorted(letters, key=lambda letter: _order(letter.id))[:limit]

    async def restore(self, stream: str, group: str, ids: Sequence[str]) -> int:
        """Deliver these again to this group only, and take them off; returns how many."""
        spec = await self._server.spec(stream)
        what = f"restore dead letters of {stream!r}"
        moved = 0
        for part, entries in _by_part(spec, ids).items():
            keys = (_key(spec, part, group), group_key(spec, part, group, "again"))
            for at in range(0, len(entries), MANY):
                moved += integer(await self._server.run(what, Call(RESTORE, keys, (group, *entries[at : at + MANY]))))
        return moved

    async def purge(self, stream: str, group: str, ids: Sequence[str]) -> int:
        """Delete these for good; returns how many."""
        spec = await self._server.spec(stream)
        what = f"purge dead letters of {stream!r}"
        asked = [command(b"XDEL", _key(spec, part, group), *some) for part, some in _by_part(spec, ids).items()]
        return sum(integer(checked(reply, what)) for reply in await self._server.pipeline(what, asked, changes=True))


def _key(spec: StreamSpec, partition: int, group: str) -> bytes:
    return group_key(spec, partition, group, "dead")


def _letter(spec: StreamSpec, partition: int, entry: Entry) -> DeadLetter:
    fields = entry[1]
    part = (spec.name, partition)
    delivery = delivery_of(part, entry[0], fields[:-_OURS], None, None)
    return DeadLetter(
        id=f"{partition}:{entry[0].decode()}",
        part=part,
        position=fields[-1].decode(),
        record=delivery.record,
        cause=fields[-3],
        at_ms=delivery.recorded_ms,
    )


def _by_part(spec: StreamSpec, ids: Sequence[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for letter in ids:
        partition, entry = _split(letter)
        if partition in spec.parts:
            found.setdefault(partition, []).append(entry)
    return found


def _split(letter: str) -> tuple[int, str]:
    partition, _, entry = letter.partition(":")
    ms, _, seq = entry.partition("-")
    if not (partition.isdecimal() and ms.isdecimal() and seq.isdecimal()):
        raise EventRejected(f"{letter!r} is not the id of a dead letter: take it from the list of dead letters.")
    return int(partition), entry


def _start(partition: int, after: tuple[int, str] | None) -> str:
    if after is None:
        return "-"
    return after[1] if partition > after[0] else f"({after[1]}"


def _order(letter: str) -> tuple[int, int, int]:
    partition, entry = _split(letter)
    ms, _, seq = entry.partition("-")
    return int(ms), int(seq), partition
