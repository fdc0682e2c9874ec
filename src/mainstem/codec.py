"""
The envelope: events to records and deliveries to events. Written once for all engines; performs no I/O.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar, cast

import msgspec

from mainstem.engine import Delivery, Record, StreamSpec
from mainstem.errors import DecodeError, EventRejected
from mainstem.event import NO_METADATA, Metadata, Received, StreamEvent, new_id
from mainstem.payload import Payload, type_name

T = TypeVar("T")

EVENT_LIMIT = 1 << 20  # bytes of one encoded event, unless the app says otherwise


class Envelope(Generic[T]):
    """Packs and unpacks the events of one stream."""

    def __init__(
        self,
        spec: StreamSpec,
        payload: Payload[T],
        source: str,
        limit: int = EVENT_LIMIT,
        key: Callable[[T], str] | None = None,
    ) -> None:
        self.spec = spec
        self._key = key
        self.payload = payload
        self._encode = payload.encode
        self._decode = payload.decoder
        self._source = _text("source", source)
        self._limit = limit
        self._type_of: dict[type, bytes] = {}
        self._last_time: tuple[bytes | None, datetime] = (None, datetime.fromtimestamp(0, UTC))

    def pack(
        self,
        data: object,
        *,
        id: str | None = None,
        time: datetime | None = None,
        type: str | None = None,
        source: str | None = None,
        key: str | None = None,
        metadata: Metadata = NO_METADATA,
    ) -> tuple[T, Record]:
        """Encode one event; returns the data as validated, and the record. Raises `EventRejected`."""
        value, raw = self._encode(data)
        record = Record(
            new_id().encode() if id is None else _text("id", id),
            _name("type", type) if type else self._default_type(data),
            _name("source", source) if source else self._source,
            _stamp() if time is None else _time_bytes(time),
            (b"" if self._key is None else self._key_of(value)) if key is None else _text("key", key),
            raw,
            b"" if metadata is NO_METADATA else _metadata_bytes(metadata),
        )
        if len(raw) + len(record.meta) + _ATTRIBUTES > self._limit:
            self._check_size(record)
        return value, record

    def pack_event(self, event: StreamEvent[Any]) -> tuple[T, Record]:
        """Encode an event that is already one."""
        value, raw = self._encode(event.data)
        metadata = event.metadata
        record = Record(
            _text("id", event.id),
            _name("type", event.type) if event.type else self._default_type(event.data),
            _name("source", event.source) if event.source else self._source,
            _time_bytes(event.time),
            (b"" if self._key is None else self._key_of(value)) if event.key is None else _text("key", event.key),
            raw,
            b"" if metadata is NO_METADATA else _metadata_bytes(metadata),
        )
        if len(raw) + len(record.meta) + _ATTRIBUTES > self._limit:
            self._check_size(record)
        return value, record

    def position_of(self, delivery: Delivery) -> str:
        """The position as users see it: unique within the stream."""
        return f"{delivery.part[1]}:{delivery.position}" if self.spec.partitions else delivery.position

    def unpack(self, delivery: Delivery, attempt: int) -> Received[T]:
        """Decode one delivery, or raise `DecodeError` saying what is wrong."""
        record = delivery.record
        position = delivery.position
        spec = self.spec
        if spec.partitions:
            position = f"{delivery.part[1]}:{position}"
        last = self._last_time
        try:
            return Received(
                data=self._decode(record.data),
                id=record.id.decode() or f"{spec.name}@{position}",
                time=last[1] if record.time == last[0] else self._time(record.time, delivery.recorded_ms),
                type=record.type.decode(),
                source=record.source.decode(),
                key=record.key.decode() or None,
                metadata=_metadata(record.meta) if record.meta else NO_METADATA,
                stream=spec.name,
                position=position,
                recorded_ms=delivery.recorded_ms,
                attempt=attempt,
            )
        except Exception as error:  # the data's own validators are a stranger's code
            self.payload.decode(record.data)  # says so if it is the data
            raise DecodeError(f"the stored event at {position} has a malformed field: {error}.") from error

    def _key_of(self, value: T) -> bytes:
        assert self._key is not None
        name = self.spec.name
        try:
            key = cast(object, self._key(value))
        except Exception as error:
            raise EventRejected(f"the key function of stream {name!r} failed on {value!r:.80}: {error!r}.") from error
        if not isinstance(key, str) or not key:
            raise EventRejected(f"the key function of stream {name!r} returned {key!r:.80}: return a non-empty text.")
        return _text("key", key)

    def _check_size(self, record: Record) -> None:
        size = sum(map(len, (record.id, record.type, record.source, record.key, record.data, record.meta)))
        if size > self._limit:
            raise EventRejected(
                f"event {event_id(record)} for stream {self.spec.name!r} takes {size:,} bytes, over the limit of "
                f"{self._limit:,}: store the large part elsewhere and send a reference, or raise event_limit."
            )

    def _default_type(self, data: object) -> bytes:
        cls = data.__class__
        found = self._type_of.get(cls)
        if found is None:
            name = type_name(data)
            found = self._type_of[cls] = ((self.payload.type or "event") if name == "event" else name).encode()
        return found

    def _time(self, raw: bytes, recorded_ms: int) -> datetime:
        if not raw:
            return datetime.fromtimestamp(recorded_ms / 1000, UTC)
        last = self._last_time
        if raw == last[0]:
            return last[1]
        time = datetime.fromisoformat(raw.decode())
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC)
        self._last_time = (raw, time)
        return time


def event_id(record: Record) -> str:
    """The id of an encoded event, for messages."""
    return record.id.decode(errors="replace")


_TEXT_LIMIT = 1 << 12  # bytes of an id, type, source or key
_ATTRIBUTES = 4 * _TEXT_LIMIT
_NAMES_KEPT = 4096  # types and sources whose bytes are kept

_metadata = msgspec.json.Decoder(Metadata).decode
_encode_metadata = msgspec.json.Encoder().encode
_names: dict[str, bytes] = {}
_now: tuple[int, bytes] = (0, b"")
_last_time: tuple[datetime, bytes] = (datetime.fromtimestamp(0, UTC), b"")
_last_metadata: tuple[Metadata, bytes] = (NO_METADATA, b"")


def _stamp() -> bytes:
    """The present time to the millisecond; formatting costs as much as packing an event, so it is kept."""
    global _now
    ms = clock.time_ns() // 1_000_000
    if ms != _now[0]:
        _now = (ms, _time_bytes(datetime.fromtimestamp(ms / 1000, UTC)))
    return _now[1]


def _time_bytes(time: datetime) -> bytes:
    global _last_time
    if time is _last_time[0]:
        return _last_time[1]
    if getattr(time, "tzinfo", None) is None:
        raise EventRejected(f"time {time!s:.60} has no time zone: give an aware datetime, such as datetime.now(UTC).")
    raw = time.isoformat().encode()
    _last_time = (time, raw)
    return raw


def _metadata_bytes(metadata: Metadata) -> bytes:
    global _last_metadata
    if metadata is _last_metadata[0]:
        return _last_metadata[1]
    try:
        raw = _encode_metadata(metadata)
        _metadata(raw)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise EventRejected(f"metadata cannot be encoded: {error}.") from error
    raw = b"" if raw == b"{}" else raw
    if not metadata.extensions:  # a mapping could change behind our back
        _last_metadata = (metadata, raw)
    return raw


def _name(what: str, value: str) -> bytes:
    """The bytes of a type or source; the same few come again and again."""
    raw = _names.get(value)
    if raw is None:
        raw = _text(what, value)
        if len(_names) < _NAMES_KEPT:
            _names[value] = raw
    return raw


def _text(what: str, value: object) -> bytes:
    if not isinstance(value, str):
        raise EventRejected(f"{what} is text, not {type(value).__name__}: {value!r:.80}.")
    if not value:
        raise EventRejected(f"{what} is empty: leave it out or give a text.")
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise EventRejected(f"{what} {value!a:.80} is not valid Unicode text: {error.reason}.") from error
    if len(raw) > _TEXT_LIMIT:
        raise EventRejected(f"{what} takes {len(raw):,} bytes, over the limit of {_TEXT_LIMIT:,}: {value!a:.40}…")
    return raw
