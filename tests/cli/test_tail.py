"""`mainstem tail`: follows, filters, prints for people and for pipes, and disturbs nobody."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
import redis

from cli.cli_lab import COMMAND, environment, fine, mainstem, ndjson, one_line, running
from waiting import wait_blocking

TICKS = [
    {"data": {"price": 100, "n": 1}, "type": "tick", "key": "AAPL"},
    {"data": {"price": 600, "n": 2}, "type": "tick", "key": "MSFT"},
    {"data": {"price": 700, "n": 3}, "type": "trade.made", "key": "AAPL"},
]


def publish(stream: str, url: str, *events: object) -> None:
    fine("publish", stream, "--events", stdin=ndjson(*events), url=url)


def seen(lines: list[str]) -> list[int]:
    return [json.loads(line)["data"]["n"] for line in list(lines)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), [1, 2, 3]),
        (("--limit", "2"), [1, 2]),
        (("--limit", "0"), []),
        (("--type", "tick"), [1, 2]),
        (("--type", "trade.*"), [3]),
        (("--type", "trade.*", "--type", "tick", "--key", "AAPL"), [1, 3]),
        (("--key", "MSFT"), [2]),
        (("--where", "data.price > 500"), [2, 3]),
        (("--where", "data.price > 500 and key == 'AAPL'"), [3]),
        (("--where", "data.price > 500", "--limit", "1"), [2]),
        (("--from", "end"), []),
        (("--from", "1h"), [1, 2, 3]),
        (("--from", "2020-01-01T00:00:00Z"), [1, 2, 3]),
    ],
)
def test_filters(valkey_url: str, stream_name: str, words: tuple[str, ...], expected: list[int]) -> None:
    publish(stream_name, valkey_url, *TICKS)
    said = fine("tail", stream_name, "--no-follow", *words, url=valkey_url)
    assert seen(said.out.splitlines()) == expected


def test_it_goes_on_behind_a_position(redis7_url: str, stream_name: str) -> None:
    publish(stream_name, redis7_url, *TICKS)
    first = fine("tail", stream_name, "-F", "-n", "1", url=redis7_url).json
    assert seen(fine("tail", stream_name, "-F", "--from", first["position"], url=redis7_url).out.splitlines()) == [2, 3]


def test_it_follows_from_the_end_until_ctrl_c(valkey_url: str, stream_name: str) -> None:
    publish(stream_name, valkey_url, *TICKS)
    with running("tail", stream_name, "--type", "tick", url=valkey_url) as it:

        def arrived() -> bool:  # where the end is when it begins, only its output tells
            publish(stream_name, valkey_url, TICKS[1], TICKS[2])
            return bool(it.out)

        wait_blocking(arrived, 20)
        it.signal(signal.SIGINT)
        assert it.ended() == 130
    assert set(seen(it.out)) == {2}
    assert it.err == []


def test_a_pattern_picks_up_new_streams(valkey_url: str, stream_name: str) -> None:
    publish(f"{stream_name}.a", valkey_url, TICKS[0])
    with running("tail", f"{stream_name}.*", "--from", "beginning", url=valkey_url) as it:
        it.until('"n":1')
        publish(f"{stream_name}.b", valkey_url, TICKS[1])
        it.until('"n":2')
        publish(f"{stream_name}.a", valkey_url, TICKS[2])
        line = it.until('"n":3')
        it.signal(signal.SIGINT)
        assert it.ended() == 130
    assert json.loads(line)["stream"] == f"{stream_name}.a"
    assert seen(it.out) == [1, 2, 3]


def test_streams_are_merged_in_the_order_in_which_events_were_stored(valkey_url: str, stream_name: str) -> None:
    for stream, tick in (("a", TICKS[0]), ("b", TICKS[1]), ("a", TICKS[2])):
        publish(f"{stream_name}.{stream}", valkey_url, tick)
    said = fine("tail", f"{stream_name}.a", f"{stream_name}.b", "-F", url=valkey_url)
    assert seen(said.out.splitlines()) == [1, 2, 3]


def test_a_table_for_people_with_nothing_that_a_terminal_would_obey(valkey_url: str, stream_name: str) -> None:
    publish(stream_name, valkey_url, {"data": "\x1b[2J", "type": "a\x1b]0;b", "key": "k\u202e"})
    header, row = fine("tail", stream_name, "-F", "-o", "table", url=valkey_url).out.splitlines()
    assert header.split() == ["TIME", "TYPE", "KEY", "DATA"]
    assert "\x1b" not in row
    assert "\u202e" not in row
    assert "a\\x1b]0;b" in row


def test_json_is_one_indented_object_an_event(valkey_url: str, stream_name: str) -> None:
    publish(stream_name, valkey_url, TICKS[0])
    said = fine("tail", stream_name, "-F", "-o", "json", url=valkey_url)
    assert said.json["data"] == TICKS[0]["data"]
    assert said.out.count("\n") > 5


def test_a_reader_that_leaves_ends_it_quietly(valkey_url: str, stream_name: str) -> None:
    fine("publish", stream_name, stdin=ndjson(*({"n": n, "pad": "x" * 200} for n in range(5000))), url=valkey_url)
    tail = subprocess.Popen(
        [*COMMAND, "tail", stream_name, "-F"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(valkey_url),
    )
    assert tail.stdout is not None
    assert tail.stderr is not None
    assert json.loads(tail.stdout.readline())["data"]["n"] == 0
    tail.stdout.close()
    assert tail.stderr.read() == b""
    tail.stderr.close()
    assert tail.wait(15) == 0


def test_an_entry_of_another_client_that_cannot_be_decoded_is_told_and_passed(
    valkey_url: str, stream_name: str
) -> None:
    publish(stream_name, valkey_url, TICKS[0])
    with redis.Redis.from_url(valkey_url) as other:
        [key] = [key for key in other.scan_iter(f"*{stream_name}*") if other.type(key) == b"stream"]
        other.xadd(key, {"id": "p", "type": "t", "data": "{not json"})
    publish(stream_name, valkey_url, TICKS[1])
    said = fine("tail", stream_name, "-F", url=valkey_url)
    assert seen(said.out.splitlines()) == [1, 2]
    assert stream_name in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("NAME-typo",), 2, "did you mean"),
        (("a{b",), 5, "not allowed"),
        (("NAME", "--where", "price > 1"), 2, "data.price?"),
        (("NAME", "--from", "yesterday"), 2, "yesterday"),
        (("NAME", "--limit", "-1"), 2, "0 or more"),
        (("NAME", "--limit", "x"), 2, "mainstem tail --help"),
        ((), 2, "mainstem tail --help"),
        (("NAME", "--nope"), 2, "--nope"),
        (("NAME", "-o", "xml"), 2, "xml"),
    ],
)
def test_wrong_words_are_one_line(
    valkey_url: str, stream_name: str, words: tuple[str, ...], code: int, says: str
) -> None:
    publish(stream_name, valkey_url, TICKS[0])
    said = mainstem("tail", "-F", *(word.replace("NAME", stream_name) for word in words), url=valkey_url)
    assert said.code == code, said
    assert says in one_line(said)
    assert said.out == ""


def test_looking_makes_no_stream_and_no_group(valkey_url: str, stream_name: str) -> None:
    assert mainstem("tail", stream_name, "-F", url=valkey_url).code == 2
    assert "no stream matches" in fine("tail", f"{stream_name}*", "-F", url=valkey_url).err
    assert fine("ls", stream_name, "-o", "json", url=valkey_url).json == []
