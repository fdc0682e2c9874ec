"""What an open app shares with its streams, and a stream opened on it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from mainstem.codec import Envelope
from mainstem.engine import Engine, Part, Record, StreamSpec
from mainstem.errors import EventRejected
from mainstem.hooks import Hooks
from mainstem.publisher import Publisher

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Connection:
    """What an open app shares with its streams."""

    engine: Engine
    publisher: Publisher
    hooks: Hooks
    source: str
    event_limit: int


class Home(Protocol):
    """Where a stream belongs: the app."""

    def connection(self) -> Connection:
        """The open connection, or `ConfigError` saying how to open it."""
        ...


@dataclass(frozen=True, slots=True)
class Opened(Generic[T]):
    """A stream on one connection, its specification verified."""

    connection: Connection
    spec: StreamSpec
    envelope: Envelope[T]
    _parts: list[Part] = field(init=False, default_factory=list[Part])

    def __post_init__(self) -> None:
        self._parts.extend((self.spec.name, partition) for partition in self.spec.parts)

    def part_of(self, record: Record) -> Part:
        """The part a record belongs to: partition = crc32(key) mod N, on every engine that lets us choose."""
        partitions = self.spec.partitions
        if not partitions:
            return self._parts[0]
        if not record.key:
            raise EventRejected(
                f"stream {self.spec.name!r} is keyed: give the event a key, publish(..., key=...), "
                "or the stream a key function, app.stream(..., key=...)."
            )
        return self._parts[zlib.crc32(record.key) % partitions]
