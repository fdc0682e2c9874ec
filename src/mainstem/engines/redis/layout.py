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
from collections.abc import Sequence

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


class Packer:
    """Packs records of one part as XADD commands; the constant head is kept, its trim clause renewed each second."""

    def __init__(self, spec: StreamSpec, partition: int) -> None:
        self._spec = spec
        self._key = log_key(spec, partition)
        self._until = 0.0
        self._head = b""

    def pack(self, record: Record, now: float) -> bytes:
        """One XADD in RESP; `now` is Unix seconds (taken once a batch)."""
        if now >= self._until:
            self._renew(now)
        r = record
        body = b"%b$%d\r\n%b\r\n$4\r\ntype\r\n$%d\r\n%b\r\n$6\r\nsource\r\n$%d\r\n%b\r\n$4\r\ntime\r\n$%d\r\n%b\r\n$3\r\nkey\r\n$%d\r\n%b\r\n$4\r\ndata\r\n$%d\r\n%b\r\n$4\r\nmeta\r\n$%d\r\n%b\r\n" % (
            self._head,
            len(r.id), r.id,
            len(r.type), r.type,
            len(r.source), r.source,
            len(r.time), r.time,
            len(r.key), r.key,
            len(r.data), r.data,
            len(r.meta), r.meta,
        )  # fmt: skip
        return body

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


def delivery_of(part: Part, entry_id: bytes, fields: Sequence[bytes], deliveries: int | None, tag: object) -> Delivery:
    """Read an entry; whatever a foreign writer left out is empty, whatever it added is kept in `extra`."""
    position = entry_id.decode()
    if len(fields) == _WIDTH and fields[0] == b"id" and fields[10] == b"data" and fields[12] == b"meta":
        _, i, _, t, _, s, _, w, _, k, _, d, _, m = fields
        record = Record(i, t, s, w, k, d, m)
    else:
        record = _foreign(fields)
    return Delivery(part, position, record, int(position[: position.index("-")]), deliveries, tag)


def _foreign(fields: Sequence[bytes]) -> Record:
    known = dict.fromkeys(FIELDS, b"")
    extra: list[bytes] = []
    for name, value in zip(fields[::2], fields[1::2], strict=False):
        if name in known and not known[name]:
            known[name] = value
        else:
            extra += (name, value)
    i, t, s, w, k, d, m = known.values()
    return Record(i, t, s, w, k, d, m, tuple(extra))


def clock() -> float:
    """Unix seconds; the one place where this package reads the wall clock."""
    return time.time()


def _arguments(*parts: bytes) -> bytes:
    return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
