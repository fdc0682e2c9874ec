"""
Where everything is kept on Redis and Valkey, and how an entry is written. Pure functions; no connection.

| what | key |
|---|---|
| log of a queue stream `s` | `s` |
| log of partition `p` of a keyed stream | `{s:p}` |
| specifications of all streams | hash `mainstem:streams`, field = stream, value = JSON |
| what a group keeps beside a log (counters, checkpoint, owner, cursor) | hash `{tag}:g:G` |
| its dead letters | stream `{tag}:g:G:dead` |
| what was restored from them | stream `{tag}:g:G:again` |
| members of a keyed group | sorted set `{s}:g:G:members` |

`tag` is `s` for a queue and `s:p` for a partition, so that all keys one script touches share a slot of a cluster.
An entry has the fields `id type source time key data meta`, in this order when mainstem wrote it; other clients may
leave fields out, reorder them, or add their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import msgspec

from mainstem.engine import Delivery, Part, Record, StreamSpec

STREAMS_KEY = b"mainstem:streams"
FIELDS = (b"id", b"type", b"source", b"time", b"key", b"data", b"meta")
_WIDTH = 2 * len(FIELDS)


def log_key(spec: StreamSpec, partition: int) -> bytes:
    """The Redis key of the log of one part."""
    return (f"{{{spec.name}:{partition}}}" if spec.keyed else spec.name).encode()


def group_key(spec: StreamSpec, partition: int, group: str, suffix: str = "") -> bytes:
    """The key beside a log for one group; `suffix` is "", "dead" or "again"."""
    tag = f"{spec.name}:{partition}" if spec.keyed else spec.name
    return f"{{{tag}}}:g:{group}{':' + suffix if suffix else ''}".encode()


def members_key(stream: str, group: str) -> bytes:
    """The advisory sorted set of a keyed group's members."""
    return f"{{{stream}}}:g:{group}:members".encode()


