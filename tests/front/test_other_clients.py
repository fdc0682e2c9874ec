"""
Other clients of the server read what mainstem wrote, and write what mainstem's handlers receive: docs/layout.md, shown
with redis-cli and with node-redis, on queues and on keyed streams.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from mainstem import ConfigError, Mainstem, Received
from mainstem.servers.embedded import ensure_sync, stop
from servers_for_tests import require
from waiting import wait_until

PARTITIONS = 4
SYMBOLS = ["AAPL", "MSFT", "ÅNGSTRÖM", "0700.HK", "BRK B"]
NODE_REDIS = "redis@6"

Entries = list[tuple[str, dict[str, str]]]


class Tick(msgspec.Struct):
    symbol: str
    n: int


class Client(Protocol):
    """Another client of the same server."""

    def add(self, key: str, fields: Mapping[str, str]) -> str:
        """XADD; returns the entry's id."""
        ...

    def entries(self, key: str) -> Entries:
        """XRANGE of everything."""
        ...

    def declare(self, stream: str, spec: Mapping[str, object]) -> None:
        """HSETNX of a specification."""
        ...

    def partition(self, key: str) -> int:
        """crc32(key) mod PARTITIONS, with what this client has at hand."""
        ...


class RedisCli:
    """redis-cli, and a shell for the check sum: it is in the last 8 bytes that gzip writes."""

    def __init__(self, *where: str) -> None:
        self._command = [_redis_cli(), *where, "--json"]

    def add(self, key: str, fields: Mapping[str, str]) -> str:
        return str(self.run("XADD", key, "*", *(part for pair in fields.items() for part in pair)))

    def entries(self, key: str) -> Entries:
        found = self.run("XRANGE", key, "-", "+")
        return [(entry, dict(zip(flat[::2], flat[1::2], strict=True))) for entry, flat in found]

    def declare(self, stream: str, spec: Mapping[str, object]) -> None:
        self.run("HSETNX", "mainstem:streams", stream, json.dumps(spec))

    def partition(self, key: str) -> int:
        pipe = 'printf %s "$1" | gzip -c | tail -c 8 | head -c 4 | od -An -tu4'
        done = subprocess.run(["sh", "-c", pipe, "sh", key], capture_output=True, text=True, check=True, timeout=10)
        return int(done.stdout) % PARTITIONS

    def run(self, *arguments: str) -> Any:
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=True, timeout=10)
        return json.loads(done.stdout)


class NodeRedis:
    """node-redis, one short program a call."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def add(self, key: str, fields: Mapping[str, str]) -> str:
        return str(self._run("add", key, fields))

    def entries(self, key: str) -> Entries:
        return [(entry["id"], entry["message"]) for entry in self._run("entries", key, None)]

    def declare(self, stream: str, spec: Mapping[str, object]) -> None:
        self._run("declare", stream, spec)

    def partition(self, key: str) -> int:
        return int(self._run("partition", key, PARTITIONS))

    def _run(self, verb: str, key: str, argument: object) -> Any:
        command = ["node", "program.mjs", self._url, verb, key, json.dumps(argument)]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=True, timeout=20)
        return json.loads(done.stdout)


PROGRAM = """
import { createClient } from "redis";

const [url, verb, key, text] = process.argv.slice(2);
const argument = JSON.parse(text);

