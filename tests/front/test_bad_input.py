"""Bad input through the public API: the class says what to do, one line names the value, and nothing is stored."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis.asyncio as redis

from mainstem import (
    ConfigError,
    EventRejected,
    Mainstem,
    MainstemError,
    PermissionDenied,
    Received,
    StreamEvent,
    Unavailable,
)
from servers_for_tests import TlsServer, redis7_binary, serving, valkey_binary
from waiting import wait_until


class Tick(msgspec.Struct):
    symbol: str
    price: float


@dataclasses.dataclass
class Trade:
    price: float


@contextmanager
def refused(kind: type[MainstemError], *said: str) -> Iterator[None]:
    """Exactly this class, in one printable line that contains all of `said`."""
    with pytest.raises(kind) as caught:
        yield
    text = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in text
    assert len(text) < 500
    for part in said:
        assert part in text


# Names and events: on every engine, nothing is stored

NAMES = ["", "x" * 201, "a\x00b", "a\nb", "{}", "{tag}", "news.*", "what?", "a..b", "../up", "lone\ud800", "ü"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
async def test_stream_names(url: str, name: str) -> None:
    async with Mainstem(url) as app:
        before = await app.connection().engine.streams("*")
        with refused(EventRejected, "stream name", "use letters, digits"):
            app.stream(name)
        assert await app.connection().engine.streams("*") == before


@pytest.mark.parametrize("name", ["", "x" * 201, "a b", "{g}", "g*", "\ud800"], ids=ascii)
async def test_group_names(url: str, stream_name: str, name: str) -> None:
    async with Mainstem(url) as app:
        stream = app.stream(stream_name)
        with refused(EventRejected, "group name"):
            stream.consume(name)
        with refused(EventRejected, "group name"):

            @app.subscribe(stream, group=name)
            async def handle(event: Received[Any]) -> None: ...

        assert (await stream.describe()).groups == ()


async def rejects(stream: Any, data: Any, *said: str, **attributes: Any) -> None:
    """The event is refused, alone and in a batch, and the stream stays as it was."""
    with refused(EventRejected, *said):
        await stream.publish(data, **attributes)
    if not attributes:
        (outcome,) = await stream.try_publish_batch([data])
        assert type(outcome) is EventRejected
    assert (await stream.describe()).added == 0


UNTYPED: list[tuple[Any, str]] = [
    ({"x": object()}, "cannot be encoded as JSON"),
    ({"x": {1: object()}}, "cannot be encoded as JSON"),
    ("\ud800", "surrogates not allowed"),
    (b"raw", "bytes are not JSON: declare the stream with bytes as its type"),
    (math.nan, "data is NaN or infinite, which JSON cannot carry"),
    ({"price": math.nan}, "data.price is NaN or infinite"),
    ({"a": [{"b": math.inf}]}, "data.a[0].b is NaN or infinite"),
    (Trade(math.nan), "data.price is NaN or infinite"),
    (StreamEvent(data={"a": math.nan}), "data.a is NaN or infinite"),
]


@pytest.mark.parametrize(("data", "said"), UNTYPED, ids=ascii)
async def test_data_that_cannot_be_encoded(url: str, stream_name: str, data: Any, said: str) -> None:
    async with Mainstem(url) as app:
        await rejects(app.stream(stream_name), data, said)


TYPED: list[tuple[Any, str]] = [
    (5, "this stream carries Tick, not int: 5"),
    ("text", "this stream carries Tick, not str"),
    (None, "this stream carries Tick, not NoneType"),
    (Trade(1.0), "this stream carries Tick, not Trade"),
    ([Tick("A", 1.0)], "this stream carries Tick, not list"),
    ({"symbol": "A"}, "missing required field `price`"),
    ({"symbol": 1, "price": 1}, "Expected `str`, got `int` - at `$.symbol`"),
    (Tick("A", "dear"), "Expected `float`, got `str`"),  # type: ignore[arg-type]
    (Tick("A", math.nan), "data.price is NaN or infinite"),
]


@pytest.mark.parametrize(("data", "said"), TYPED, ids=ascii)
async def test_a_wrong_type_on_a_typed_stream(url: str, stream_name: str, data: Any, said: str) -> None:
    async with Mainstem(url) as app:
        await rejects(app.stream(stream_name, Tick), data, said)


@pytest.mark.parametrize(
    "attributes",
    [{"id": "\ud800"}, {"key": ""}, {"key": 5}, {"type": "\ud800"}, {"time": "now"}, {"source": 7}],
    ids=ascii,
)
async def test_attributes_that_cannot_be_stored(url: str, stream_name: str, attributes: dict[str, Any]) -> None:
    async with Mainstem(url) as app:
        await rejects(app.stream(stream_name), {}, next(iter(attributes)), **attributes)


async def test_an_event_over_the_limit_is_refused_before_sending(url: str, stream_name: str) -> None:
    async with Mainstem(url) as app:
        stream = app.stream(stream_name)
        await rejects(
            stream, "x" * (1 << 20), f"for stream '{stream_name}' takes 1,048,", "over the limit of 1,048,576"
        )
        assert await stream.publish("x" * ((1 << 20) - 200))
    async with Mainstem(url, event_limit=2 << 20) as app:
        assert await app.stream(f"{stream_name}.large").publish("x" * (1 << 20))


async def test_declaring_a_stream_otherwise_than_it_is_stored(url: str, stream_name: str) -> None:
    async with Mainstem(url) as app:
        await app.stream(stream_name, Tick, key=lambda tick: tick.symbol, partitions=4).publish(Tick("A", 1.0))
        with refused(ConfigError, f"stream '{stream_name}' exists", "partitions 8 (stored: 4)", "another name"):
            await app.stream(stream_name, Tick, partitions=8).publish(Tick("A", 1.0), key="A")
        with refused(ConfigError, "type 'Trade' (stored: 'Tick')"):
            await app.stream(stream_name, Trade).publish(Trade(1.0))
        assert (await app.stream(stream_name).describe()).added == 1


# Addresses

URLS = [
    "kafka://localhost",
    "redi://localhost:6379",
    "localhost:6379",
    "",
    "http://localhost",
    "redis//localhost",
    "://",
]


@pytest.mark.parametrize("address", URLS)
def test_an_unknown_scheme_names_the_known_ones(address: str) -> None:
    with refused(ConfigError, "no engine for", "embedded://, memory://, redis://, rediss://, unix://"):
        Mainstem(address)


@pytest.mark.parametrize("port", ["99999", "x", "-1", "0"])
async def test_a_bad_port(port: str) -> None:
    with refused(ConfigError, "port"):
        async with Mainstem(f"redis://127.0.0.1:{port}/0"):
            pass


async def test_no_server() -> None:
    with refused(Unavailable, "127.0.0.1:1"):
        async with Mainstem("redis://127.0.0.1:1/0", publish_deadline="1s"):
            pass


async def test_a_host_that_does_not_exist() -> None:
    with refused(Unavailable, "no-such-host.invalid"):
        async with Mainstem("redis://no-such-host.invalid:6379/0", publish_deadline="1s"):
            pass


async def test_a_socket_that_does_not_exist(tmp_path: Path) -> None:
    with refused(Unavailable, "no.sock"):
        async with Mainstem(f"unix://{tmp_path}/no.sock", publish_deadline="1s"):
            pass


# Rights


async def test_wrong_passwords_and_missing_rights(server_url: str, stream_name: str) -> None:
    plain = server_url.removeprefix("redis://")
    async with redis.Redis.from_url(server_url) as admin:
        user = f"u-{stream_name}"
        await admin.execute_command("ACL", "SETUSER", user, "on", ">right", "~*", "&*", "+@all", "-xadd")
        try:
            with refused(PermissionDenied):
                async with Mainstem(f"redis://{user}:wrong-secret@{plain}"):
                    pass
            async with Mainstem(server_url) as owner:
                await owner.stream(stream_name).open()
            async with Mainstem(f"redis://{user}:right@{plain}", publish_deadline="2s") as app:
                with refused(PermissionDenied, "xadd"):
                    await app.stream(stream_name).publish(1)
            async with Mainstem(server_url) as owner:
                assert (await owner.stream(stream_name).describe()).added == 0
        finally:
            await admin.execute_command("ACL", "DELUSER", user)


async def test_a_refusal_never_shows_the_password(server_url: str) -> None:
    plain = server_url.removeprefix("redis://")
    with pytest.raises(MainstemError) as caught:
        async with Mainstem(f"redis://nobody:hunter2@{plain}"):
            pass
    assert "hunter2" not in str(caught.value)


async def test_tls_with_the_wrong_certificate(redis_tls: TlsServer) -> None:
    async with Mainstem(f"{redis_tls.url}?ssl_ca_certs={redis_tls.ca_file}") as app:
        assert await app.stream("tls").publish(1)
    with pytest.raises(MainstemError) as caught:
        async with Mainstem(f"{redis_tls.url}?ssl_ca_certs={redis_tls.other_ca_file}", publish_deadline="1s"):
            pass
    assert type(caught.value) in (ConfigError, Unavailable, PermissionDenied)
    assert "certificate" in str(caught.value)
    assert "\n" not in str(caught.value)


# A server that cannot take more


@pytest.mark.parametrize("binary", [valkey_binary, redis7_binary], ids=["valkey", "redis7"])
async def test_a_full_server_refuses_truthfully_and_resumes_by_itself(binary: Any, short_root: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="f", dir=short_root))
    with serving(binary(), folder, "--maxmemory", "6mb", "--maxmemory-policy", "noeviction") as port:
        url = f"redis://127.0.0.1:{port}/0"
        async with Mainstem(url, publish_deadline="300ms") as app, redis.Redis.from_url(url) as admin:
            stream = app.stream("s")
            stored: list[str] = []
            with refused(Unavailable, "memory"):
                for number in range(1000):
                    await stream.publish("x" * 100_000, id=f"n-{number}")
                    stored.append(f"n-{number}")
            assert [event.id async for event in stream.read()] == stored
            await admin.config_set("maxmemory", "100mb")
            await wait_until(lambda: publishes(stream), 10)
            assert [event.id async for event in stream.read()][: len(stored)] == stored


async def publishes(stream: Any) -> bool:
    try:
        await stream.publish("again")
    except Unavailable:
        return False
    return True


# Declarations


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 0}, "concurrency=0 must be at least 1"),
        ({"start": "middle"}, "start='middle' of a group is 'beginning' or 'end'"),
        ({"timeout": "soon"}, "timeout='soon' is not a duration"),
        ({"lease": -1}, "lease=-1 is not a duration"),
    ],
)
def test_a_subscription_that_cannot_work(options: dict[str, Any], said: str) -> None:
    app = Mainstem("memory://")

    async def handle(event: Received[Any]) -> None: ...

    with refused(ConfigError, said):
        app.subscribe(app.stream("s"), group="g", **options)(handle)
    assert app.subscriptions == ()


def test_a_second_handler_in_the_same_group_would_take_events_from_the_first() -> None:
    app = Mainstem("memory://")
    stream = app.stream("s")

    @app.subscribe(stream, group="g")
    async def first(event: Received[Any]) -> None: ...

    with refused(ConfigError, "group 'g' of 's' has the handler 'first' already", "needs a group of its own"):

        @app.subscribe(stream, group="g")
        async def second(event: Received[Any]) -> None: ...
