"""What a first review of the front found about data, publishing and reading: each a test that failed before its fix."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Union, cast

import msgspec
import pydantic
import pytest

from front.lab import cause_of, dead_letters
from mainstem import (
    ConfigError,
    DecodeError,
    EventRejected,
    Mainstem,
    Metadata,
    Received,
    Retry,
    StreamEvent,
    Unavailable,
    VersionConflict,
    from_cloudevent,
    to_cloudevent,
)
from mainstem.codec import Envelope
from mainstem.engine import Delivery, Engine, Part, Published, Record, StreamSpec
from mainstem.hooks import Hooks
from mainstem.names import seconds
from mainstem.payload import payload_of
from mainstem.publisher import Publisher
from mainstem.reading import parse_cursor

ONCE_MORE = Retry(2, base=0, cap=0)


# Payloads


class Model(pydantic.BaseModel):
    symbol: str = pydantic.Field(alias="Symbol")


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int


class Located(pydantic.BaseModel):
    at: Path


class Constants(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(ser_json_inf_nan="constants")
    price: float | None


class Strict(pydantic.BaseModel):
    a: int

    @pydantic.field_validator("a")
    @classmethod
    def check(cls, value: int) -> int:
        return {1: 1}[value]


class Checked(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        _ = {1: 1}[self.a]


@pytest.mark.parametrize(
    "data", [Model(Symbol="A"), Open.model_validate({"a": 1, "b": 2}), Located(at=Path("/x"))], ids=repr
)
def test_what_is_written_of_a_model_is_what_is_read(data: pydantic.BaseModel) -> None:
    payload = payload_of(type(data))
    value, raw = payload.encode(data)
    assert payload.decode(raw) == value == data


def test_nan_as_a_constant_is_found() -> None:
    with pytest.raises(EventRejected, match=r"data\.price is NaN or infinite"):
        payload_of(Constants).encode(Constants(price=math.nan))


@pytest.mark.parametrize("of", [Strict, Checked])
def test_validators_that_fail_in_their_own_way(of: Any) -> None:
    with pytest.raises(EventRejected):
        payload_of(of).encode({"a": 2})
    with pytest.raises(DecodeError):
        payload_of(of).decode(b'{"a":2}')
    envelope = Envelope(StreamSpec(name="s"), payload_of(of), "app")
    with pytest.raises(DecodeError):
        envelope.unpack(Delivery(("s", 0), "1", Record(b"", b"", b"", b"", b"", b'{"a":2}', b""), 0), 1)


def test_data_nested_too_deeply_to_be_checked_is_refused() -> None:
    data: Any = None
    for _ in range(700):
        data = [data]
    with pytest.raises(EventRejected, match=r"nested too deeply|recursion"):
        payload_of(None).encode(data)


class A(msgspec.Struct, tag=True):
    x: int


class B(msgspec.Struct, tag=True):
    y: int


def test_the_stored_name_of_a_type_is_the_same_in_every_process() -> None:
    assert {payload_of(of).type for of in (A | B, B | A, Union[A, B])} == {"A|B"}  # noqa: UP007
    assert payload_of(list[A]).type == "list[A]"
    assert payload_of(dict[str, A]).type == "dict[str, A]"


@pytest.mark.parametrize("of", ["Tick", 5, object()])
def test_what_is_no_type_is_refused_at_the_declaration(of: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be the type of a stream"):
        Mainstem("memory://").stream("s", of)


def test_metadata_nested_without_end_is_a_decode_error() -> None:
    envelope = Envelope(StreamSpec(name="s"), payload_of(None), "app")
    meta = b'{"x":' + b"[" * 100_000
    with pytest.raises(DecodeError):
        envelope.unpack(Delivery(("s", 0), "1", Record(b"", b"", b"", b"", b"", b"1", meta), 0), 1)


def test_a_foreign_event_without_a_time_has_the_time_of_its_storing() -> None:
    envelope = Envelope(StreamSpec(name="s"), payload_of(None), "app")
    event = envelope.unpack(Delivery(("s", 0), "1", Record(b"", b"", b"", b"", b"", b"1", b""), 1_700_000_000_000), 1)
    assert event.time == event.recorded


# CloudEvents

LEAST = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}


@pytest.mark.parametrize("name", ["partitionkey", "subject", "correlationid", "userid", "other"])
def test_a_null_means_absent(name: str) -> None:
    event = from_cloudevent({**LEAST, name: None})
    assert event.key is None
    assert event.metadata == Metadata()


@pytest.mark.parametrize("name", ["partitionkey", "subject", "correlationid", "traceparent", "other"])
@pytest.mark.parametrize("value", [{"a": 1}, [1]])
def test_attributes_of_a_wrong_type(name: str, value: Any) -> None:
    with pytest.raises(DecodeError, match=name):
        from_cloudevent({**LEAST, name: value})


def test_a_time_without_an_offset_is_no_rfc_3339() -> None:
    with pytest.raises(DecodeError, match="has no offset"):
        from_cloudevent({**LEAST, "time": "2026-01-01T00:00:00"})


@pytest.mark.parametrize(
    "event",
    [
        StreamEvent(data=1, type="t", source="s", time=datetime(2026, 1, 1)),  # noqa: DTZ001
        StreamEvent(data=object(), type="t", source="s"),
        StreamEvent(data=math.nan, type="t", source="s"),
        StreamEvent(data=1, type="t", source="s", metadata=Metadata(extensions={"a": 1.5})),
    ],
)
def test_what_cloudevents_has_no_place_for(event: StreamEvent[Any]) -> None:
    with pytest.raises(EventRejected):
        to_cloudevent(event)


# Publisher

PART: Part = ("s", 0)


def record(id: str, meta: bytes = b"") -> Record:
    return Record(id.encode(), b"t", b"s", b"", b"", b"1", meta)


class Stuck:
    """An engine whose first calls end at their deadline only."""

    def __init__(self) -> None:
        self.calls = 0

    async def publish(self, items: Sequence[tuple[Part, Record]], wait: float) -> Sequence[Published]:
        self.calls += 1
        await asyncio.sleep(wait)
        return [Unavailable("no server.")] * len(items)


async def test_a_publish_behind_stuck_ones_keeps_its_own_deadline() -> None:
    publisher = Publisher(cast(Engine, Stuck()), Hooks(), 0.5)
    tasks: list[asyncio.Task[str]] = []
    for number in range(5):
        tasks.append(asyncio.create_task(publisher.publish(PART, record(str(number)))))
        await asyncio.sleep(0.01)
    begun = time.monotonic()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, Unavailable) for one in outcomes)
    assert time.monotonic() - begun < 0.8


async def test_metadata_counts_as_bytes_held() -> None:
    engine = Stuck()
    publisher = Publisher(cast(Engine, engine), Hooks(), 0.3)
    tasks = [asyncio.create_task(publisher.publish(PART, record(str(n), b"m" * (1 << 20)))) for n in range(100)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert publisher._events <= 33  # pyright: ignore[reportPrivateUsage]
    await asyncio.gather(*tasks, return_exceptions=True)


class Conflicting:
    async def publish(self, items: Sequence[tuple[Part, Record]], wait: float) -> Sequence[Published]:
        return [VersionConflict("s", 1, 2)] * len(items)


async def test_an_error_with_arguments_of_its_own_reaches_its_caller() -> None:
    publisher = Publisher(cast(Engine, Conflicting()), Hooks(), 1.0)
    with pytest.raises(VersionConflict) as caught:
        await asyncio.wait_for(publisher.publish(PART, record("1")), 2)
    assert (caught.value.expected, caught.value.actual) == (1, 2)


class Closed:
    async def publish(self, items: Sequence[tuple[Part, Record]], wait: float) -> Sequence[Published]:
        raise Unavailable("the engine was closed; open another one.")


async def test_an_engine_that_is_closed_has_certainly_not_stored_it() -> None:
    publisher = Publisher(cast(Engine, Closed()), Hooks(), 0.2)
    with pytest.raises(Unavailable, match="was closed"):
        await publisher.publish(PART, record("1"))


# The rest


def test_small_things() -> None:
    with pytest.raises(ConfigError):
        seconds("9" * 400 + "d", "x")
    with pytest.raises(ConfigError):
        seconds(cast(Any, None), "x")
    with pytest.raises(ConfigError):
        parse_cursor("²:1", StreamSpec(name="s", partitions=4))
    with pytest.raises(ConfigError, match="retain=0 of stream 's' would keep nothing"):
        Mainstem("memory://").stream("s", retain=0)
    with pytest.raises(ConfigError, match="event_limit=0"):
        Mainstem("memory://", event_limit=0)


async def test_a_cursor_before_the_first_event_is_where_the_read_starts() -> None:
    async with Mainstem("memory://") as app:
        assert app.stream("s").read(start="end").cursor == "end"


async def test_a_key_of_a_key_function_has_the_limit_of_keys() -> None:
    async with Mainstem("memory://") as app:
        with pytest.raises(EventRejected, match="key takes 100,000 bytes"):
            await app.stream("s", key=lambda data: "k" * 100_000).publish(1)


async def test_a_reason_with_a_lone_surrogate_rejects_all_the_same() -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("s")
        await stream.publish(1)
        async with stream.consume("g") as received:
            await (await anext(received)).reject("bad \ud800")
        (letter,) = await dead_letters(stream, "g")
    assert cause_of(letter).reason == "bad \\ud800"


async def test_two_groups_of_one_handler_give_results_of_their_own() -> None:
    app = Mainstem("memory://")
    stream, output = app.stream("s"), app.stream("o")

    async def handle(event: Received[Any]) -> Any:
        return event.data

    app.subscribe(stream, group="a", to=output)(handle)
    app.subscribe(stream, group="b", to=output)(handle)
    async with app.testing() as trial:
        await stream.publish(1)
        await trial.quiet()
        assert len({event.id for event in await trial.events(output)}) == 2
