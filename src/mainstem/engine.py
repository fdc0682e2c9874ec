"""
What an engine must provide. Application code uses `mainstem.Mainstem` instead.

Rules for every engine:

* Cancelling `receive` loses nothing.
* Liveness (leases, heartbeats) never depends on `receive` or `settle` being called.
* Buffers hold at most twice `limit` events, and are bounded in bytes too.
* Engines do not retry, log, batch by policy or open spans; they translate errors by one table into
  `mainstem.errors` and keep the vendor's error as ``__cause__``.
* An unmet need fails when the stream is opened, before any write, naming the engine and the ability.
* Records are bytes: the codec lives above the contract.
* A stream is *keyed* (partitions, each with one leased, fenced owner per group; order per partition) or a *queue*
  (competing consumers, no order). Queues have one part, number 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import msgspec

from mainstem.errors import MainstemError

Part: TypeAlias = tuple[str, int]  # stream, partition
Cursor: TypeAlias = Mapping[int, str]  # the position last read, per partition; a missing partition: its beginning
Published: TypeAlias = str | MainstemError
"""One a record: its position (ok), `OutcomeUnknown` (unknown), or any other error (failed: certainly not stored)."""


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream is. Stored with it, and verified at every opening."""

    name: str
    partitions: int = 0  # 0: a queue; otherwise keyed
    type: str | None = None  # name of the type of its data; None: any JSON; "bytes": as it is
    retain: float | None = None  # seconds an event is kept
    max_events: int | None = None  # events kept in the whole stream (each partition keeps its share)
    until_read: bool = False  # keep what some group has not read; max_events is then the hard cap: publishers wait

    @property
    def keyed(self) -> bool:
        return self.partitions > 0

    @property
    def parts(self) -> range:
        return range(max(1, self.partitions))


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How one member takes part in a group."""

    name: str
    start: str = "beginning"  # where a new group starts: "beginning" or "end"
    lease: float = 10.0  # seconds without a sign of life after which another member takes over
    drain: float = 10.0  # seconds a partition may take to finish its events before it is handed over
    max_bytes: int = 16 << 20  # what a member may hold received and unsettled


class Record(msgspec.Struct, frozen=True, gc=False):
    """An encoded event. `extra` holds fields that a foreign writer added, so that a dead letter keeps them."""

    id: bytes
    type: bytes
    source: bytes
    time: bytes  # RFC 3339
    key: bytes  # empty: none
    data: bytes
    meta: bytes  # JSON object; empty: none
    extra: tuple[bytes, ...] = ()


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """A stored record handed to a member. Holds no connection; `tag` is the engine's own."""

    part: Part
    position: str
    record: Record
    recorded_ms: int
    deliveries: int | None = 1  # how often it was delivered, this time included; None: the engine cannot know
    tag: object = None


@dataclass(frozen=True, slots=True)
class Gained:
    """The member owns the partition from now on."""

    part: Part


@dataclass(frozen=True, slots=True)
class Revoking:
    """Another member should have the partition: finish what is in flight, then call `yield_part`."""

    part: Part
    deadline: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Lost:
    """The member no longer owns these: stop their handlers, late results are refused. No positions: the whole part."""

    part: Part
    positions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """Retention or trimming took events that the group had not read."""

    part: Part
    missing: int


@dataclass(frozen=True, slots=True)
class Incident:
    """Something happened to the stream or group that an operator should know; the member went on."""

    part: Part
    what: str


Signal: TypeAlias = Gained | Revoking | Lost | Gap | Incident


class Done(msgspec.Struct, frozen=True, gc=False):
    """Handled: acknowledge it."""

    delivery: Delivery


class Back(msgspec.Struct, frozen=True, gc=False):
    """Not handled: let the group have it again after `after` seconds; `attempts` that failed here count from now on."""

    delivery: Delivery
    after: float = 0.0
    attempts: int = 0


class Dead(msgspec.Struct, frozen=True, gc=False):
    """Given up: move it to the group's dead letters and acknowledge it, atomically. `cause` is a JSON object."""

    delivery: Delivery
    cause: bytes


Settled: TypeAlias = Done | Back | Dead


@dataclass(frozen=True, slots=True)
class Page:
    """A piece of a stream read without a group."""

    deliveries: Sequence[Delivery]
    cursor: Cursor  # where to read on


@dataclass(frozen=True, slots=True)
class GroupInfo:
    name: str
    lag: int | None  # events not yet delivered; None: the server cannot tell
    lag_seconds: float  # age of the oldest event not yet settled
    pending: int  # delivered, not settled
    members: int
    lost: int  # events that retention took before the group read them
    dead: int  # dead letters
    handled: int  # settled as done, ever
    failed: int  # attempts that failed, ever


