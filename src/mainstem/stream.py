"""
EventStream: publish, read and describe one stream through any engine.

Codec, validation and specification checks meet the engine here; delivery to groups lives in `processing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

import msgspec

from mainstem.codec import Envelope
from mainstem.connection import Connection, Home, Opened
from mainstem.consumption import Consumption
from mainstem.engine import Published, StreamInfo, StreamSpec
from mainstem.errors import ConfigError, EventRejected, MainstemError
from mainstem.event import NO_METADATA, Metadata, StreamEvent
from mainstem.payload import Payload, payload_of
from mainstem.publisher import SLICE, Item
from mainstem.reading import Reading, Start

T = TypeVar("T")

DEFAULT_MAX_EVENTS = 1_000_000  # of a stream that states no retention: never silently unbounded


class EventStream(Generic[T]):
    """A named stream whose events carry data of type `T`. Made by `Mainstem.stream`; opened on first use."""

    def __init__(
        self,
        home: Home,
        spec: StreamSpec,
        *,
        of: Any = None,
        key: Callable[[T], str] | None = None,
        stated: frozenset[str] = frozenset(),
    ) -> None:
        self._home = home
        self._spec = spec
        self._of = of
        self._key = key
        self._stated = stated
        self._payload: Payload[T] = payload_of(of)
        self._opened: Opened[T] | None = None

    @property
    def name(self) -> str:
        return self._spec.name

    def __repr__(self) -> str:
        return f"<EventStream {self.name!r}{' of ' + self._spec.type if self._spec.type else ''}>"

    async def publish(
        self,
        data: T | StreamEvent[T],
        *,
        id: str | None = None,
        time: datetime | None = None,
        type: str | None = None,
        source: str | None = None,
        key: str | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> str:
        """Store one event and return its position.

        Raises `EventRejected` (not encodable, too large, wrong type: never sent), `Unavailable` (certainly not
        stored within the app's publish deadline) or `OutcomeUnknown` (sent, and the reply was lost: perhaps stored).
        """
        opened = self._opened
        if opened is None or opened.connection is not self._home.connection():
            opened = await self.open()
        if isinstance(data, StreamEvent):
            event = cast("StreamEvent[T]", data)
            if id or time or type or source or key or metadata is not NO_METADATA:
                raise EventRejected("a StreamEvent brings its own attributes: set them on the event instead.")
            _, record = opened.envelope.pack_event(event)
        else:
            _, record = opened.envelope.pack(
                data, id=id, time=time, type=type, source=source, key=key, metadata=metadata
            )
        part = opened.part_of(record)
        publisher = opened.connection.publisher
        future = publisher.offer(part, record)
        position = await (future if future is not None else publisher.publish(part, record))
        return f"{part[1]}:{position}" if opened.spec.partitions else position

    async def publish_batch(self, data: Iterable[T | StreamEvent[T]]) -> list[str]:
        """Store events in order and return their positions.

        Events are checked and encoded while earlier ones are being stored, so memory stays bounded. If some were not
        stored, raises the first one's error with a note of how many were; `try_publish_batch` gives each outcome.
        """
        outcomes = await self.try_publish_batch(data)
        for at, outcome in enumerate(outcomes):
            if not isinstance(outcome, str):
                stored = sum(isinstance(one, str) for one in outcomes)
                outcome.add_note(f"event {at} of a batch of {len(outcomes)}; {stored} were stored")
                raise outcome
        return cast("list[str]", outcomes)

    async def try_publish_batch(self, data: Iterable[T | StreamEvent[T]]) -> list[str | MainstemError]:
        """Store events in order; for each its position, or the error that says whether it may be stored.

        An event that is rejected does not stop the others; after one that could not be sent none of the later is.
        """
        opened = await self.open()
        slices = _Slices(self, opened, data)
        outcomes = await opened.connection.publisher.publish_batch(slices)
        return slices.merged(outcomes)

    def read(self, start: Start = "beginning", *, limit: int | None = None, follow: bool = False) -> Reading[T]:
        """Iterate over events without a group, in order per partition.

        `start`: "beginning", "end", a position or cursor of an earlier read (that event is not repeated), a datetime,
        or an age such as "2h". Ends at `limit`, or at the end of the stream unless `follow`. An event that cannot be
        decoded raises `DecodeError`; iterating on continues behind it.
        """
        return Reading(self.open, start, limit, follow)

    def consume(self, group: str, *, start: str = "beginning", lease: float | str = "10s") -> Consumption[T]:
        """Take part in a group by hand: `async with stream.consume("group") as received: async for item in received`.

        Each item is settled by the caller: `ack`, `release` or `reject`. What is left unsettled is released.
        """
        return Consumption(self.open, group, start=start, lease=lease)

    async def describe(self) -> StreamInfo:
        """Length, age and groups with their lag; the cost does not grow with the stream's length."""
        opened = await self.open()
        return await opened.connection.engine.describe(self.name)

    async def open(self) -> Opened[T]:
        """Create the stream, or verify it against the specification that is stored with it."""
        connection = self._home.connection()
        if self._opened is not None and self._opened.connection is connection:
            return self._opened
        stored = await connection.engine.declare(self._spec)
        verify(self._spec, stored, self._stated)
        payload = (
            cast("Payload[T]", payload_of(bytes)) if self._of is None and stored.type == "bytes" else self._payload
        )
        envelope = Envelope(stored, payload, connection.source, connection.event_limit, self._key)
        self._opened = Opened(connection, stored, envelope)
        return self._opened

    async def resolve(self) -> dict[str, Envelope[T]]:
        """The streams this source stands for, with how to read each."""
        opened = await self.open()
        return {self.name: opened.envelope}

    def item(self, opened: Opened[T], data: T | StreamEvent[T]) -> Item:
        """Encode one event for the part it belongs to; raises `EventRejected`."""
        envelope = opened.envelope
        if isinstance(data, StreamEvent):
            _, record = envelope.pack_event(cast("StreamEvent[T]", data))
        else:
            _, record = envelope.pack(data)
        return (opened.part_of(record), record)


class _Slices(Generic[T]):
    """Encodes a batch a slice at a time, as the publisher asks for it; keeps what was rejected for the end."""

    def __init__(self, stream: EventStream[T], opened: Opened[T], data: Iterable[T | StreamEvent[T]]) -> None:
        self._stream = stream
        self._opened = opened
        self._data = data
        self._rejected: dict[int, EventRejected] = {}
        self._partitions: list[int] = []

    def __iter__(self) -> Iterator[list[Item]]:
        encode, opened = self._stream.item, self._opened
        keyed = opened.spec.keyed
        items: list[Item] = []
        for at, one in enumerate(self._data):
            try:
                item = encode(opened, one)
            except EventRejected as error:
                self._rejected[at] = error
                continue
            items.append(item)
            if keyed:
                self._partitions.append(item[0][1])
            if len(items) == SLICE:
                yield items
                items = []
        if items:
            yield items

    def merged(self, outcomes: Sequence[Published]) -> list[str | MainstemError]:
        """Put the rejected ones back into their places, and the partition before each position."""
        found: list[str | MainstemError] = list(outcomes)
        for at, partition in enumerate(self._partitions):
            outcome = found[at]
            if isinstance(outcome, str):
                found[at] = f"{partition}:{outcome}"
        for at, error in self._rejected.items():
            found.insert(at, error)
        return found


class StreamPattern(Generic[T]):
    """All declared streams whose names match; new ones join while an app runs. Made by `Mainstem.pattern`."""

    def __init__(self, home: Home, glob: str, of: Any = None) -> None:
        self._home = home
        self._of = of
        self.name = glob

    def __repr__(self) -> str:
        return f"<StreamPattern {self.name!r}>"

    async def resolve(self) -> dict[str, Envelope[T]]:
        """The streams that match now, with how to read each."""
        connection = self._home.connection()
        specs = await connection.engine.streams(self.name)
        return {spec.name: self._envelope(connection, spec) for spec in specs}

    def _envelope(self, connection: Connection, spec: StreamSpec) -> Envelope[T]:
        of = bytes if self._of is None and spec.type == "bytes" else self._of
        return Envelope(spec, cast("Payload[T]", payload_of(of)), connection.source, connection.event_limit)


def verify(wanted: StreamSpec, stored: StreamSpec, stated: frozenset[str]) -> None:
    """Refuse a stream that was declared differently; only what the caller stated is compared."""
    differences = [
        f"{field} {getattr(wanted, field)!r} (stored: {getattr(stored, field)!r})"
        for field in sorted(stated)
        if getattr(wanted, field) != getattr(stored, field)
    ]
    if not differences:
        return
    raise ConfigError(
        f"stream {stored.name!r} exists with another specification: asked for {', '.join(differences)}; "
        f"open it as it is stored (leave these out), amend its retention, or use another name."
    )


def specification(
    name: str,
    payload_type: str | None,
    *,
    keyed: bool,
    partitions: int | None,
    retain: float | None,
    max_events: int | None,
    until_read: bool,
) -> tuple[StreamSpec, frozenset[str]]:
    """Build the specification and say which of its fields the caller stated."""
    if partitions is not None and not 1 <= partitions <= 4096:
        raise ConfigError(f"partitions={partitions} of stream {name!r} must be from 1 to 4096.")
    if max_events is not None and max_events < 1:
        raise ConfigError(f"max_events={max_events} of stream {name!r} must be at least 1.")
    if retain is not None and retain <= 0:
        raise ConfigError(f"retain={retain:g} of stream {name!r} would keep nothing: give a time such as '7d'.")
    spec = StreamSpec(
        name=name,
        partitions=(partitions or 16) if keyed else 0,
        type=payload_type,
        retain=retain,
        max_events=DEFAULT_MAX_EVENTS if max_events is None and (retain is None or until_read) else max_events,
        until_read=until_read,
    )
    stated = {
        "partitions": keyed,
        "type": payload_type is not None,
        "retain": retain is not None,
        "max_events": max_events is not None,
        "until_read": until_read,
    }
    return spec, frozenset(field for field, said in stated.items() if said)


def spec_as_dict(spec: StreamSpec) -> dict[str, Any]:
    """The specification as plain data, for printing."""
    return cast("dict[str, Any]", msgspec.to_builtins(spec))
