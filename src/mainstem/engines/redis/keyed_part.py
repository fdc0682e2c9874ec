"""
One partition in the hands of its owner: what was read, what is settled, what the next commit has to say. No connection.

Everything here is dropped when the partition is lost; what must outlive the owner is in the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import cast

import msgspec

from mainstem.acks import Acks
from mainstem.engine import Back, Dead, Delivery, Gap, Part, StreamSpec
from mainstem.engines.redis.keyed_codec import LogFacts, before, pack_runs, pack_tries, unpack_runs, unpack_tries
from mainstem.engines.redis.keyed_ledger import Ledger
from mainstem.engines.redis.layout import deliveries_of, delivery_of, group_key, log_key
from mainstem.engines.redis.replies import data, integer, items
from mainstem.engines.redis.wire import Reply

WINDOW = 1000
"""Events that may be read beyond the first unsettled one; also how many a crashed owner can have been at."""

EPOCH = 40
"""Bits of an ordinal below the number of the ownership: a delivery of an earlier ownership has a smaller ordinal."""


_MARKS = 4  # fields that a dead letter has behind the original ones: cause and origin


@dataclass(frozen=True, slots=True)
class Restored:
    """The tag of a delivery that was a dead letter: its id among those to be handled again."""

    epoch: int
    id: str
    origin: str  # where the original event was


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit as it is sent."""

    cursor: str
    read: int
    fields: tuple[str, ...]  # further fields of the hash, each followed by its value
    once: str  # names what must not be applied twice: then it is sent unchanged until its outcome is known
    lost: int
    taken: tuple[str, ...]  # restored dead letters that are settled
    letters: tuple[Dead, ...]
    proposed: Delivery | None  # whose attempt is journalled by this
    settled: int
    since: float
    gaps: int  # how many of the gaps it passes
    clears: bool  # whether it ends the probation


@dataclass(slots=True)
class _Ahead:
    """What waits for the next commit besides the cursor."""

    letters: list[Dead] = field(default_factory=list[Dead])
    taken: list[str] = field(default_factory=list[str])
    settled: int = 0
    since: float = 0.0


