"""What the server's error codes mean to a caller, each provoked on a real server, and its shapes in Python."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from engines.wire_lab import Server, until
from mainstem.engines.redis import fast
from mainstem.engines.redis.replies import checked, data, integer, items, pairs, translate
from mainstem.engines.redis.wire import Reply, ReplyError, Wire, command
from mainstem.errors import ConfigError, MainstemError, PermissionDenied, Unavailable

ADD = ("XADD", "s", "*", "a", 1)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    with TemporaryDirectory(prefix="ms") as folder:
        server = Server(Path(folder)).start()
        yield server
        server.kill()


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[Wire]:
    wire = await fast.connect(server.address)
    yield wire
    await wire.aclose()


async def translated(wire: Wire, *parts: bytes | str | int) -> MainstemError:
    reply = await wire.send(command(*parts))
    assert isinstance(reply, ReplyError), reply
    error = translate(reply, "publish to 's'")
    assert error.__cause__ is reply
    assert str(error).startswith("cannot publish to 's': ")
    assert str(error).endswith(".")
    return error


CONFIG = "CONFIG", "SET"


@pytest.mark.parametrize(
    ("before", "refused", "kind", "says"),
    [
        ([(*CONFIG, "maxmemory", 1)], ADD, Unavailable, "out of memory"),
        ([(*CONFIG, "min-replicas-to-write", 1)], ADD, Unavailable, "too few replicas"),
        ([("REPLICAOF", "127.0.0.1", 1)], ADD, Unavailable, "read-only replica"),
        (
            [(*CONFIG, "replica-serve-stale-data", "no"), ("REPLICAOF", "127.0.0.1", 1)],
            ("XLEN", "s"),
            Unavailable,
            "lost its primary",
        ),
        ([("SET", "s", 1)], ADD, ConfigError, "not a stream"),
        ([], ("NOSUCH", "s"), ConfigError, "does not know the command"),
        ([("ACL", "SETUSER", "default", "-xadd")], ADD, PermissionDenied, "ACL refuses"),
        ([], ("SELECT", 99), ConfigError, "no such database"),
        ([], ("XADD", "s", "*", "odd"), MainstemError, "wrong number of arguments"),
    ],
)
async def test_a_refusal_says_what_it_means(
    wire: Wire,
    before: Sequence[tuple[str | int, ...]],
    refused: tuple[str | int, ...],
    kind: type[MainstemError],
    says: str,
) -> None:
    for parts in before:
        assert await wire.send(command(*parts)) == b"OK" or parts[0] == "ACL"
    error = await translated(wire, *refused)
    assert type(error) is kind
    assert says in str(error)


async def test_a_disk_that_takes_no_more(server: Server, wire: Wire) -> None:
    await wire.send(command("CONFIG", "SET", "save", "3600 1"))
    shutil.rmtree(server.folder)
    await wire.send(command("BGSAVE"))

    async def failed() -> bool:
        return b"rdb_last_bgsave_status:err" in data(await wire.send(command("INFO", "persistence")))

    await until(failed)
    error = await translated(wire, *ADD)
    assert type(error) is Unavailable
    assert "cannot write to its disk" in str(error)
    server.folder.mkdir()


async def test_a_script_that_does_not_end(server: Server, wire: Wire) -> None:
    await wire.send(command("CONFIG", "SET", "busy-reply-threshold", 20))
    other = await fast.connect(server.address)
    endless = other.send(command("EVAL", "while true do end", 0))

    async def busy() -> bool:
        return isinstance(await wire.send(command("PING")), ReplyError)

    await until(busy)
    error = await translated(wire, *ADD)
    assert type(error) is Unavailable
    assert "SCRIPT KILL" in str(error)
    assert await wire.send(command("SCRIPT", "KILL")) == b"OK"
    assert isinstance(await endless, ReplyError)
    await other.aclose()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("LOADING Redis is loading the dataset in memory", Unavailable),
        ("CLUSTERDOWN Hash slot not served", Unavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", Unavailable),
        ("MOVED 3999 127.0.0.1:6381", ConfigError),
        ("DENIED Redis is running in protected mode", PermissionDenied),
        ("ERR max number of clients reached", Unavailable),
        ("NOGROUP No such key 's' or consumer group 'g'", MainstemError),
        ("ERR something new " + "x" * 500, MainstemError),
    ],
)
def test_codes_that_need_a_cluster_or_luck(text: str, kind: type[MainstemError]) -> None:
    error = translate(ReplyError(text), "read")
    assert type(error) is kind
    assert len(str(error)) < 400


async def test_shapes(wire: Wire) -> None:
    await wire.send(command("XADD", "s", "1-1", "a", "1", "b", "2"))
    info = pairs(await wire.send(command("XINFO", "STREAM", "s")))
    assert integer(info[b"length"]) == 1
    assert data(info[b"last-generated-id"]) == b"1-1"
    entry = items(info[b"first-entry"])
    assert pairs(entry[1]) == {b"a": b"1", b"b": b"2"}
    assert items(await wire.send(command("XREAD", "STREAMS", "s", "$"))) == []
    await wire.send(command("SET", "n", -42))
    assert integer(await wire.send(command("GET", "n"))) == -42
    assert checked(b"OK", "read") == b"OK"


@pytest.mark.parametrize(
    ("read", "reply"), [(data, 1), (integer, b"one"), (integer, None), (items, b"x"), (pairs, 1), (data, [])]
)
def test_an_unexpected_shape_is_told(read: Callable[[Reply], object], reply: Reply) -> None:
    with pytest.raises(MainstemError, match="was expected"):
        read(reply)


def test_an_error_where_a_value_was_expected_is_raised_as_what_it_means() -> None:
    refusal = ReplyError("OOM command not allowed")
    for read in (data, integer, items, pairs):
        with pytest.raises(Unavailable) as caught:
            read(refusal)
        assert caught.value.__cause__ is refusal
    with pytest.raises(Unavailable, match="cannot trim"):
        checked(refusal, "trim")
