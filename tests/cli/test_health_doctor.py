"""`mainstem health` and `doctor`: what is wrong is said, and ends with 1."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import redis

from cli.cli_lab import fine, mainstem, ndjson, one_line, running
from mainstem import Mainstem
from mainstem.cli.findings import of_server
from mainstem.engines.redis import ServerFacts
from servers_for_tests import serving, valkey_binary


async def made(url: str, stream: str, count: int, max_events: int | None = None) -> None:
    """A stream with a group that has read one of its events."""
    async with Mainstem(url) as app:
        target = app.stream(stream, max_events=max_events)
        await target.publish({"n": -1})
        async with target.consume("billing") as received:
            await (await anext(received)).ack()
    fine("publish", stream, stdin=ndjson(*({"n": n} for n in range(count))), url=url)


async def test_health_shows_groups_and_judges_lag(valkey_url: str, stream_name: str) -> None:
    await made(valkey_url, stream_name, 20)
    said = fine("health", stream_name, "--max-lag", "20", "-o", "json", url=valkey_url)
    [stream] = said.json
    assert (stream["stream_name"], stream["message_count"], stream["consumer_lag"], stream["lost"]) == (
        stream_name,
        21,
        20,
        0,
    )
    assert stream["groups"][0]["group"] == "billing"
    said = mainstem("health", stream_name, "--max-lag", "19", url=valkey_url)
    assert said.code == 1
    assert f"group 'billing' of '{stream_name}' is 20 events behind, over --max-lag 19" in said.err
    assert said.out.splitlines()[0].split()[:4] == ["STREAM", "EVENTS", "IN/S", "GROUP"]
    assert "billing" in said.out


async def test_health_fails_when_something_is_lost(valkey_url: str, stream_name: str) -> None:
    await made(valkey_url, stream_name, 20)
    fine("alter", stream_name, "--max-events", "5", url=valkey_url)
    fine("publish", stream_name, stdin=ndjson(*({"n": n} for n in range(3000))), url=valkey_url)
    async with Mainstem(valkey_url) as app, app.stream(stream_name).consume("billing") as received:
        await (await anext(received)).ack()  # a reader is who notices the gap
    said = mainstem("health", stream_name, "-o", "ndjson", url=valkey_url)
    assert said.code == 1, said
    assert said.rows[0]["lost"] > 1000
    assert "events to retention" in said.err


def test_watch_looks_again_until_ctrl_c(valkey_url: str, stream_name: str) -> None:
    fine("publish", stream_name, "--data", "1", url=valkey_url)
    with running("health", stream_name, "--watch", "--every", "100ms", "-o", "ndjson", url=valkey_url) as it:
        it.until('"message_count":1')
        fine("publish", stream_name, "--data", "2", url=valkey_url)
        assert json.loads(it.until('"message_count":2'))["stream_name"] == stream_name
        it.signal(signal.SIGINT)
        assert it.ended() == 130
    assert "Traceback" not in "".join(it.err)


def test_health_of_nothing(valkey_url: str, stream_name: str) -> None:
    assert "no stream matches" in fine("health", f"{stream_name}*", url=valkey_url).err
    said = mainstem("health", stream_name, "--max-lag", 5, url=valkey_url)  # a typo must not look healthy
    assert (said.code, said.out) == (2, "")
    assert f"there is no stream {stream_name!r}" in said.err


def test_doctor_of_the_embedded_server(shop: Path) -> None:
    said = fine("doctor", "-o", "json")
    found = {row["about"]: row for row in said.json}
    assert found["durability"]["verdict"] == "ok"
    assert "fsynced each second" in found["durability"]["found"]
    assert str(shop / ".mainstem") in found["embedded server"]["found"]
    assert "0 bad" in said.err
    assert "eviction" in fine("doctor").out


def test_doctor_judges_a_server_that_keeps_nothing_and_evicts(short_root: Path, stream_name: str) -> None:
    folder = short_root / stream_name
    folder.mkdir()
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with serving(valkey_binary(), folder, *options) as port:
        url = f"redis://127.0.0.1:{port}/0"
        said = mainstem("doctor", "-o", "json", url=url)
        refused = mainstem("publish", stream_name, "--data", "1", url=url)
    assert said.code == 1
    found = {row["about"]: row for row in said.json}
    assert (found["durability"]["verdict"], found["eviction"]["verdict"]) == ("bad", "bad")
    assert "noeviction" in found["eviction"]["do"]
    assert "appendonly yes" in found["durability"]["do"]
    assert refused.code == 2
    assert "noeviction" in refused.err.splitlines()[-1]


def test_doctor_shows_settings_and_no_password(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as admin:
        admin.execute_command("ACL", "SETUSER", "cli-doctor", "reset", "on", ">s3cret", "~*", "+@all")
        said = mainstem("doctor", "-o", "json", url=valkey_url.replace("://", "://cli-doctor:s3cret@"))
        admin.execute_command("ACL", "DELUSER", "cli-doctor")
    assert "s3cret" not in said.out + said.err
    assert "MAINSTEM_URL=redis://cli-doctor:***@" in said.out


def test_doctor_without_a_server_is_3() -> None:
    said = mainstem("doctor", "-o", "json", url="redis://127.0.0.1:1/0")
    assert said.code == 3
    assert said.json[-1]["verdict"] == "bad"
    assert "no server answers" in said.json[-1]["found"]


@pytest.mark.parametrize(
    ("facts", "about", "verdict"),
    [
        (ServerFacts("redis", "7.0.0", appendonly="yes", appendfsync="always"), "durability", "ok"),
        (ServerFacts("redis", "7.0.0", appendonly="yes", appendfsync="no"), "durability", "warn"),
        (ServerFacts("redis", "7.0.0", appendonly="no", snapshots="3600 1"), "durability", "warn"),
        (ServerFacts("redis", "7.0.0", appendonly="no"), "durability", "bad"),
        (ServerFacts("redis", "7.0.0"), "durability", "warn"),
        (ServerFacts("redis", "7.0.0", role="slave"), "role", "bad"),
        (ServerFacts("redis", "7.0.0", role="master", replicas=2), "role", "ok"),
        (ServerFacts("redis", ""), "version", "warn"),
        (ServerFacts("redis", "7.0.0", maxmemory=0, policy="allkeys-lru"), "eviction", "warn"),
        (ServerFacts("redis", "7.0.0", maxmemory=10, policy="allkeys-lru"), "eviction", "bad"),
        (ServerFacts("redis", "7.0.0", maxmemory=10, policy="noeviction"), "eviction", "ok"),
        (ServerFacts("redis", "7.0.0", maxmemory=1000), "memory", "bad"),
        (ServerFacts("redis", "7.0.0", maxmemory=1100), "memory", "warn"),
        (ServerFacts("redis", "7.0.0", maxmemory=2000), "memory", "ok"),
        (ServerFacts("redis", "7.0.0", maxmemory=0), "memory", "ok"),
    ],
)
def test_judgements(facts: ServerFacts, about: str, verdict: str) -> None:
    [found] = [each for each in of_server(facts, used=990) if each.about == about]
    assert found.verdict == verdict
    assert bool(found.do) is (verdict != "ok")


def test_a_limit_below_zero_is_wrong_usage(valkey_url: str) -> None:
    said = mainstem("health", "--max-lag", "-1", url=valkey_url)
    assert (said.code, "mainstem health --help" in one_line(said)) == (2, True)
