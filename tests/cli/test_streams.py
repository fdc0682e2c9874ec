"""`mainstem ls`, `describe`, `alter` and `group`: what is there, and changing it only when asked to."""

from __future__ import annotations

import json

import pytest

from cli.cli_lab import fine, mainstem, ndjson, one_line
from mainstem import Mainstem

FIVE = [{"n": n} for n in range(5)]


def publish(stream: str, url: str) -> list[str]:
    """Five events; returns their positions."""
    rows = fine("publish", stream, "-o", "ndjson", stdin=ndjson(*FIVE), url=url).rows
    return [row["position"] for row in rows[:-1]]


async def read(url: str, stream: str, group: str, count: int) -> list[int]:
    """Handle so many events of a group; returns their numbers."""
    found: list[int] = []
    async with Mainstem(url) as app, app.stream(stream).consume(group) as received:
        async for item in received:
            found.append(item.data["n"])
            await item.ack()
            if len(found) == count:
                break
    return found


def group(stream: str, url: str) -> dict[str, object]:
    [row] = fine("group", "ls", stream, "-o", "ndjson", url=url).rows
    return row


def test_ls_lists_what_matches(valkey_url: str, stream_name: str) -> None:
    publish(f"{stream_name}.a", valkey_url)
    publish(f"{stream_name}.b", valkey_url)
    rows = fine("ls", f"{stream_name}.*", "-o", "json", url=valkey_url).json
    assert [(row["stream"], row["events"], row["mode"]) for row in rows] == [
        (f"{stream_name}.a", 5, "queue"),
        (f"{stream_name}.b", 5, "queue"),
    ]
    assert rows == fine("ls", f"{stream_name}.*", "-o", "ndjson", url=valkey_url).rows
    table = fine("ls", f"{stream_name}.*", url=valkey_url).out.splitlines()
    assert table[0].split()[:3] == ["STREAM", "MODE", "EVENTS"]
    assert table[1].split()[:3] == [f"{stream_name}.a", "queue", "5"]
    nothing = fine("ls", f"{stream_name}.x*", url=valkey_url)
    assert (nothing.out, nothing.err) == ("", f"no stream matches '{stream_name}.x*'.\n")


async def test_describe_shows_the_stream_and_its_groups(redis7_url: str, stream_name: str) -> None:
    publish(stream_name, redis7_url)
    assert await read(redis7_url, stream_name, "billing", 2) == [0, 1]
    found = fine("describe", stream_name, "-o", "json", url=redis7_url).json
    assert (found["stream"], found["events"], found["max_events"], found["retain"]) == (stream_name, 5, 1_000_000, None)
    [billing] = found["groups"]
    assert (billing["group"], billing["pending"], billing["lag"]) == ("billing", 3, 0)  # what it held and gave back
    table = fine("describe", stream_name, url=redis7_url).out
    assert "1,000,000 events" in table
    assert "billing" in table


async def test_a_keyed_stream_says_so(valkey_url: str, stream_name: str) -> None:
    async with Mainstem(valkey_url) as app:
        await app.stream(stream_name, key=lambda data: data["k"], partitions=4).publish({"k": "a"})
    assert fine("ls", stream_name, "-o", "json", url=valkey_url).json[0]["mode"] == "keyed/4"
    said = mainstem("publish", stream_name, "--data", '{"k": "a"}', url=valkey_url)
    assert said.code == 5
    assert "give the event a key" in one_line(said)
    fine("publish", stream_name, "--data", '{"k": "a"}', "--key", "a", url=valkey_url)
    fine("publish", stream_name, "--key-field", "k", stdin='{"k": "b"}\n', url=valkey_url)
    rows = fine("tail", stream_name, "-F", url=valkey_url).rows
    assert sorted(row["key"] for row in rows) == ["a", "a", "b"]
    said = mainstem("group", "seek", stream_name, "g", "--to", "99:1-0", url=valkey_url)
    assert (said.code, "with partitions 0 to 3" in one_line(said)) == (2, True)


def test_alter_changes_what_is_kept_and_nothing_else(valkey_url: str, stream_name: str) -> None:
    publish(stream_name, valkey_url)
    trial = fine("alter", stream_name, "--retain", "7d", "--dry-run", "-o", "json", url=valkey_url)
    assert trial.json == {
        "stream": stream_name,
        "before": "1,000,000 events",
        "after": "7d, at most 1,000,000 events",
        "changed": False,
    }
    assert fine("describe", stream_name, "-o", "json", url=valkey_url).json["retain"] is None
    fine("alter", stream_name, "--retain", "7d", "--max-events", "none", url=valkey_url)
    found = fine("describe", stream_name, "-o", "json", url=valkey_url).json
    assert (found["retain"], found["max_events"], found["events"]) == (604800.0, None, 5)
    fine("alter", stream_name, "--retain", "until-read", "--max-events", "1_000", url=valkey_url)
    found = fine("describe", stream_name, "-o", "json", url=valkey_url).json
    assert (found["retain"], found["max_events"], found["until_read"]) == (None, 1000, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing to change"),
        (("--retain", "soon"), "not a duration"),
        (("--max-events", "0"), "not a number of events"),
        (("--max-events", "none"), "without bound"),
    ],
)
def test_alter_refuses(valkey_url: str, stream_name: str, words: tuple[str, ...], says: str) -> None:
    publish(stream_name, valkey_url)
    said = mainstem("alter", stream_name, *words, url=valkey_url)
    assert said.code == 2
    assert says in one_line(said)


