"""The envelope: limits to the byte, attributes that cannot be stored, and records that anybody may have written."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem.codec import Envelope
from mainstem.engine import Delivery, Record, StreamSpec
from mainstem.errors import DecodeError, EventRejected
from mainstem.event import Metadata, Received, StreamEvent
from mainstem.payload import payload_of


def envelope(of: Any = None, *, limit: int = 1 << 20, partitions: int = 0) -> Envelope[Any]:
    return Envelope(StreamSpec(name="ticks", partitions=partitions), payload_of(of), "app", limit)


def delivered(record: Record, *, part: int = 0, recorded_ms: int = 1_700_000_000_000) -> Delivery:
    return Delivery(("ticks", part), "17-0", record, recorded_ms)


def foreign(**fields: bytes) -> Record:
    """As another client wrote it: what it left out is empty."""
    given = dict.fromkeys(("id", "type", "source", "time", "key", "data", "meta"), b"") | fields
    return Record(**given)


def size_of(record: Record) -> int:
    return sum(map(len, (record.id, record.type, record.source, record.key, record.data, record.meta)))


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
SCALARS = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1)


@given(
    st.builds(
        StreamEvent[Any],
        data=st.dictionaries(TEXT, st.integers(-(2**53), 2**53) | TEXT, max_size=4),
        id=TEXT,
        time=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])),
        type=TEXT,
        source=TEXT,
        key=st.none() | TEXT,
        metadata=st.builds(
            Metadata, correlation_id=st.none() | TEXT, extensions=st.dictionaries(TEXT, SCALARS, max_size=3)
        ),
    )
)
def test_what_is_packed_is_unpacked(event: StreamEvent[Any]) -> None:
    _, record = envelope().pack_event(event)
    back = envelope().unpack(delivered(record), 3)
    assert isinstance(back, Received)
    for field in ("data", "id", "time", "type", "source", "key", "metadata"):
        assert getattr(back, field) == getattr(event, field)
    assert (back.stream, back.position, back.attempt) == ("ticks", "17-0", 3)
    assert back.recorded == datetime.fromtimestamp(1_700_000_000, UTC)


def test_positions_of_keyed_streams_name_the_partition() -> None:
    _, record = envelope().pack({}, key="A")
    assert envelope(partitions=8).unpack(delivered(record, part=5), 1).position == "5:17-0"


def test_defaults() -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    _, record = envelope().pack({"a": 1})
    event = envelope().unpack(delivered(record), 1)
    assert event.type == "event"
    assert event.source == "app"
    assert event.key is None
    assert before <= event.time <= datetime.now(UTC)
    assert len(event.id) == 36
    assert record.meta == b""


def test_ids_are_in_the_order_of_creation() -> None:
    ids = [envelope().pack({})[1].id for _ in range(1000)]
    assert ids == sorted(set(ids))


@given(st.integers(0, 5000), st.booleans())
def test_the_limit_is_exact(padding: int, with_metadata: bool) -> None:
    metadata = Metadata(user_id="u" * 50) if with_metadata else Metadata()
    data = {"a": "x" * padding}
    _, record = envelope().pack(data, key="k", metadata=metadata)
    size = size_of(record)
    assert envelope(limit=size).pack(data, key="k", metadata=metadata, id=record.id.decode())[1].data == record.data
    with pytest.raises(EventRejected) as caught:
        envelope(limit=size - 1).pack(data, key="k", metadata=metadata, id=record.id.decode())
    said = str(caught.value)
    assert f"event {record.id.decode()} for stream 'ticks' takes {size:,} bytes, over the limit of {size - 1:,}" in said
    assert "raise event_limit" in said


def test_the_default_limit_is_one_mebibyte() -> None:
    overhead = size_of(envelope(bytes).pack(b"")[1])
    fits = b"x" * ((1 << 20) - overhead)
    assert envelope(bytes).pack(fits)[1].data == fits
    with pytest.raises(EventRejected, match="takes 1,048,577 bytes, over the limit of 1,048,576"):
        envelope(bytes).pack(fits + b"x")


@pytest.mark.parametrize("what", ["id", "type", "source", "key"])
@pytest.mark.parametrize(("value", "said"), [("\ud800", "is not valid Unicode text"), (5, "is text, not int")])
def test_attributes_that_cannot_be_stored(what: str, value: Any, said: str) -> None:
    with pytest.raises(EventRejected) as caught:
        envelope().pack({}, **{what: value})
    assert str(caught.value).startswith(what)
    assert said in str(caught.value)
    assert str(caught.value).isascii()


@pytest.mark.parametrize("what", ["id", "key"])
def test_an_empty_id_or_key_is_a_mistake(what: str) -> None:
    with pytest.raises(EventRejected, match=f"{what} is empty: leave it out or give a text"):
        envelope().pack({}, **{what: ""})


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(EventRejected, match="has no time zone: give an aware datetime"):
        envelope().pack({}, time=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(EventRejected, match="has no time zone"):
        envelope().pack_event(StreamEvent(data={}, time=datetime(2026, 1, 1)))  # noqa: DTZ001


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(user_id="\ud800"),
        Metadata(user_id=5),  # type: ignore[arg-type]
        Metadata(extensions={"a": math.nan}),
        Metadata(extensions={"a": math.inf}),
        Metadata(extensions={"a": None}),  # type: ignore[dict-item]
        Metadata(extensions={"a": [1]}),  # type: ignore[dict-item]
        Metadata(extensions={"a": object()}),  # type: ignore[dict-item]
        Metadata(extensions=5),  # type: ignore[arg-type]
    ],
)
def test_metadata_that_cannot_be_stored(metadata: Metadata) -> None:
    with pytest.raises(EventRejected, match="metadata cannot be encoded"):
        envelope().pack({}, metadata=metadata)


def test_extensions_that_change_later_are_encoded_as_they_are_then() -> None:
    extensions = {"a": 1}
    metadata = Metadata(extensions=extensions)
    first = envelope().pack({}, metadata=metadata)[1].meta
    extensions["a"] = 2
    second = envelope().pack({}, metadata=metadata)[1].meta
    assert (json.loads(first), json.loads(second)) == ({"extensions": {"a": 1}}, {"extensions": {"a": 2}})


# Records of other clients


def test_the_least_another_client_must_write_is_data() -> None:
    event = envelope().unpack(delivered(foreign(data=b'{"a":1}')), 1)
    assert event.data == {"a": 1}
    assert event.id == "ticks@17-0", "identity without an id: where it is stored"
    assert event.time == event.recorded
    assert (event.type, event.source, event.key) == ("", "", None)
    assert event.metadata == Metadata()


def test_fields_that_nobody_knows_do_no_harm() -> None:
    record = msgspec.structs.replace(foreign(data=b"1", meta=b'{"x":1}'), extra=(b"colour", b"red"))
    assert envelope().unpack(delivered(record), 1).data == 1


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("data", b""), ("data", b"{"), ("data", b"\xff"), ("id", b"\xff"), ("type", b"\xff"), ("source", b"\xff"),
        ("key", b"\xff"), ("time", b"\xff"), ("time", b"yesterday"), ("time", b"2026-13-01T00:00:00Z"),
        ("meta", b"["), ("meta", b"[]"), ("meta", b'"x"'), ("meta", b"\xff"), ("meta", b'{"user_id":5}'),
        ("meta", b'{"extensions":{"a":{}}}'),
    ],
)  # fmt: skip
def test_a_malformed_field_is_a_decode_error(field: str, raw: bytes) -> None:
    record = msgspec.structs.replace(foreign(data=b"{}"), **{field: raw})
    with pytest.raises(DecodeError) as caught:
        envelope().unpack(delivered(record), 1)
    assert "\n" not in str(caught.value)


FIELD = st.binary(max_size=40)


@given(
    st.builds(
        Record,
        id=FIELD,
        type=FIELD,
        source=FIELD,
        time=FIELD | st.sampled_from([b"2026-01-02", b"0001-01-01T00:00:00+14:00", b"9999-12-31T23:59:59-14:00"]),
        key=FIELD,
        data=FIELD | st.just(b"{}"),
        meta=FIELD | st.just(b"{}"),
    ),
    st.integers(0, 2**53),
)
def test_any_bytes_in_any_field_are_an_event_or_a_decode_error(record: Record, recorded_ms: int) -> None:
    try:
        event = envelope().unpack(delivered(record, recorded_ms=recorded_ms), 1)
    except DecodeError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    assert event.id
    assert event.time.tzinfo is not None


def test_a_time_without_a_zone_is_read_as_utc() -> None:
    event = envelope().unpack(delivered(foreign(data=b"1", time=b"2026-01-02T03:04:05")), 1)
    assert event.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
