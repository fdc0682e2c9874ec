"""
The event: what users publish and what handlers receive. Immutable, typed by its data, CloudEvents-mapped.

Only data lives here (standard library and msgspec): no codec, no engine, no connection.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Generic

import msgspec
import uuid_utils
from typing_extensions import TypeVar

T_co = TypeVar("T_co", covariant=True, default=Any)
D = TypeVar("D")

Scalar = str | int | float | bool


def new_id() -> str:
    """A UUIDv7 (RFC 9562): unique, and sorted by time of creation."""
    return str(uuid_utils.uuid7())


def now() -> datetime:
    """The present time, aware, in UTC, to the millisecond: the resolution that every engine keeps."""
    global _now
    ms = clock.time_ns() // 1_000_000
    if ms != _now[0]:
        _now = (ms, datetime.fromtimestamp(ms / 1000, UTC))
    return _now[1]


_now = (0, datetime.fromtimestamp(0, UTC))  # events of one millisecond share the object: it is formatted once


class Metadata(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What travels beside the data: the chain an event belongs to, who caused it, trace context, free extensions."""

    correlation_id: str | None = None
    causation_id: str | None = None
    user_id: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    extensions: Mapping[str, Scalar] = {}


NO_METADATA = Metadata()


class StreamEvent(msgspec.Struct, Generic[T_co], frozen=True, kw_only=True, gc=False):
    """One fact. `time` is when it occurred; `key` is the unit of order; `type` and `source` default at publishing.

    An empty `type` becomes the data's tag or class name, an empty `source` the app's own.
    """

    data: T_co
    id: str = msgspec.field(default_factory=new_id)
    time: datetime = msgspec.field(default_factory=now)
    type: str = ""
    source: str = ""
    key: str | None = None
    metadata: Metadata = NO_METADATA

    def caused(
        self,
        *,
        data: D,
        type: str = "",
        source: str = "",
        key: str | None = None,
    ) -> StreamEvent[D]:
        """Make the next event of this one's chain: same correlation, this event as its cause."""
        metadata = msgspec.structs.replace(
            self.metadata,
            correlation_id=self.metadata.correlation_id or self.id,
            causation_id=self.id,
        )
        return StreamEvent(data=data, type=type, source=source, key=key, metadata=metadata)


class Received(StreamEvent[T_co], Generic[T_co], frozen=True, kw_only=True, gc=False):
    """A stored event as a handler sees it.

    `position` is opaque, unique within `stream` and good for resuming a read; `attempt` counts from 1 and includes
    attempts that ended with a crash.
    """

    stream: str
    position: str
    recorded_ms: int
    attempt: int = 1

    @property
    def recorded(self) -> datetime:
        """When the engine stored the event (its clock, to the millisecond)."""
        return datetime.fromtimestamp(self.recorded_ms / 1000, UTC)
