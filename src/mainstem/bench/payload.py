"""
The one event of every measurement: an order of 211 bytes of data with 125 bytes of metadata, numbered.

Data and its encodings only: what is published is the same bytes for us and for every peer.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import uuid_utils

from mainstem.event import Metadata, StreamEvent

KEYS = 10_000
TYPE = "order.created"
SOURCE = "/svc/orders"


class Customer(msgspec.Struct, frozen=True, gc=False):
    id: str
    name: str


class Item(msgspec.Struct, frozen=True, gc=False):
    sku: str
    qty: int
    price: float


class Order(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    order_id: str
    customer: Customer
    items: tuple[Item, ...]
    total: float
    currency: str
    note: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What a peer's program makes of an entry (as much as a handler of ours is given); as JSON, a whole event."""

    id: str
    type: str
    source: str
    time: str
    key: str
    data: Order
    metadata: Metadata


METADATA = Metadata(
    correlation_id="0191e6a0-7c9b-7d2e-9c54-2f0c3f1a9b11",
    causation_id="0191e6a0-7c9b-7d2e-9c54-2f0c3f1a9b10",
    user_id="u-42",
)
_CUSTOMER = Customer("c-99812", "Ada Lovelace")
_ITEMS = (Item("A-100", 2, 19.99), Item("B-200", 1, 5.0))

encode = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(Order).decode
decode_metadata = msgspec.json.Decoder(Metadata).decode
decode_entry = msgspec.json.Decoder(Entry).decode


def order(number: int, note: str = "leave at door") -> Order:
    """The order of that number."""
    return Order(f"o-{number:07d}", _CUSTOMER, _ITEMS, 44.98, "EUR", note)


def key(number: int) -> str:
    """The key of that number: one of 10,000, spread evenly."""
    return f"customer-{number % KEYS:04d}"


def event(number: int, note: str = "leave at door") -> StreamEvent[Order]:
    """The event of that number as a user of mainstem makes it."""
    return StreamEvent(data=order(number, note), type=TYPE, source=SOURCE, key=key(number), metadata=METADATA)


def entry(number: int, note: str = "leave at door") -> Entry:
    """The same for the peers, its identity and time made as ours are."""
    moment = datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC).isoformat(timespec="milliseconds")
    return Entry(str(uuid_utils.uuid7()), TYPE, SOURCE, moment, key(number), order(number, note), METADATA)


def fields(item: Entry) -> dict[str, str | bytes]:
    """An entry's fields for a client of Redis, encoded as ours are."""
    return {
        "id": item.id,
        "type": item.type,
        "source": item.source,
        "time": item.time,
        "key": item.key,
        "data": encode(item.data),
        "meta": encode(item.metadata),
    }


def flat(item: Entry) -> list[bytes]:
    """The same as XADD takes them."""
    pairs = fields(item).items()
    return [part if isinstance(part, bytes) else part.encode() for pair in pairs for part in pair]


def read(values: dict[bytes, bytes]) -> Entry:
    """What `fields` wrote, decoded and checked."""
    return Entry(
        values[b"id"].decode(),
        values[b"type"].decode(),
        values[b"source"].decode(),
        values[b"time"].decode(),
        values[b"key"].decode(),
        decode_order(values[b"data"]),
        decode_metadata(values[b"meta"]),
    )


def sizes() -> str:
    """What one event weighs, for the settings."""
    item = entry(0)
    return f"7 fields, {len(encode(item.data))} B data + {len(encode(item.metadata))} B metadata"
