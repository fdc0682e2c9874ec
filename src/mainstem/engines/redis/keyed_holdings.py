"""
What one member of a keyed group owns, and what there is to tell: the value that its reads, commits and leases share.

No connection and no task. Owning a partition ends here, whatever the reason, so that it is told exactly once.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from mainstem.engine import Back, Delivery, Gained, GroupSpec, Incident, Lost, Part, Signal
from mainstem.engines.redis.keyed_part import Owned
from mainstem.errors import MainstemError

FENCE = 0.9
"""Part of a lease after which an owner that could not renew it stops by itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A member and its group, as scripts need them."""

    me: str
    group: GroupSpec

    @property
    def lease_ms(self) -> int:
        return max(1, int(self.group.lease * 1000))


class Holdings:
    """The owned partitions of one member; `changed` is called when there is something new to receive."""

    def __init__(self, identity: Identity, changed: Callable[[], None]) -> None:
        self.identity = identity
        self.changed = changed
        self.owned: dict[Part, Owned] = {}
        self.full: dict[Owned, None] = {}  # those with something to hand out, the one whose turn it is first
        self.gone: set[str] = set()  # streams whose state was deleted while it was owned
        self.busy = False  # whether events come at a rate that makes gathering worth while
        self.failure: MainstemError | None = None  # what `receive` has to raise
        self._signals: list[Signal] = []
        self._later: list[tuple[float, int, Owned, Delivery]] = []
        self._count = itertools.count()

    def holds(self, owned: Owned) -> bool:
        """Whether this very ownership goes on."""
        return self.owned.get(owned.part) is owned

    def held(self, part: Part, now: float) -> Owned | None:
        """The ownership of a partition, unless its lease may have run out."""
        owned = self.owned.get(part)
        if owned is None or now - owned.renewed <= FENCE * self.identity.group.lease:
            return owned
        self.lose(owned)
        return None

    @property
    def buffered(self) -> int:
        """How many events were read and not handed out."""
        return sum([len(owned.ready) for owned in self.full])

    def tell(self, *signals: Signal) -> None:
        """Have these received."""
        self._signals += signals
        self.changed()

    def gain(self, owned: Owned) -> None:
        """The member owns it from now on."""
        self.owned[owned.part] = owned
        self.tell(Gained(owned.part))

    def drop(self, owned: Owned) -> bool:
        """The member owns it no longer, and knows; False when that was so before."""
        if not self.holds(owned):
            return False
        del self.owned[owned.part]
        self.full.pop(owned, None)
        return True

    def lose(self, owned: Owned, why: str = "") -> None:
        """The member owns it no longer, and has to be told; `why` also makes it an incident."""
        if not self.drop(owned):
            return
        if why:
            self.tell(Incident(owned.part, why))
        self.tell(Lost(owned.part))

    def lose_state(self, owned: Owned) -> None:
        """Somebody deleted what the group keeps of this partition."""
        self.gone.add(owned.spec.name)
        self.lose(owned, "the group's state was deleted; it reads on from the beginning of what is there.")

    def offer(self, owned: Owned) -> None:
        """It has something to hand out."""
        self.full[owned] = None
        self.changed()

    def put_off(self, owned: Owned, item: Back, delivery: Delivery, now: float) -> None:
        """This comes again when it is due."""
        heapq.heappush(self._later, (now + item.after, next(self._count), owned, delivery))

    def come_due(self) -> list[Owned]:
        """Have what is due handed out again; returns whose it is."""
        now = time.monotonic()
        due: list[tuple[Owned, Delivery]] = []
        while self._later and self._later[0][0] <= now:
            _, _, owned, delivery = heapq.heappop(self._later)
            if self.holds(owned) and owned.revoked is None:
                due.append((owned, delivery))
        for owned, delivery in reversed(due):
            owned.come_back(delivery)
            self.full[owned] = None
        return [owned for owned, _ in due]

    @property
    def next_due(self) -> float | None:
        """Monotonic seconds at which the next delivery comes again."""
        return self._later[0][0] if self._later else None

    def give_up(self, paused: frozenset[Part]) -> None:
        """Drop what was read of these and not handed out, so that it takes no room from the others."""
        for owned in [owned for owned in self.full if owned.part in paused]:
            if owned.give_up() and not owned.cleared:
                del self.full[owned]

    def take(self, limit: int, paused: frozenset[Part]) -> list[Delivery | Signal]:
        """Signals, and at most `limit` deliveries of partitions that are not paused, each partition in its turn."""
        taken: list[Delivery | Signal] = []
        now = time.monotonic()
        room = limit
        for owned in list(self.full):
            if room <= 0:
                break
            if self.held(owned.part, now) is not owned or owned.part in paused:
                continue
            page = owned.take(room)
            room -= len(page)
            taken += page
            del self.full[owned]
            if owned.ready or owned.cleared:
                self.full[owned] = None
        signals, self._signals = self._signals, []
        return [*signals, *taken] if signals else taken
