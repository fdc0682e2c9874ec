"""Servers in trouble, met by a command: one line, the right exit code, nothing lost."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cli.cli_lab import COMMAND, environment, fine, mainstem, ndjson, one_line, running
from mainstem.servers import embedded
from servers_for_tests import TlsServer, serving, valkey_binary


@pytest.fixture
def own_url(short_root: Path, stream_name: str) -> Iterator[str]:
    """A server of this test alone, to be broken."""
    folder = short_root / stream_name
    folder.mkdir()
    with serving(valkey_binary(), folder) as port:
        yield f"redis://127.0.0.1:{port}/0"


def test_a_server_out_of_memory(own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_PUBLISH_DEADLINE", "1")
    fine("publish", "orders", "--data", "1", url=own_url)
    with redis.Redis.from_url(own_url) as admin:
        admin.config_set("maxmemory", "1")
    said = mainstem("publish", "orders", "--data", "2", url=own_url)
    assert said.code == 3, said
    assert "memory" in one_line(said)
    assert [row["data"] for row in fine("tail", "orders", "-F", url=own_url).rows] == [1]


def test_a_server_that_became_a_replica(own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_PUBLISH_DEADLINE", "1")
    fine("publish", "orders", "--data", "1", url=own_url)
    with redis.Redis.from_url(own_url) as admin:
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    said = mainstem("publish", "orders", "-o", "json", stdin="2\n", url=own_url)
    assert said.code in (2, 3), said
    assert said.out == "" or said.json["published"] == 0
    found = {row["about"]: row["verdict"] for row in mainstem("doctor", "-o", "json", url=own_url).json}
    assert found["role"] == "bad"


def test_a_certificate_of_an_unknown_authority(redis_tls: TlsServer) -> None:
    fine("ls", "--url", f"{redis_tls.url}?ssl_ca_certs={redis_tls.ca_file}")
    said = mainstem("ls", "--url", f"{redis_tls.url}?ssl_ca_certs={redis_tls.other_ca_file}")
    assert said.code in (2, 3), said
    assert "certificate" in one_line(said)


def test_tail_goes_on_when_its_server_is_back(shop: Path) -> None:
    fine("publish", "orders", "--data", "1")
    with running("tail", "orders", "--from", "beginning") as it:
        it.until('"data":1,')
        embedded.stop(shop / ".mainstem")
        fine("publish", "orders", "--data", "2")
        it.until('"data":2,')
        it.signal(signal.SIGINT)
        assert it.ended() == 130
    assert [line.count('"data":') for line in it.out] == [1, 1]


def test_people_get_a_table_and_a_progress_bar(valkey_url: str, stream_name: str, tmp_path: Path) -> None:
    file = tmp_path / "many.ndjson"
    file.write_text(ndjson(*range(30_000)))
    code, shown = on_terminal("publish", stream_name, str(file), url=valkey_url)
    assert code == 0
    assert "━" in shown
    assert f"{stream_name}: 30,000 published" in shown
    code, shown = on_terminal("tail", stream_name, "-F", "-n", "1", url=valkey_url)
    assert code == 0
    assert shown.splitlines()[0].startswith("\x1b[1mTIME")
    said = fine("publish", stream_name, file, url=valkey_url)
    assert "━" not in said.out + said.err


def on_terminal(*words: str, url: str) -> tuple[int, str]:
    """Run a command whose stdout and stderr are a terminal; its exit code and all that was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment(url)
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:
        pass  # how Linux tells that the other side of a terminal was closed
    os.close(ours)
    return process.wait(15), shown.decode()
