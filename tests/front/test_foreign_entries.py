"""Entries that another client wrote, in any language, with redis-py standing for all of them: good ones and garbage."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
import redis.asyncio as redis

from front.lab import cause_of, dead_letters, served
from mainstem import DecodeError, Mainstem, Received
from waiting import wait_until


class Tick(msgspec.Struct):
    symbol: str
    price: float


GARBAGE: dict[str, dict[bytes, bytes]] = {
    "no data at all": {b"colour": b"red"},
    "invalid json": {b"data": b'{"symbol": "A", '},
    "not utf-8": {b"data": b'{"symbol": "\xff\xfe"}'},
    "bytes": {b"data": bytes(range(256))},
    "wrong type": {b"data": b'{"symbol": 5, "price": "x"}'},
    "nan": {b"data": b'{"symbol": "A", "price": NaN}'},
    "deep": {b"data": b"[" * 50_000},
    "bad time": {b"data": b'{"symbol": "A", "price": 1.0}', b"time": b"yesterday"},
    "bad id": {b"data": b'{"symbol": "A", "price": 1.0}', b"id": b"\xff"},
    "bad meta": {b"data": b'{"symbol": "A", "price": 1.0}', b"meta": b"[]", b"id": b"x"},
}


async def test_the_least_that_another_client_writes_is_an_event(server_url: str, stream_name: str) -> None:
    app = Mainstem(server_url)
    stream = app.stream(stream_name, Tick)
    seen: list[Received[Tick]] = []

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Tick]) -> None:
        seen.append(event)

    async with served(app), redis.Redis.from_url(server_url) as client:
        entry = await client.xadd(stream_name, {b"data": b'{"symbol": "A", "price": 1.5}', b"extra": b"kept"})
        await wait_until(lambda: seen)
    assert seen[0].data == Tick("A", 1.5)
    assert seen[0].position == entry.decode()
    assert seen[0].id == f"{stream_name}@{entry.decode()}"
    assert seen[0].time == seen[0].recorded


async def test_garbage_becomes_dead_letters_with_every_byte_kept(server_url: str, stream_name: str) -> None:
    app = Mainstem(server_url)
    stream = app.stream(stream_name, Tick)
    seen: list[str] = []

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Tick]) -> None:
        seen.append(event.data.symbol)

    async with served(app) as running, redis.Redis.from_url(server_url) as client:
        await stream.publish(Tick("first", 1.0))
        entries = [(await client.xadd(stream_name, fields)).decode() for fields in GARBAGE.values()]
        await stream.publish(Tick("last", 1.0))
        await running.quiet(stream, "g")
        letters = {letter.position: letter for letter in await dead_letters(stream, "g")}
    assert seen == ["first", "last"], "garbage stops nothing"
    assert set(letters) == set(entries), "and none of it is lost"
    for entry, fields in zip(entries, GARBAGE.values(), strict=True):
        letter, cause = letters[entry], cause_of(letters[entry])
        assert cause.error == "DecodeError"
        assert (cause.attempts, cause.position) == (0, entry)
        assert letter.record.data == fields.get(b"data", b"")
        if b"colour" in fields:
            assert letter.record.extra == (b"colour", b"red")


async def test_garbage_by_hand_is_given_up_too(server_url: str, stream_name: str) -> None:
    async with Mainstem(server_url) as app, redis.Redis.from_url(server_url) as client:
        stream = app.stream(stream_name, Tick)
        await stream.open()
        await client.xadd(stream_name, {b"data": b"{"})
        await stream.publish(Tick("A", 1.0))
        async with stream.consume("g") as received:
            async with asyncio.timeout(10):
                item = await anext(received)
            assert item.data.symbol == "A"
            await item.ack()
        (letter,) = await dead_letters(stream, "g")
    assert letter.record.data == b"{"
    assert msgspec.json.decode(letter.cause)["error"] == "DecodeError"


async def test_a_read_says_where_the_garbage_is_and_goes_on_behind_it(server_url: str, stream_name: str) -> None:
    async with Mainstem(server_url) as app, redis.Redis.from_url(server_url) as client:
        stream = app.stream(stream_name, Tick)
        await stream.publish(Tick("a", 1.0))
        await client.xadd(stream_name, {b"data": b"{"})
        await stream.publish(Tick("b", 1.0))
        reading = stream.read()
        assert (await anext(reading)).data.symbol == "a"
        with pytest.raises(DecodeError, match="the stored data is not Tick"):
            await anext(reading)
        assert (await anext(reading)).data.symbol == "b"
        with pytest.raises(StopAsyncIteration):
            await anext(reading)


async def test_other_clients_can_read_what_we_write(server_url: str, stream_name: str) -> None:
    """The documented field layout: plain strings, `data` is JSON."""
    async with Mainstem(server_url, source="desk") as app, redis.Redis.from_url(server_url) as client:
        stream = app.stream(stream_name, Tick)
        position = await stream.publish(Tick("A", 1.5), key="A", id="id-1", type="tick")
        ((entry, fields),) = await client.xrange(stream_name)
    assert entry.decode() == position
    assert list(fields) == [b"id", b"type", b"source", b"time", b"key", b"data", b"meta"]
    assert (fields[b"id"], fields[b"type"], fields[b"source"], fields[b"key"]) == (b"id-1", b"tick", b"desk", b"A")
    assert json.loads(fields[b"data"]) == {"symbol": "A", "price": 1.5}


async def test_unknown_garbage_on_a_keyed_stream_frees_its_partition(server_url: str, stream_name: str) -> None:
    app = Mainstem(server_url)
    stream = app.stream(stream_name, Tick, key=lambda tick: tick.symbol, partitions=1)
    seen: list[Any] = []

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Tick]) -> None:
        seen.append(event.data.price)

    async with served(app) as running, redis.Redis.from_url(server_url) as client:
        await stream.publish(Tick("A", 1.0))
        await client.xadd(f"{{{stream_name}:0}}", {b"data": b"{", b"key": b"A"})
        await stream.publish(Tick("A", 2.0))
        await running.quiet(stream, "g")
        (letter,) = await dead_letters(stream, "g")
    assert seen == [1.0, 2.0]
    assert (letter.record.data, letter.record.key) == (b"{", b"A")