async def test_seek_moves_a_group(valkey_url: str, stream_name: str) -> None:
    positions = publish(stream_name, valkey_url)
    assert await read(valkey_url, stream_name, "billing", 5) == [0, 1, 2, 3, 4]
    trial = fine(
        "group", "seek", stream_name, "billing", "--to", "beginning", "--dry-run", "-o", "json", url=valkey_url
    )
    assert (trial.json["lag_before"], trial.json["moved"]) == (0, False)
    assert group(stream_name, valkey_url)["lag"] == 0
    moved = fine("group", "seek", stream_name, "billing", "--to", positions[2], "-o", "json", url=valkey_url)
    assert (moved.json["lag_before"], moved.json["lag_after"], moved.json["new"]) == (0, 2, False)
    assert await read(valkey_url, stream_name, "billing", 2) == [3, 4]
    fine("group", "seek", stream_name, "billing", "--to", "1h", url=valkey_url)
    assert await read(valkey_url, stream_name, "billing", 5) == [0, 1, 2, 3, 4]
    fine("group", "seek", stream_name, "billing", "--to", "beginning", url=valkey_url)
    fine("group", "seek", stream_name, "billing", "--to", "end", url=valkey_url)
    assert group(stream_name, valkey_url)["lag"] == 0


def test_lag_lists_the_worst_first(valkey_url: str, stream_name: str) -> None:
    positions = publish(stream_name, valkey_url)
    fine("group", "seek", stream_name, "nearly", "--to", positions[3], url=valkey_url)
    fine("group", "seek", stream_name, "hardly", "--to", positions[0], url=valkey_url)
    rows = fine("group", "lag", stream_name, "-o", "json", url=valkey_url).json
    assert [(row["group"], row["lag"]) for row in rows] == [("hardly", 4), ("nearly", 1)]


async def test_a_group_is_deleted_only_when_confirmed(valkey_url: str, stream_name: str) -> None:
    publish(stream_name, valkey_url)
    await read(valkey_url, stream_name, "billing", 1)
    said = mainstem("group", "delete", stream_name, "billing", url=valkey_url)
    assert said.code == 2
    assert "add --yes" in one_line(said)
    trial = fine("group", "delete", stream_name, "billing", "--dry-run", "-o", "json", url=valkey_url)
    assert trial.json["deleted"] is False
    assert group(stream_name, valkey_url)["group"] == "billing"
    said = mainstem("group", "delete", stream_name, "biling", "--yes", url=valkey_url)
    assert (said.code, "did you mean 'billing'?" in one_line(said)) == (2, True)
    fine("group", "delete", stream_name, "billing", "--yes", url=valkey_url)
    assert fine("group", "ls", stream_name, "-o", "json", url=valkey_url).json == []


@pytest.mark.parametrize("words", [("describe",), ("group", "ls"), ("dead", "ls"), ("alter", "--retain", "1h")])
def test_a_stream_that_is_not_there_is_not_made(valkey_url: str, stream_name: str, words: tuple[str, ...]) -> None:
    said = mainstem(*words, stream_name, url=valkey_url)
    assert said.code == 2
    assert f"there is no stream '{stream_name}'" in one_line(said)
    assert fine("ls", stream_name, "-o", "json", url=valkey_url).json == []


def test_settings_come_from_the_file_then_the_environment_then_the_option(
    shop: object, valkey_url: str, redis7_url: str, stream_name: str
) -> None:
    with open("mainstem.toml", "w") as file:
        file.write(f"url = {json.dumps(valkey_url)}\n")
    publish_to = ("publish", stream_name, "--data", "1")
    fine(*publish_to)
    fine(*publish_to, url=redis7_url)
    fine(*publish_to, "--url", valkey_url, url=redis7_url)
    counted = [
        fine("ls", stream_name, "-o", "json", "--url", url).json[0]["events"] for url in (valkey_url, redis7_url)
    ]
    assert counted == [2, 1]
    with open("mainstem.toml", "w") as file:
        file.write("url = [\n")
    said = mainstem("ls")
    assert (said.code, "mainstem.toml cannot be read" in one_line(said)) == (2, True)