function crc32(bytes) {                       // zlib.crc32 of newer Node versions gives the same
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

const verbs = {
  add: (client) => client.xAdd(key, "*", argument),
  entries: (client) => client.xRange(key, "-", "+"),
  declare: (client) => client.hSetNX("mainstem:streams", key, JSON.stringify(argument)),
  partition: () => crc32(Buffer.from(key)) % argument,
};

const client = createClient({ url });
await client.connect();
console.log(JSON.stringify(await verbs[verb](client)));
await client.close();
"""


def _redis_cli() -> str:
    found = shutil.which("redis-cli") or shutil.which("redis-cli", path="/usr/bin")
    if found is None:
        require("redis7", "redis-cli is not installed (Debian: apt install redis-tools)")
        raise AssertionError("unreachable")
    return found


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with node-redis and the program; skips where node, npm or the registry cannot be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("node")
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-update-notifier", "--prefix", str(folder), NODE_REDIS]
    environment = os.environ | {"npm_config_cache": str(folder / "cache")}
    try:
        subprocess.run(install, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=45)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {NODE_REDIS} in time")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm cannot install {NODE_REDIS}: {error.stderr.strip()[-300:]}")
    (folder / "program.mjs").write_text(PROGRAM)
    return folder


@pytest.fixture(params=["redis-cli", "node-redis"])
def client(request: pytest.FixtureRequest, server_url: str) -> Client:
    if request.param == "redis-cli":
        return RedisCli("-u", server_url)
    return NodeRedis(request.getfixturevalue("node_folder"), server_url)


@pytest.fixture
def project_with_server(project: Path) -> Iterator[Path]:
    """A project folder whose embedded server runs; it is stopped after the test."""
    ensure_sync(project / ".mainstem")
    yield project
    stop(project / ".mainstem")


def log(stream: str, partition: int) -> str:
    return f"{{{stream}:{partition}}}"


# ------------------------------------------------------------------------------------------------------- reading


async def test_another_client_reads_what_mainstem_wrote(client: Client, server_url: str, stream_name: str) -> None:
    async with Mainstem(server_url, source="feed") as app:
        ticks = app.stream(stream_name, Tick)
        position = await ticks.publish(Tick("AAPL", 1), id="e-1", key="AAPL")
        (event,) = [event async for event in ticks.read()]
        await ticks.publish(event.caused(data=Tick("ÅNGSTRÖM", 2)))

    (first, second) = client.entries(stream_name)

    assert first[0] == position
    assert list(first[1]) == ["id", "type", "source", "time", "key", "data", "meta"]
    assert {name: first[1][name] for name in ("id", "type", "source", "key", "meta")} == {
        "id": "e-1", "type": "Tick", "source": "feed", "key": "AAPL", "meta": "",
    }  # fmt: skip
    assert first[1]["time"] == event.time.isoformat()
    assert json.loads(first[1]["data"]) == {"symbol": "AAPL", "n": 1}
    assert json.loads(second[1]["data"]) == {"symbol": "ÅNGSTRÖM", "n": 2}
    assert second[1]["key"] == ""
    assert json.loads(second[1]["meta"]) == {"correlation_id": "e-1", "causation_id": "e-1"}


async def test_another_client_finds_the_partition_of_a_key(client: Client, server_url: str, stream_name: str) -> None:
    async with Mainstem(server_url) as app:
        ticks = app.stream(stream_name, Tick, key=lambda tick: tick.symbol, partitions=PARTITIONS)
        positions = await ticks.publish_batch([Tick(symbol, n) for n in range(3) for symbol in SYMBOLS])

    found = {partition: client.entries(log(stream_name, partition)) for partition in range(PARTITIONS)}

    assert sorted(f"{p}:{entry}" for p, entries in found.items() for entry, _ in entries) == sorted(positions)
    for symbol in SYMBOLS:
        own = [json.loads(fields["data"]) for _, fields in found[client.partition(symbol)] if fields["key"] == symbol]
        assert own == [{"symbol": symbol, "n": n} for n in range(3)]


# ------------------------------------------------------------------------------------------------------- writing


async def test_a_handler_receives_what_another_client_wrote(client: Client, server_url: str, stream_name: str) -> None:
    app = Mainstem(server_url)
    seen: list[Received[Tick]] = []

    @app.subscribe(app.stream(stream_name, Tick), group="prices")
    async def price(event: Received[Tick]) -> None:
        seen.append(event)

    bare = client.add(stream_name, {"data": '{"symbol":"AAPL","n":1}'})
    whole = client.add(
        stream_name,
        {
            "data": '{"symbol":"ÅNGSTRÖM","n":2}',
            "id": "e-2",
            "type": "tick",
            "source": "node",
            "time": "2026-01-31T09:30:00Z",
            "key": "ÅNGSTRÖM",
            "meta": '{"correlation_id":"c-1","extensions":{"desk":"7"}}',
            "mine": "an extra field",
        },
    )
    async with app.running():
        await wait_until(lambda: len(seen) == 2)

    first, second = seen
    assert (first.data, first.position, first.id) == (Tick("AAPL", 1), bare, f"{stream_name}@{bare}")
    assert (first.type, first.source, first.key, first.metadata.correlation_id) == ("", "", None, None)
    assert first.time == first.recorded
    assert (second.data, second.position, second.id) == (Tick("ÅNGSTRÖM", 2), whole, "e-2")
    assert (second.type, second.source, second.key) == ("tick", "node", "ÅNGSTRÖM")
    assert second.time.isoformat() == "2026-01-31T09:30:00+00:00"
    assert second.metadata.correlation_id == "c-1"
    assert second.metadata.extensions == {"desk": "7"}


async def test_a_keyed_handler_receives_each_key_in_order(client: Client, server_url: str, stream_name: str) -> None:
    app = Mainstem(server_url)
    seen: dict[str | None, list[int]] = {}

    @app.subscribe(
        app.stream(stream_name, Tick, key=lambda tick: tick.symbol, partitions=PARTITIONS),
        group="prices",
        concurrency=8,
    )
    async def price(event: Received[Tick]) -> None:
        seen.setdefault(event.key, []).append(event.data.n)

    for n in range(3):
        for symbol in SYMBOLS[:3]:
            data = json.dumps({"symbol": symbol, "n": n})
            client.add(log(stream_name, client.partition(symbol)), {"key": symbol, "data": data})
    async with app.running():
        await wait_until(lambda: sum(map(len, seen.values())) == 9)

    assert seen == {symbol: [0, 1, 2] for symbol in SYMBOLS[:3]}


async def test_another_client_declares_a_stream(client: Client, server_url: str, stream_name: str) -> None:
    client.declare(stream_name, {"name": stream_name, "partitions": PARTITIONS, "type": "Tick"})
    async with Mainstem(server_url) as app:
        await app.stream(stream_name, Tick).publish(Tick("AAPL", 1), key="AAPL")

        with pytest.raises(ConfigError, match=r"partitions 16 \(stored: 4\)"):
            await app.stream(stream_name, Tick, key=lambda tick: tick.symbol).open()

    assert len(client.entries(log(stream_name, client.partition("AAPL")))) == 1


# ------------------------------------------------------------------------------------------------------ malformed


@pytest.mark.parametrize("partitions", [None, 1], ids=["queue", "keyed"])
async def test_what_cannot_be_read_becomes_a_dead_letter_with_all_its_fields(
    client: Client, server_url: str, stream_name: str, partitions: int | None
) -> None:
    app = Mainstem(server_url)
    key = stream_name if partitions is None else log(stream_name, 0)
    seen: list[int] = []

    @app.subscribe(app.stream(stream_name, Tick, partitions=partitions), group="prices")
    async def price(event: Received[Tick]) -> None:
        seen.append(event.data.n)

    wrong = [
        {"data": "not JSON", "id": "w-1", "mine": "kept"},
        {"data": '{"symbol":"AAPL"}', "id": "w-2"},
        {"hello": "world"},
        {"data": '{"symbol":"AAPL","n":9}', "time": "yesterday", "id": "w-4"},
        {"data": '{"symbol":"AAPL","n":9}', "meta": "[]", "id": "w-5"},
    ]
    positions = [client.add(key, fields) for fields in wrong]
    client.add(key, {"data": '{"symbol":"AAPL","n":1}'})
    async with app.running():
        await wait_until(lambda: seen)
        await wait_until(lambda: _dead(app, stream_name, len(wrong)))

    tag = f"{{{stream_name}}}" if partitions is None else key
    letters = client.entries(f"{tag}:g:prices:dead")
    assert seen == [1]
    assert [fields["origin"] for _, fields in letters] == positions
    for (_, letter), fields in zip(letters, wrong, strict=True):
        cause = json.loads(letter["cause"])
        assert {name: letter[name] for name in fields} == fields
        assert (cause["error"], cause["group"], cause["stream"]) == ("DecodeError", "prices", stream_name)


async def _dead(app: Mainstem, stream: str, count: int) -> bool:
    return sum(group.dead for group in (await app.stream(stream).describe()).groups) == count


# ------------------------------------------------------------------------------------------------------- embedded


async def test_redis_cli_talks_to_the_embedded_server(project_with_server: Path) -> None:
    cli = RedisCli("-s", str(project_with_server / ".mainstem" / "s.sock"))
    async with Mainstem() as app:
        news = app.stream("news")
        await news.publish({"n": 1})
        entry = cli.add("news", {"data": '{"n":2}'})

        assert [event.data async for event in news.read()] == [{"n": 1}, {"n": 2}]
        assert [position for position, _ in cli.entries("news")][1] == entry
