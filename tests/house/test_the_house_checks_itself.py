"""The tools every other test leans on, tried against what they must catch."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import redis

import leaks
from servers_for_tests import TlsServer
from waiting import wait_blocking, wait_until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "GRACE", 0.05)


@pytest.mark.usefixtures("impatient")
def test_a_child_process_left_behind_is_found_and_ended(tmp_path: Path) -> None:
    before = leaks.snapshot()
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    found = leaks.leaked_since(before, (tmp_path,))
    assert [line.split(":")[0] for line in found] == [f"process {child.pid}"]
    assert child.wait(5) == -9
    assert child.stdin is not None
    child.stdin.close()


@pytest.mark.usefixtures("impatient")
def test_a_detached_process_left_behind_is_found_and_ended(tmp_path: Path) -> None:
    before = leaks.snapshot()
    detach = (
        "import subprocess as s; n = s.DEVNULL; "
        "print(s.Popen(['sleep', '60'], start_new_session=True, stdin=n, stdout=n, stderr=n).pid)"
    )
    told = subprocess.run([sys.executable, "-c", detach], capture_output=True, text=True, check=True)
    found = leaks.leaked_since(before, (tmp_path,))
    assert [line.split(":")[0] for line in found] == [f"process {told.stdout.strip()}"]


@pytest.mark.usefixtures("impatient")
def test_an_open_connection_and_a_listener_are_found(tmp_path: Path) -> None:
    before = leaks.snapshot()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        assert len(leaks.leaked_since(before, (tmp_path,))) == 2
    assert leaks.leaked_since(before, (tmp_path,)) == []


@pytest.mark.usefixtures("impatient")
def test_an_open_connection_to_a_unix_socket_is_found(project: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(project / "s"))
        listener.listen()
        before = leaks.snapshot()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(project / "s"))
            assert len(leaks.leaked_since(before, (project,))) == 1


@pytest.mark.usefixtures("impatient")
def test_a_thread_left_behind_is_found(tmp_path: Path) -> None:
    before, end = leaks.snapshot(), threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    thread.start()
    assert leaks.leaked_since(before, (tmp_path,)) == ["thread forgotten"]
    end.set()
    thread.join()


@pytest.mark.usefixtures("impatient")
async def test_a_task_left_behind_is_found() -> None:
    before, end = frozenset(asyncio.all_tasks()), asyncio.Event()
    task = asyncio.create_task(end.wait(), name="forgotten")
    (found,) = await leaks.leaked_tasks(before)
    assert found.startswith("task forgotten")
    end.set()
    assert await task


async def test_waiting_ends_at_its_deadline_and_tells_the_last_value() -> None:
    with pytest.raises(AssertionError, match=r"not true after 0\.05 s: .* is still 0"):
        await wait_until(lambda: 0, timeout=0.05)
    with pytest.raises(AssertionError, match="still"):
        wait_blocking(lambda: 0, timeout=0.05)
    values = iter([0, 0, 7])
    assert await wait_until(lambda: next(values)) == 7


def test_redis_7_is_there(redis7_url: str) -> None:
    with redis.Redis.from_url(redis7_url) as client:
        assert client.info("server")["redis_version"].startswith("7.")


def test_valkey_is_there(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        assert client.info("server")["server_name"] == "valkey"


def test_redis_with_tls_is_there_and_checked(redis_tls: TlsServer) -> None:
    with redis.Redis.from_url(redis_tls.url, ssl_ca_certs=redis_tls.ca_file) as client:
        assert client.ping()
    with redis.Redis.from_url(redis_tls.url, ssl_ca_certs=redis_tls.other_ca_file) as client:
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            client.ping()