class Owned:
    """A partition owned by this member; `epoch` numbers the ownerships of the member."""

    def __init__(self, spec: StreamSpec, partition: int, group: str, epoch: int, acquired: Reply) -> None:
        self.spec = spec
        self.part: Part = (spec.name, partition)
        self.log = log_key(spec, partition)
        self.keys = [group_key(spec, partition, group), self.log]
        self.keys += [group_key(spec, partition, group, suffix) for suffix in ("dead", "again")]
        self.first = epoch << EPOCH
        self.epoch = epoch
        self.renewed = 0.0  # monotonic seconds at which the last renewal that succeeded was sent
        self.revoked: float | None = None  # monotonic deadline of the hand-over
        self.released = False  # the server was told
        self.ready: list[Delivery] = []  # read, not handed out
        self.cleared: list[Delivery] = []  # journalled, not handed out
        self.proposed: Delivery | None = None  # to be handed out once its attempt is journalled
        self.again: list[Delivery] = []  # restored dead letters, not handed out
        self.again_position = "0-0"
        self._again_out: str | None = None
        self._trials: dict[str, int] = {}  # journalled and not settled; how often each was tried before
        self._ahead = _Ahead()
        self._unknown: Commit | None = None
        self._commits = 0
        self._restore(items(acquired))

    def _restore(self, reply: Sequence[Reply]) -> None:
        _, token, cursor, read, done, tries, crashes, *log = reply
        self.token = data(token).decode()
        self.position = data(cursor).decode()  # up to where it was read
        self.facts = LogFacts.of(log)
        self.acks: Acks[str] = Acks(self.position, self.first)
        self._done = data(done).decode()
        self._try = data(tries).decode()
        self.ledger = Ledger(integer(read), self.first, unpack_runs(self._done))
        self._tries = unpack_tries(self._try)
        self._crashed = integer(crashes) > 0
        self._suspects = WINDOW  # how many more events the owner that crashed can have been at
        self._probing = self._crashed and before(self.position, self.facts.last)
        self._blamed = self._probing  # the oldest event counts as tried by the owner that crashed

    # -------------------------------------------------------------------------------------------------- reading

    def take_in(self, entries: Sequence[Sequence[Reply]]) -> int:
        """
        Entries that were read behind `position`, in order; those settled by a former owner are skipped.

        Returns how many bytes of data they carry.
        """
        part = self.part
        read = cast("Sequence[tuple[bytes, Sequence[bytes]]]", entries)
        page = deliveries_of(part, read, 1, count(self.acks.issued))
        self.acks.deliver([delivery.position for delivery in page])
        self.position = page[-1].position
        if self.ledger.runs or self._tries or self._blamed:
            page = self._known(page)
        self.ready += page
        return sum([len(delivery.record.data) for delivery in page])

    def _known(self, page: list[Delivery]) -> list[Delivery]:
        fresh: list[Delivery] = []
        done: list[int] = []
        for delivery in page:
            if self.ledger.was_settled(delivery.position):
                done.append(ordinal_of(delivery))
                continue
            tried = self._tries.get(delivery.position, int(self._blamed))
            self._blamed = False
            fresh.append(msgspec.structs.replace(delivery, deliveries=tried + 1) if tried else delivery)
        self.acks.settle(done)
        return fresh

    def give_up(self) -> bool:
        """Drop what is ready, to be read again later; False where that is not possible."""
        first = ordinal_of(self.ready[0]) if self.ready else self.acks.issued
        if first + len(self.ready) != self.acks.issued or self.ledger.has_gap_behind(first):
            return False
        self.acks.retract(len(self.ready))
        self.position = self.acks.last
        self.ready.clear()
        return True

    @property
    def room(self) -> int:
        """How many more events may be read now; none while it is handed over."""
        return 0 if self.revoked is not None else WINDOW - self.acks.span

    def account(self, facts: LogFacts, straddling: int = 0) -> Gap | None:
        """
        Account for entries that were trimmed before they were read; only to be asked while no read is under way.

        `straddling` says how many entries are left of the run that `ledger.straddling` names.
        """
        lost = self.ledger.lost(self.position, self.acks.issued, facts, straddling)
        if self.ledger.passed(self.acks.issued)[0]:
            self._ahead.since = self._ahead.since or 1.0
        return Gap(self.part, lost) if lost else None

    # ----------------------------------------------------------------------------------------------- handing out

    @property
    def held(self) -> int:
        """How many events are handed out and not settled, those that come back later included."""
        return self.acks.open - len(self.ready)

    def take(self, limit: int) -> list[Delivery]:
        """Hand out at most so many, in order."""
        source = self.cleared if self.cleared or self.on_probation else self.ready
        taken = source[:limit]
        del source[:limit]
        return taken

    # ------------------------------------------------------------------------------------------------- probation

    @property
    def on_probation(self) -> bool:
        """
        Whether the crash of a former owner may be the fault of the next event.

        Then events are handed out one at a time, each once its attempt is journalled: what lay beyond the cursor when
        the owner crashed, as far as it can have read. That crash itself counts as an attempt of the oldest one.
        """
        if not self._probing or self.held or self.cleared or self.proposed:
            return self._probing
        upcoming = self.ready[0].position if self.ready else self.position
        over = before(self.facts.last, upcoming) if self.ready else not before(upcoming, self.facts.last)
        self._probing = self._suspects > 0 and not over
        return self._probing

    def propose(self, now: float) -> bool:
        """Put the next event that needs it into the journal of the next commit; False when there is none now."""
        if self.proposed is not None or self.cleared or self.revoked is not None:
            return False
        if self.on_probation:
            if self.held or not self.ready:
                return False
            self._suspects -= 1
            self._journal(self.ready.pop(0), now)
            return True
        if self.again and self._again_out is None:
            letter = self.again.pop(0)
            self._again_out = _name(letter)
            self._journal(letter, now)
            return True
        return False

    def _journal(self, delivery: Delivery, now: float) -> None:
        name = _name(delivery)
        self._trials[name] = self._tries.get(name, 0)
        self._tries[name] = delivery.deliveries or 1
        self.proposed = delivery
        self._ahead.since = self._ahead.since or now

    def revoke(self, deadline: float) -> None:
        """Another member should have it: hand out nothing more, finish until `deadline` (monotonic seconds)."""
        self.revoked = deadline
        self.ready.clear()
        if self.proposed is not None or self.cleared:
            self.proposed = None
            self.cleared.clear()
            self.uncount()

    def uncount(self) -> None:
        """Journalled attempts that are not settled were none: they end because the partition is released."""
        for name, before_it in self._trials.items():
            if self._tries.pop(name, 0) and before_it:
                self._tries[name] = before_it
        if self._trials:
            self._ahead.since = self._ahead.since or 1.0
        self._trials.clear()

    def take_in_restored(self, letters: Sequence[Sequence[Reply]]) -> None:
        """Restored dead letters, in the order of their restoring; they are handed out one at a time."""
        for letter in letters:
            name, fields = data(letter[0]), [data(value) for value in items(letter[1])]
            marked = len(fields) > _MARKS and fields[-2] == b"origin"
            origin = fields[-1] if marked else name
            tag = Restored(self.epoch, name.decode(), origin.decode())
            tried = self._tries.get(f"@{tag.id}", 0)
            self.again.append(delivery_of(self.part, origin, fields[:-_MARKS] if marked else fields, tried + 1, tag))
            self.again_position = tag.id

    # -------------------------------------------------------------------------------------------------- settling

    def settle(self, ordinals: Sequence[int], now: float) -> None:
        """These are handled."""
        self.acks.settle(ordinals)
        self._ahead.settled += len(ordinals)
        self._ahead.since = self._ahead.since or now

    def settle_one(self, delivery: Delivery, now: float) -> None:
        """This one is handled, which may be a restored dead letter."""
        if not isinstance(delivery.tag, Restored):
            self.settle([ordinal_of(delivery)], now)
            return
        self._tries.pop(_name(delivery), None)
        self._trials.pop(_name(delivery), None)
        self._ahead.taken.append(delivery.tag.id)
        self._ahead.since = self._ahead.since or now
        self._again_out = None

    def bury(self, item: Dead, now: float) -> None:
        """This one becomes a dead letter, in the same commit that settles it."""
        if self.is_settled(item.delivery):
            return
        self._ahead.letters.append(item)
        self.settle_one(item.delivery, now)

    def give_back(self, item: Back, now: float) -> Delivery:
        """The delivery as it comes again; its attempt goes into the journal of the next commit."""
        delivery = item.delivery
        if not item.attempts:
            return delivery
        count = (delivery.deliveries or 1) - 1 + item.attempts
        self._tries[_name(delivery)] = count
        self._trials.pop(_name(delivery), None)
        self._ahead.since = self._ahead.since or now
        return msgspec.structs.replace(delivery, deliveries=count + 1)

    def come_back(self, delivery: Delivery) -> None:
        """What was given back is due: hand it out next."""
        if isinstance(delivery.tag, Restored):
            self._again_out = None
            self.again.insert(0, delivery)
        else:
            self.ready.insert(0, delivery)

    def is_settled(self, delivery: Delivery) -> bool:
        """Whether it was settled before."""
        if isinstance(delivery.tag, Restored):
            return self._again_out != _name(delivery)
        return self.acks.settled(ordinal_of(delivery))

    def is_current(self, delivery: Delivery) -> bool:
        """Whether it was handed out in this ownership."""
        if isinstance(delivery.tag, Restored):
            return delivery.tag.epoch == self.epoch
        return ordinal_of(delivery) >= self.first

    # ---------------------------------------------------------------------------------------------------- commit

    @property
    def since(self) -> float:
        """Monotonic seconds since when something waits for a commit; 0.0 when nothing does."""
        return self._ahead.since

    @property
    def waiting(self) -> int:
        """How many settled events no commit carries yet."""
        return self._ahead.settled

    def commit(self) -> Commit:
        """What to commit now."""
        if self._unknown is not None:
            return self._unknown
        gaps, lost = self.ledger.passed(self.acks.frontier)
        ahead, self._ahead = self._ahead, _Ahead()
        self._commits += 1
        once = f"{self.token}.{self._commits}" if ahead.letters or ahead.taken or lost else ""
        made = Commit(
            cursor=self.acks.cursor,
            read=self.ledger.count(self.acks.frontier),
            fields=self._fields(),
            once=once,
            lost=lost,
            taken=tuple(ahead.taken),
            letters=tuple(ahead.letters),
            proposed=self.proposed,
            settled=ahead.settled,
            since=ahead.since,
            gaps=gaps,
            clears=self._crashed and not self._probing,
        )
        self._unknown = made if once else None
        return made

    def _fields(self) -> tuple[str, ...]:
        fields: list[str] = []
        acks = self.acks
        runs = acks.runs() if acks.span > acks.open else []
        done = pack_runs(runs + self.ledger.rest(self.position))
        if done != self._done:
            fields += ("done", done)
        if self._tries:
            cursor = acks.cursor
            self._tries = {name: n for name, n in self._tries.items() if name[0] == "@" or before(cursor, name)}
            self._trials = {name: n for name, n in self._trials.items() if name in self._tries}
        tries = pack_tries(self._tries)
        if tries != self._try:
            fields += ("try", tries)
        if self._crashed and not self._probing:
            fields += ("crashes", "0")
        return tuple(fields)

    def committed(self, commit: Commit) -> None:
        """The server applied it."""
        self._unknown = None
        self.ledger.forget_gaps(commit.gaps)
        stored = dict(zip(commit.fields[::2], commit.fields[1::2], strict=True))
        self._done = stored.get("done", self._done)
        self._try = stored.get("try", self._try)
        self._crashed = self._crashed and not commit.clears
        if commit.proposed is not None and commit.proposed is self.proposed:
            self.cleared.append(commit.proposed)
            self.proposed = None

    def not_committed(self, commit: Commit) -> None:
        """The server did not answer, or refused it for now: it has to be sent again."""
        if not commit.once:
            self._ahead.settled += commit.settled
        self._ahead.since = commit.since or 1.0

    @property
    def trusted(self) -> bool:
        """Whether no crash is suspected any more, so that a release may clear it."""
        return not self._probing


def ordinal_of(delivery: Delivery) -> int:
    """The ordinal among the partition's deliveries."""
    if not isinstance(delivery.tag, int):
        raise TypeError(f"the delivery {delivery.position} of {delivery.part} was not made by this member.")
    return delivery.tag


def _name(delivery: Delivery) -> str:
    """What the journal calls it."""
    return f"@{delivery.tag.id}" if isinstance(delivery.tag, Restored) else delivery.position
