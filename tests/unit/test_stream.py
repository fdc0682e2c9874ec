"""A stream's specification, its verification, its key; what of them is refused and how."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstem import ConfigError, EventRejected, Mainstem, StreamEvent
from mainstem.engine import StreamSpec
from mainstem.stream import DEFAULT_MAX_EVENTS, spec_as_dict, specification, verify


class Tick(msgspec.Struct):
    symbol: str
    price: float


def spec_of(**options: Any) -> tuple[StreamSpec, frozenset[str]]:
    given: dict[str, Any] = {
        "keyed": False, "partitions": None, "retain": None, "max_events": None, "until_read": False,
    }  # fmt: skip
    return specification("ticks", options.pop("payload_type", None), **(given | options))


def test_a_stream_is_never_silently_unbounded() -> None:
    assert spec_of()[0].max_events == DEFAULT_MAX_EVENTS
    assert spec_of(until_read=True)[0].max_events == DEFAULT_MAX_EVENTS
    assert spec_of(retain=60.0)[0].max_events is None
    assert spec_of(max_events=5)[0].max_events == 5


def test_keyed_streams_have_sixteen_partitions_unless_told() -> None:
    assert spec_of()[0].partitions == 0
    assert spec_of(keyed=True)[0].partitions == 16
    assert spec_of(keyed=True, partitions=3)[0].partitions == 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keyed": True, "partitions": 0}, "partitions=0 of stream 'ticks' must be from 1 to 4096"),
        ({"keyed": True, "partitions": 4097}, "partitions=4097 of stream 'ticks' must be from 1 to 4096"),
        ({"keyed": True, "partitions": -1}, "partitions=-1 of stream 'ticks' must be"),
        ({"max_events": 0}, "max_events=0 of stream 'ticks' must be at least 1"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        spec_of(**options)


STORED = StreamSpec(name="ticks", partitions=16, type="Tick", retain=60.0)


@given(
    st.sampled_from(["type", "retain", "max_events", "until_read"]),
    st.sampled_from(["type", "retain", "max_events", "until_read"]),
)
def test_only_what_was_stated_is_compared(differs: str, stated: str) -> None:
    other: dict[str, Any] = {"type": "Other", "retain": 5.0, "max_events": 7, "until_read": True}
    wanted = msgspec.structs.replace(STORED, **{differs: other[differs]})
    if differs != stated:
        verify(wanted, STORED, frozenset([stated]))
        return
    with pytest.raises(ConfigError) as caught:
        verify(wanted, STORED, frozenset([stated]))
    said = str(caught.value)
    assert said.startswith("stream 'ticks' exists with another specification: asked for ")
    assert f"{differs} {other[differs]!r} (stored: {getattr(STORED, differs)!r})" in said
    assert "open it as it is stored" in said


def test_every_difference_is_named() -> None:
    wanted = msgspec.structs.replace(STORED, partitions=8, type="Other")
    with pytest.raises(ConfigError, match=r"partitions 8 \(stored: 16\), type 'Other' \(stored: 'Tick'\)"):
        verify(wanted, STORED, frozenset(["partitions", "type"]))


def test_a_specification_can_be_printed() -> None:
    assert spec_as_dict(STORED) == {
        "name": "ticks", "partitions": 16, "type": "Tick", "retain": 60.0, "max_events": None, "until_read": False,
    }  # fmt: skip


# Through the app, on the memory engine


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("a..b", {}, EventRejected, "contains '..'"),
        ("t", {"retain": "soon"}, ConfigError, "retain='soon' is not a duration"),
        ("t", {"retain": -1}, ConfigError, "retain=-1 is not a duration"),
        ("t", {"max_events": 0}, ConfigError, "max_events=0"),
        ("t", {"partitions": 5000}, ConfigError, "partitions=5000"),
    ],
)
def test_declaring_is_checked_at_once(name: str, options: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Mainstem("memory://").stream(name, **options)


async def test_an_existing_stream_is_opened_as_it_is_stored() -> None:
    async with Mainstem("memory://") as app:
        await app.stream("k", key=lambda data: data["s"], partitions=3, retain="1h").open()
        opened = await app.stream("k").open()
        assert (opened.spec.partitions, opened.spec.retain) == (3, 3600.0)
        with pytest.raises(ConfigError, match=r"partitions 4 \(stored: 3\)"):
            await app.stream("k", partitions=4).open()
        with pytest.raises(ConfigError, match=r"type 'Tick' \(stored: None\)"):
            await app.stream("k", Tick).open()


async def test_bytes_stay_bytes_for_who_opens_the_stream_without_a_type() -> None:
    async with Mainstem("memory://") as app:
        await app.stream("raw", bytes).publish(b"\xff")
        assert [event.data async for event in app.stream("raw").read()] == [b"\xff"]


def bad_key(data: Any) -> Any:
    return data["key"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, r"the key function of stream 'k' failed on \{\}: KeyError\('key'\)"),
        ({"key": ""}, "the key function of stream 'k' returned '': return a non-empty text"),
        ({"key": 5}, "the key function of stream 'k' returned 5: return a non-empty text"),
        ({"key": None}, "the key function of stream 'k' returned None"),
    ],
)
async def test_a_key_function_that_gives_no_key(data: dict[str, Any], said: str) -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("k", key=bad_key)
        with pytest.raises(EventRejected, match=said):
            await stream.publish(data)
        assert (await stream.describe()).added == 0


async def test_a_key_that_is_no_unicode() -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("k", key=lambda data: "\ud800")
        with pytest.raises(EventRejected, match="is not valid Unicode text"):
            await stream.publish({})


async def test_a_keyed_stream_needs_a_key() -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("k", partitions=2)
        with pytest.raises(EventRejected, match=r"stream 'k' is keyed: give the event a key"):
            await stream.publish({})
        assert await stream.publish({}, key="a")


async def test_a_given_key_goes_before_the_key_function() -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("k", key=lambda data: "from-function")
        await stream.publish({}, key="given")
        await stream.publish({})
        assert {event.key async for event in stream.read()} == {"given", "from-function"}


async def test_equal_keys_share_a_partition_whichever_process_computes_it() -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("k", partitions=16)
        positions = {key: await stream.publish({}, key=key) for key in ("AAPL", "MSFT", "ü")}
        # crc32 of the key, modulo the partitions: documented, so that other languages can do the same.
        assert {key: position.split(":")[0] for key, position in positions.items()} == {
            "AAPL": "12", "MSFT": "11", "ü": "5",
        }  # fmt: skip


async def test_an_event_brings_its_own_attributes() -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("s")
        with pytest.raises(EventRejected, match="a StreamEvent brings its own attributes"):
            await stream.publish(StreamEvent(data={}), key="a")


async def test_a_rejected_event_of_a_batch_is_told_and_the_others_are_stored() -> None:
    async with Mainstem("memory://") as app:
        stream = app.stream("s", Tick)
        batch: list[Any] = [Tick("A", 1.0), Tick("B", float("nan")), Tick("C", 3.0)]
        outcomes = await stream.try_publish_batch(batch)
        assert [type(outcome).__name__ for outcome in outcomes] == ["str", "EventRejected", "str"]
        assert [event.data.symbol async for event in stream.read()] == ["A", "C"]
        with pytest.raises(EventRejected) as caught:
            await stream.publish_batch(batch)
        assert caught.value.__notes__ == ["event 1 of a batch of 3; 2 were stored"]


def test_a_stream_that_is_not_open_says_how_to_open_it() -> None:
    app = Mainstem("memory://")
    with pytest.raises(ConfigError, match=r"this app is not open: use `async with app:`"):
        app.connection()


async def test_an_app_is_one_connection() -> None:
    async with Mainstem("memory://") as app:
        with pytest.raises(ConfigError, match="this app is open already"):
            await app.open()