@dataclass(frozen=True, slots=True)
class StreamInfo:
    spec: StreamSpec
    length: int
    added: int  # events ever added
    bytes: int | None  # memory it takes, where the server tells
    first_ms: int | None
    last_ms: int | None
    groups: tuple[GroupInfo, ...]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One given-up event of one group: the record byte for byte, and the cause as a JSON object."""

    id: str
    part: Part
    position: str  # where the original was
    record: Record
    cause: bytes
    at_ms: int


class DeadLetters(Protocol):
    """Ability: per stream and group, outside the reach of user patterns."""

    async def dead(self, stream: str, group: str, after: str, limit: int) -> Sequence[DeadLetter]:
        """List, oldest first, those behind the id `after` ("" : from the first)."""
        ...

    async def restore(self, stream: str, group: str, ids: Sequence[str]) -> int:
        """Deliver these again to this group only, and take them off the dead letters; returns how many."""
        ...

    async def purge(self, stream: str, group: str, ids: Sequence[str]) -> int:
        """Delete these for good; returns how many."""
        ...


class Admin(Protocol):
    """Ability: change where groups stand, and remove groups."""

    async def seek(self, stream: str, group: str, to: Cursor) -> None:
        """Set the group's position (creating the group if need be); in-flight events of its members are fenced."""
        ...

    async def delete_group(self, stream: str, group: str) -> None: ...

    async def amend(self, spec: StreamSpec) -> None:
        """Store another retention for a stream that exists."""
        ...


@dataclass(frozen=True, slots=True)
class Abilities:
    """Promises, each with its tests in the conformance suite."""

    name: str  # the engine's, for messages
    shared: bool  # other processes see the same streams
    durable: bool  # streams outlive the processes that use them
    retention: bool  # `retain` and `max_events` hold
    until_read: bool  # `until_read` holds
    gaps: bool  # counts what retention took before a group read it
    dead: DeadLetters | None
    admin: Admin | None


class Member(Protocol):
    """One member of one group."""

    async def follow(self, streams: Sequence[StreamSpec]) -> None:
        """Set which streams the member takes part in; called again when a pattern's set changes."""
        ...

    async def receive(self, limit: int, wait: float, paused: frozenset[Part]) -> Sequence[Delivery | Signal]:
        """At most `limit` deliveries, and what happened; waits up to `wait` seconds when there is nothing."""
        ...

    async def settle(self, items: Sequence[Settled]) -> Sequence[Delivery]:
        """Returns those that were fenced off: another member owns them now, and nothing was changed for them."""
        ...

    async def count(self, stream: str, handled: int, failed: int) -> None:
        """Add to the group's counters that `describe` shows."""
        ...

    async def yield_part(self, part: Part) -> None:
        """Hand the partition over, after draining it."""
        ...

    async def leave(self) -> None:
        """Release all that is unsettled, uncounted, and take no further part."""
        ...


class Engine(Protocol):
    """One open connection to one server or cluster."""

    @property
    def can(self) -> Abilities: ...

    async def declare(self, spec: StreamSpec) -> StreamSpec:
        """Create the stream, or return the specification that is stored (the caller compares)."""
        ...

    async def streams(self, glob: str) -> Sequence[StreamSpec]:
        """The declared streams whose names match, sorted by name."""
        ...

    async def publish(self, records: Sequence[tuple[Part, Record]], wait: float) -> Sequence[Published]:
        """Store in order; an outcome for each. Waits up to `wait` seconds for the server, then answers truthfully:

        `Unavailable` for what was never sent, `OutcomeUnknown` for what was sent and not answered. After a record
        that was not sent none of the later ones is. Commands leave in the order of the calls.
        """
        ...

    async def locate(self, stream: str, at: Literal["beginning", "end"] | float) -> Cursor:
        """The cursor of the beginning, the end, or a time (Unix seconds): reading after it starts there."""
        ...

    async def read(self, stream: str, after: Cursor, limit: int, wait: float) -> Page:
        """Read without a group; waits up to `wait` seconds for the first event."""
        ...

    async def join(self, group: GroupSpec) -> Member: ...

    async def describe(self, stream: str) -> StreamInfo:
        """Cost does not grow with the stream's length."""
        ...

    async def close(self) -> None: ...

    def abort(self) -> None:
        """Drop everything at once, as a crash would: nothing is released or committed, and nothing is lost."""
        ...
