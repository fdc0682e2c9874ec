"""
Settling what a queue member received: acknowledging, giving back, giving up, each only while we own the entry.

Acknowledging costs one command while our lease is certain, and one script that asks for the owner where it is not. What
failed stays in our hands, so that settling it again is safe; ``_unsure`` remembers whose reply was lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeAlias, cast

from mainstem.engine import Back, Dead, Delivery, Done, GroupSpec, Settled
from mainstem.engines.redis.claims import Claims
from mainstem.engines.redis.holds import Hold, Source
from mainstem.engines.redis.intake import Intake
from mainstem.engines.redis.layout import group_key, letter_fields
from mainstem.engines.redis.queue_scripts import ACK, BACK, DEAD
from mainstem.engines.redis.replies import checked, integer, items
from mainstem.engines.redis.scripts import Arguments, Call
from mainstem.engines.redis.server import Server, lost
from mainstem.engines.redis.wire import ConnectionGone, NotSent, Reply
from mainstem.errors import MainstemError, OutcomeUnknown

SURE = 0.8
"""Of a lease: so long after its last renewal an entry is certainly still ours."""

MANY = 200
"""Ids in one script."""

_MINE, _ANOTHERS, _GONE = 1, 0, -1


_Run: TypeAlias = "tuple[Hold, list[bytes]]"


class Desk:
    """Settles for one member."""

    def __init__(self, server: Server, group: GroupSpec, consumer: bytes, intake: Intake, claims: Claims) -> None:
        self._server = server
        self._group = group
        self._consumer = consumer
        self._intake = intake
        self._claims = claims
        self._unsure: set[bytes] = set()
        self._tail = b"$%d\r\n%b\r\n" % (len(group.name.encode()), group.name.encode())

    async def settle(self, items: Sequence[Settled]) -> list[Delivery]:
        """Returns those that were fenced off."""
        certain = time.monotonic() - SURE * self._group.lease
        fenced: list[Delivery] = []
        runs: list[_Run] = []
        others: list[Settled] = []
        hold = cast(Hold, None)
        entries: list[bytes] = []
        sure = False
        for item in items:
            delivery = item.delivery
            if delivery.tag is not hold:
                hold = cast(Hold, delivery.tag)
                sure = hold.renewed >= certain and hold.entry is None
                entries = []
                runs.append((hold, entries))
            entry = hold.entry or delivery.position.encode()
            if entry not in hold.open:
                fenced.append(delivery)
            elif sure and type(item) is Done:
                hold.open.remove(entry)
                entries.append(entry)
            else:
                others.append(item)
        runs = [run for run in runs if run[1]]
        if runs and not await self._acknowledge(runs):
            refused = {entry for _, entries in runs for entry in entries}
            fenced += [each.delivery for each in items if type(each) is Done and _entry(each.delivery) in refused]
        return fenced + await self._settle_others(others) if others else fenced

    async def release(self, holds: Sequence[Hold]) -> None:
        """Give back what is unsettled of these, as if it had not been delivered."""
        by_source: dict[Source, list[bytes]] = {}
        for hold in holds:
            by_source.setdefault(hold.source, []).extend(hold.open)
        idle = int(self._group.lease * 1000)
        calls = [
            Call(BACK, (source.log,), (self._group.name, self._consumer, idle, "-", *entries[at : at + MANY]))
            for source, entries in by_source.items()
            for at in range(0, len(entries), MANY)
        ]
        for hold in holds:
            for entry in tuple(hold.open):
                self._intake.settled(hold, entry)
        await self._server.run_many("give events back", calls)

    def known_settled(self, entry: bytes) -> bool:
        """Whether this may have been settled by a command whose reply was lost; asking clears it."""
        if entry not in self._unsure:
            return False
        self._unsure.discard(entry)
        return True

    async def _settle_others(self, items: Sequence[Settled]) -> list[Delivery]:
        fenced: list[Delivery] = []
        doubtful: dict[Source, list[Delivery]] = {}
        for item in items:
            if isinstance(item, Done):
                doubtful.setdefault(cast(Hold, item.delivery.tag).source, []).append(item.delivery)
            else:
                fenced += await (self._bury(item) if isinstance(item, Dead) else self._return(item))
        for source, deliveries in doubtful.items():
            fenced += await self._ask(source, deliveries)
        return fenced

    async def _acknowledge(self, runs: Sequence[_Run]) -> bool:
        """One XACK a stream, on the reading connection if nothing blocks there: it leaves with the next read.

        False if none of them was pending any more: somebody moved the group.
        """
        by_source: dict[Source, list[bytes]] = {}
        for hold, entries in runs:
            self._intake.let_go(hold, len(entries))
            by_source.setdefault(hold.source, []).extend(entries)
        try:
            wire = self._intake.wire
            if wire is None or self._intake.blocking:
                wire = await self._server.commands.get()
            futures = [wire.send(self._packed(source, entries)) for source, entries in by_source.items()]
            self._intake.read()
            acknowledged = sum([integer(checked(await future, "acknowledge events")) for future in futures])
        except BaseException as error:
            self._keep(runs, sent=not isinstance(error, NotSent | MainstemError))
            if isinstance(error, ConnectionGone):
                raise lost(error, "acknowledge events", changes=True) from error
            raise
        if acknowledged < sum([len(entries) for _, entries in runs]):
            self._claims.hurry()
        return acknowledged > 0

    def _packed(self, source: Source, entries: Sequence[bytes]) -> bytes:
        ids = b"".join([b"$%d\r\n%b\r\n" % (len(entry), entry) for entry in entries])
        return b"*%d\r\n$4\r\nXACK\r\n$%d\r\n%b\r\n%b%b" % (
            3 + len(entries), len(source.log), source.log, self._tail, ids,
        )  # fmt: skip

    def _keep(self, runs: Sequence[_Run], *, sent: bool) -> None:
        for hold, entries in runs:
            for entry in entries:
                self._intake.kept(hold, entry)
            if sent:
                hold.renewed = 0.0  # next time, ask who owns it
                self._unsure.update(entries)

    async def _ask(self, source: Source, deliveries: Sequence[Delivery]) -> list[Delivery]:
        fenced: list[Delivery] = []
        for at in range(0, len(deliveries), MANY):
            some = deliveries[at : at + MANY]
            entries = [_entry(delivery) for delivery in some]
            args: Arguments = [self._group.name, self._consumer, int(source.restored), *entries]
            replies = items(await self._sent("acknowledge events", Call(ACK, (source.log,), args), entries))
            fenced += [each for each, reply in zip(some, replies, strict=True) if not self._ended(each, reply)]
        return fenced

    async def _bury(self, item: Dead) -> list[Delivery]:
        delivery = item.delivery
        source = cast(Hold, delivery.tag).source
        entry = _entry(delivery)
        letter = letter_fields(delivery.record, item.cause, delivery.position)
        keys = (source.log, group_key(source.spec, 0, self._group.name, "dead"))
        args: Arguments = [self._group.name, self._consumer, int(source.restored), entry, *letter]
        reply = await self._sent("move an event to the dead letters", Call(DEAD, keys, args), [entry])
        return [] if self._ended(delivery, reply) else [delivery]

    async def _return(self, item: Back) -> list[Delivery]:
        delivery, lease = item.delivery, self._group.lease
        hold = cast(Hold, delivery.tag)
        entry = _entry(delivery)
        keep = item.after >= lease  # the server cannot say "later than a lease": keep it ours until then
        idle = 0 if keep else int((lease - max(0.0, item.after)) * 1000)
        # The number is stated, not counted down: repeating this after a lost reply changes nothing.
        count = max(0, (delivery.deliveries or 1) - 1 + item.attempts)
        args = (self._group.name, self._consumer, idle, count, entry)
        now = time.monotonic()
        reply = items(await self._sent("give an event back", Call(BACK, (hold.source.log,), args), [entry]))[0]
        if not self._ended(delivery, reply):
            return [delivery]
        kept = Hold(hold.source, {entry}, hold.each, now) if keep else None
        if kept is not None:
            self._intake.kept(kept, entry)
        self._claims.later(hold.source, entry, now + max(0.0, item.after), kept)
        return []

    async def _sent(self, what: str, call: Call, entries: Sequence[bytes]) -> Reply:
        try:
            return await self._server.run(what, call)
        except OutcomeUnknown:
            self._unsure.update(entries)
            raise

    def _ended(self, delivery: Delivery, reply: Reply) -> bool:
        """Whether it was still ours to settle; it is not in our hands any more."""
        entry = _entry(delivery)
        self._intake.settled(cast(Hold, delivery.tag), entry)
        state = integer(reply)
        before = self.known_settled(entry)
        return state == _MINE or (state == _GONE and before)


def _entry(delivery: Delivery) -> bytes:
    return cast(Hold, delivery.tag).entry_of(delivery)
