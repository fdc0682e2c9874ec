"""`mainstem publish`: every line arrives or is named, in order, once."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from cli.cli_lab import Said, fine, mainstem, ndjson, one_line, running
from waiting import wait_blocking

TEN = [{"n": n} for n in range(1, 11)]


def stored(stream: str, url: str) -> list[dict]:
    return fine("tail", stream, "--no-follow", url=url).rows


def data(stream: str, url: str) -> list:
    return [row["data"] for row in stored(stream, url)]


def test_one_event(valkey_url: str, stream_name: str) -> None:
    said = fine(
        "publish", stream_name, "--data", '{"id": 1}', "--type", "order", "--key", "k", "-o", "json", url=valkey_url
    )
    [row] = stored(stream_name, valkey_url)
    assert (row["data"], row["type"], row["key"]) == ({"id": 1}, "order", "k")
    assert said.json == {"stream": stream_name, "position": row["position"], "id": row["id"]}
    assert f"stream '{stream_name}' is new" in said.err


def test_a_broken_line_7_of_10_stops_no_other(valkey_url: str, stream_name: str) -> None:
    lines = ndjson(*TEN).splitlines()
    lines[6] = '{"n": 7'
    said = mainstem("publish", stream_name, "-", "-o", "json", stdin="\n".join(lines), url=valkey_url)
    assert said.code == 1
    assert data(stream_name, valkey_url) == [each for each in TEN if each["n"] != 7]
    assert said.json["published"] == 9
    assert said.json["rejected"] == 1
    assert said.json["rejected_lines"] == [7]
    assert "line 7: is not JSON" in said.err


def test_the_report_for_people_names_the_line(valkey_url: str, stream_name: str) -> None:
    said = mainstem("publish", stream_name, stdin='{"n": 1}\nNaN\n\n{"n": 2}\r\n', url=valkey_url)
    assert said.code == 1
    assert f"{stream_name}: 2 published, 1 rejected" in said.out
    assert "rejected lines: 2" in said.out
    assert data(stream_name, valkey_url) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (b'{"a": NaN}', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'"\\ud800"', "line 2:"),
        (b"[" * 100_000, "line 2:"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "over the limit of 1,048,576"),
    ],
    ids=["NaN", "not UTF-8", "surrogate", "nested", "too large"],
)
def test_bad_data_is_named_and_the_rest_arrives(valkey_url: str, stream_name: str, bad: bytes, says: str) -> None:
    said = mainstem("publish", stream_name, stdin=b"1\n" + bad + b"\n3\n", url=valkey_url)
    assert said.code == 1
    assert "line 2:" in said.err
    assert says in said.err
    assert data(stream_name, valkey_url) == [1, 3]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("", "--data", "1"), 5, "is empty"),
        (("x" * 201, "--data", "1"), 5, "longer than 200 bytes"),
        (("a\tb", "--data", "1"), 5, "not allowed"),
        (("{}", "--data", "1"), 5, "not allowed"),
        (("a*", "--data", "1"), 5, "not allowed"),
        (("a..b", "--data", "1"), 5, "'..'"),
        (("a\udcff", "--data", "1"), 5, "not allowed"),
        (("NAME", "--data", "{"), 5, "is not JSON"),
        (("NAME", "--data", ""), 5, "--data is empty"),
        (("NAME", "--data", '"' + "x" * 100_000 + '"' * 2), 5, "is not JSON"),
        (("NAME", "nowhere.ndjson"), 2, "nowhere.ndjson cannot be read"),
        (("NAME", "--resume"), 2, "--resume needs a FILE"),
        (("NAME", "-", "--data", "1"), 2, "--data is one event's data"),
        (("NAME", "--key", "a", "--key-field", "b"), 2, "keep one of them"),
    ],
)
def test_wrong_words_are_one_line_and_a_code(
    valkey_url: str, stream_name: str, words: tuple[str, ...], code: int, says: str
) -> None:
    said = mainstem("publish", *(stream_name if word == "NAME" else word for word in words), url=valkey_url)
    assert said.code == code, said
    assert says in said.err
    assert "Traceback" not in said.err


def test_debug_shows_the_traceback(valkey_url: str) -> None:
    said = mainstem("publish", "a..b", "--data", "1", "--debug", url=valkey_url)
    assert said.code == 5
    assert "Traceback" in said.err


def test_whole_events_as_tail_prints_them(valkey_url: str, stream_name: str) -> None:
    event = {
        "id": "e-1", "type": "t", "source": "s", "time": "2026-01-31T09:30:00+00:00", "key": "k", "data": {"n": 1},
        "metadata": {"correlation_id": "c", "extensions": {"x": 1}},
    }  # fmt: skip
    fine("publish", stream_name, "--events", stdin=ndjson(event), url=valkey_url)
    printed = fine("tail", stream_name, "-F", "-o", "ndjson", url=valkey_url).out
    fine("publish", stream_name + "-copy", "--events", stdin=printed, url=valkey_url)
    [copy] = stored(stream_name + "-copy", valkey_url)
    assert {field: copy[field] for field in event} == event


def test_a_whole_event_with_an_unknown_field_is_rejected(valkey_url: str, stream_name: str) -> None:
    said = mainstem(
        "publish", stream_name, "--events", stdin='{"data": 1, "tipe": "t"}\n{"type": "t"}\n', url=valkey_url
    )
    assert said.code == 1
    assert "tipe" in said.err
    assert "line 2: is not an event" in said.err
    assert stored(stream_name, valkey_url) == []


def test_the_key_comes_from_a_field(valkey_url: str, stream_name: str) -> None:
    lines = ndjson({"by": {"id": "a"}}, {"by": {"id": 2}}, {"by": {}}, {"by": {"id": True}})
    said = mainstem("publish", stream_name, "--key-field", "by.id", stdin=lines, url=valkey_url)
    assert said.code == 1
    assert [row["key"] for row in stored(stream_name, valkey_url)] == ["a", "2"]
    assert "line 3: has no text or whole number at 'by.id'" in said.err
    assert "line 4:" in said.err


def test_a_dry_run_checks_everything_and_makes_nothing(valkey_url: str, stream_name: str) -> None:
    said = mainstem("publish", stream_name, "--dry-run", "-o", "json", stdin="1\n{\n3\n", url=valkey_url)
    assert said.code == 1
    assert (said.json["published"], said.json["rejected_lines"], said.json["dry_run"]) == (2, [2], True)
    assert fine("ls", stream_name, "-o", "json", url=valkey_url).json == []


def test_ndjson_gives_each_position(valkey_url: str, stream_name: str) -> None:
    *rows, report = fine("publish", stream_name, "-o", "ndjson", stdin=ndjson(*TEN), url=valkey_url).rows
    assert [row["line"] for row in rows] == list(range(1, 11))
    assert [row["position"] for row in rows] == [row["position"] for row in stored(stream_name, valkey_url)]
    assert report["published"] == 10


def test_many_lines_keep_their_order(valkey_url: str, stream_name: str) -> None:
    fine("publish", stream_name, stdin=ndjson(*range(20_000)), url=valkey_url)
    assert data(stream_name, valkey_url) == list(range(20_000))


def test_a_file_is_resumed_behind_what_was_acknowledged(valkey_url: str, stream_name: str, tmp_path: Path) -> None:
    file = tmp_path / "bars.ndjson"
    file.write_text(ndjson(*TEN))
    fine("publish", stream_name, file, "--resume", url=valkey_url)
    kept = json.loads((tmp_path / ".bars.ndjson.mainstem-position").read_text())
    assert (kept["line"], kept["offset"], kept["stream"]) == (10, file.stat().st_size, stream_name)
    with file.open("a") as more:
        more.write("broken\n" + ndjson({"n": 12}))
    said = mainstem("publish", stream_name, file, "--resume", "-o", "json", url=valkey_url)
    assert said.code == 1
    assert (said.json["published"], said.json["rejected_lines"], said.json["first_line"]) == (1, [11], 11)
    assert data(stream_name, valkey_url) == [*TEN, {"n": 12}]
    assert fine("publish", stream_name, file, "--resume", "-o", "json", url=valkey_url).json["published"] == 0


def test_another_file_of_that_name_is_not_resumed(valkey_url: str, stream_name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text(ndjson(*TEN))
    fine("publish", stream_name, file, "--resume", url=valkey_url)
    assert "is of stream" in one_line(mainstem("publish", stream_name + "2", file, "--resume", url=valkey_url))
    file.write_text(ndjson(*reversed(TEN)))
    said = mainstem("publish", stream_name, file, "--resume", url=valkey_url)
    assert said.code == 2
    assert "is not the file that was published before" in one_line(said)
    (tmp_path / ".a.ndjson.mainstem-position").write_text("{}")
    assert "cannot be read" in one_line(mainstem("publish", stream_name, file, "--resume", url=valkey_url))
    assert data(stream_name, valkey_url) == TEN


def test_ids_of_a_file_are_the_same_when_it_is_published_again(
    valkey_url: str, stream_name: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text(ndjson({"n": 1}, {"n": 1}))
    for _ in range(2):
        fine("publish", stream_name, file, url=valkey_url)
    ids = [row["id"] for row in stored(stream_name, valkey_url)]
    assert ids[:2] == ids[2:]
    assert ids[0] != ids[1]


def test_ctrl_c_reports_what_is_published(valkey_url: str, stream_name: str) -> None:
    with running("publish", stream_name, "-o", "json", url=valkey_url, stdin=subprocess.PIPE) as it:
        assert it.process.stdin is not None
        it.process.stdin.write(ndjson(*TEN) + "unfinished")
        it.process.stdin.flush()
        # A line is published when it has come, not when a batch is full.
        wait_blocking(lambda: mainstem("tail", stream_name, "-F", url=valkey_url).out.count("\n") == 10, 15)
        it.signal(signal.SIGINT)
        assert it.ended() == 130
    report = json.loads("".join(it.out))
    assert (report["published"], report["interrupted"], report["last_line"]) == (10, True, 10)
    assert "Traceback" not in "".join(it.err)


def test_no_server_is_unavailable(stream_name: str) -> None:
    said = mainstem("publish", stream_name, "--data", "1", url=f"redis://127.0.0.1:{_closed_port()}/0")
    assert said.code == 3
    assert "no server answers" in one_line(said)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("kafkas://h", "no engine for kafkas://"),
        ("redis://127.0.0.1:99999", "port"),
        ("memory://", "inside one process"),
        ("redis://[", "cannot be read"),
    ],
)
def test_a_wrong_url_is_a_wrong_setting(url: str, says: str) -> None:
    said = mainstem("publish", "orders", "--data", "1", "--url", url)
    assert said.code == 2
    assert says in one_line(said)


def test_a_wrong_password_is_denied_and_never_shown(valkey_url: str, stream_name: str) -> None:
    with user(valkey_url, "cli-locked", ">secret", "~*", "+@all"):
        said = mainstem("publish", stream_name, "--data", "1", url=valkey_url.replace("://", "://cli-locked:wr0ng@"))
    assert said.code == 6
    assert "wr0ng" not in one_line(said)


def test_a_user_who_may_not_write_is_denied(valkey_url: str, stream_name: str) -> None:
    fine("publish", stream_name, "--data", "1", url=valkey_url)
    with user(valkey_url, "cli-reader", ">secret", "~*", "+@all", "-@write"):
        said = mainstem("publish", stream_name, "--data", "2", url=valkey_url.replace("://", "://cli-reader:secret@"))
    assert said.code == 6, said
    assert data(stream_name, valkey_url) == [1]


def test_a_lost_reply_is_an_unknown_outcome(valkey_url: str, stream_name: str) -> None:
    fine("publish", stream_name, "--data", "0", url=valkey_url)
    with cutting_proxy(valkey_url, b"lost-reply") as url:
        said = mainstem("publish", stream_name, "-o", "json", stdin='"lost-reply"\n', url=url)
    assert said.code == 4, said
    assert (said.json["published"], said.json["unknown"]) == (0, 1)
    assert "Line 1 is the first that is not certainly published" in said.err
    assert data(stream_name, valkey_url) in ([0], [0, "lost-reply"])


@contextmanager
def user(url: str, name: str, *rules: str) -> Iterator[None]:
    with redis.Redis.from_url(url) as admin:
        admin.execute_command("ACL", "SETUSER", name, "reset", "on", *rules)
        try:
            yield
        finally:
            admin.execute_command("ACL", "DELUSER", name)


@contextmanager
def cutting_proxy(url: str, mark: bytes) -> Iterator[str]:
    """A way to the server that passes everything on until `mark` was sent, then is cut before the reply."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        done = threading.Event()
        threads = [threading.Thread(target=_accept, args=(listener, port, mark, done))]
        threads[0].start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        finally:
            done.set()
            threads[0].join(5)


def _accept(listener: socket.socket, port: int, mark: bytes, done: threading.Event) -> None:
    passing: list[threading.Thread] = []
    cut = threading.Event()
    while not done.is_set():
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        if cut.is_set():
            client.close()
            continue
        server = socket.create_connection(("127.0.0.1", port))
        for source, target, watched in ((client, server, mark), (server, client, b"")):
            passing.append(threading.Thread(target=_pass, args=(source, target, watched, cut, (client, server))))
            passing[-1].start()
    for thread in passing:
        thread.join(5)


def _pass(
    source: socket.socket,
    target: socket.socket,
    mark: bytes,
    cut: threading.Event,
    both: tuple[socket.socket, socket.socket],
) -> None:
    try:
        while chunk := source.recv(65536):
            if mark and mark in chunk:
                cut.set()
                break
            target.sendall(chunk)
    except OSError:
        pass
    for each in both:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_said_is_what_was_said() -> None:
    assert Said(0, '{"a": 1}\n', "").rows == [{"a": 1}]