def trim_clause(spec: StreamSpec, now: float) -> bytes:
    """RESP arguments of the approximate trimming that each XADD carries; empty where there is none.

    XADD takes one strategy: the count where both are stated (a sweep does the other).
    """
    if spec.until_read:
        return b""
    if spec.max_events is not None:
        return _arguments(b"MAXLEN", b"~", b"%d" % max(1, spec.max_events // len(spec.parts)))
    if spec.retain is not None:
        return _arguments(b"MINID", b"~", b"%d" % max(0, int((now - spec.retain) * 1000)))
    return b""


class Names:
    """Type, source and time of records, packed. They come in runs of the same objects: compared by identity."""

    __slots__ = ("packed", "source", "time", "type")

    def __init__(self) -> None:
        self.time: bytes | None = None
        self.type: bytes | None = None
        self.source: bytes | None = None
        self.packed = b""

    def renew(self, record: Record) -> None:
        """Pack those of this record."""
        self.time, self.type, self.source = record.time, record.type, record.source
        names = _arguments(b"type", record.type, b"source", record.source, b"time", record.time, b"key")
        self.packed = b"\r\n" + names


class Packer:
    """Packs records of one part as XADD commands; the constant head is kept, its trim clause renewed each second."""

    def __init__(self, spec: StreamSpec, partition: int, names: Names) -> None:
        self._spec = spec
        self._names = names  # shared by all parts
        self._key = log_key(spec, partition)
        self._until = 0.0
        self._head = b""

    def pack(self, record: Record, now: float, out: list[bytes]) -> int:
        """Append one XADD in RESP to `out`, in pieces; returns about how many bytes. `now`: Unix seconds."""
        if now >= self._until:
            self._renew(now)
        if record.extra:
            return self._pack_foreign(record, now, out)
        names = self._names
        if record.time is not names.time or record.type is not names.type or record.source is not names.source:
            names.renew(record)
        entry_id, key, data, meta = record.id, record.key, record.data, record.meta
        size = len(data)
        out += (
            self._head,
            _LENGTHS[len(entry_id)] if len(entry_id) < _KEPT else _length(entry_id),
            entry_id,
            names.packed,
            _LENGTHS[len(key)] if len(key) < _KEPT else _length(key),
            key,
            _DATA,
            _LENGTHS[size] if size < _KEPT else _length(data),
            data,
            _META,
            _LENGTHS[len(meta)] if len(meta) < _KEPT else _length(meta),
            meta,
            b"\r\n",
        )
        return size + len(meta) + 200

    def _pack_foreign(self, record: Record, now: float, out: list[bytes]) -> int:
        """A record that was read from a foreign writer keeps the fields we do not know."""
        trim = trim_clause(self._spec, now)
        fields = record_fields(record)
        count = 3 + len(fields) + (3 if trim else 0)
        packed = b"*%d\r\n%b%b%b" % (count, _arguments(b"XADD", self._key), trim, _arguments(b"*", *fields))
        out.append(packed)
        return len(packed)

    def _renew(self, now: float) -> None:
        trim = trim_clause(self._spec, now)
        count = 3 + _WIDTH + (3 if trim else 0)
        self._head = b"*%d\r\n%b%b%b" % (count, _arguments(b"XADD", self._key), trim, _arguments(b"*", b"id"))
        self._until = now + 1.0


def record_fields(record: Record) -> list[bytes]:
    """The fields of an entry, flat, for commands that are not on the hot path."""
    values = (record.id, record.type, record.source, record.time, record.key, record.data, record.meta)
    flat = [part for pair in zip(FIELDS, values, strict=True) for part in pair]
    return flat + list(record.extra)


def letter_fields(record: Record, cause: bytes, origin: str) -> list[bytes]:
    """The fields of a dead letter. Lua passes on 8,000 arguments at most: so many of a foreign writer's are folded."""
    if len(record.extra) > _UNFOLDED:
        record = msgspec.structs.replace(record, extra=(_FOLDED, msgspec.msgpack.encode(record.extra)))
    return [*record_fields(record), b"cause", cause, b"origin", origin.encode()]


def delivery_of(part: Part, entry_id: bytes, fields: Sequence[bytes], deliveries: int | None, tag: object) -> Delivery:
    """Read an entry; whatever a foreign writer left out is empty, whatever it added is kept in `extra`."""
    return deliveries_of(part, ((entry_id, fields),), deliveries, (tag,))[0]


def deliveries_of(
    part: Part, entries: Iterable[tuple[bytes, Sequence[bytes]]], deliveries: int | None, tags: Iterable[object]
) -> list[Delivery]:
    """Read entries as XREADGROUP and XREAD answer them, each with its tag."""
    found: list[Delivery] = []
    last, recorded_ms = "", 0
    for (entry_id, f), tag in zip(entries, tags, strict=False):
        position = entry_id.decode()
        ms = position[:13]
        if ms != last:  # many entries share a millisecond
            recorded_ms = int(position[: position.index("-")])
            last = ms if len(position) > 13 and position[13] == "-" else ""
        if len(f) == _WIDTH and f[0] == b"id" and f[10] == b"data" and f[12] == b"meta":
            _, i, _, t, _, s, _, w, _, k, _, d, _, m = f
            record = Record(i, t, s, w, k, d, m)
        else:
            record = _foreign(f)
        found.append(Delivery(part, position, record, recorded_ms, deliveries, tag))
    return found


def _foreign(fields: Sequence[bytes]) -> Record:
    known = dict.fromkeys(FIELDS, b"")
    extra: list[bytes] = []
    for name, value in zip(fields[::2], fields[1::2], strict=False):
        if name in known and not known[name]:
            known[name] = value
        else:
            extra += _unfolded(value) if name == _FOLDED else (name, value)
    i, t, s, w, k, d, m = known.values()
    return Record(i, t, s, w, k, d, m, tuple(extra))


def _unfolded(value: bytes) -> tuple[bytes, ...]:
    try:
        return msgspec.msgpack.decode(value, type=tuple[bytes, ...])
    except msgspec.MsgspecError:  # not ours
        return (_FOLDED, value)


def clock() -> float:
    """Unix seconds; the one place where this package reads the wall clock."""
    return time.time()


_KEPT = 2048
_FOLDED = b"mainstem:folded"
_UNFOLDED = 4000  # names and values
_LENGTHS = [b"$%d\r\n" % length for length in range(_KEPT)]
_DATA = b"\r\n$4\r\ndata\r\n"
_META = b"\r\n$4\r\nmeta\r\n"


def _length(value: bytes) -> bytes:
    return b"$%d\r\n" % len(value)


def _arguments(*parts: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
