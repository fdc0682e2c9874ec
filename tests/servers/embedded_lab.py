"""What the tests of the embedded server share: programs that use it, and looking at processes from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mainstem.servers import resp
from mainstem.servers.embedded import Running
from mainstem.servers.folder import Folder

# Ensures the server, says "address pid started", then adds numbered entries, saying each one once it is acknowledged.
WRITER = """
import os, sys, time
from pathlib import Path
from mainstem.servers.embedded import ensure_sync
import redis
running = ensure_sync(Path(sys.argv[1]), idle=float(sys.argv[2]), fsync=sys.argv[3])
print(running.address, running.pid, running.started_by_us, flush=True)
client = redis.Redis(unix_socket_path=running.address, retry=None, socket_timeout=5)
number = 0
while number < int(sys.argv[4]):
    client.xadd("written", {"n": f"{os.getpid()}-{number}"})
    print(f"{os.getpid()}-{number}", flush=True)
    number += 1
client.ping()
print("done", flush=True)
sys.stdin.read()
"""


def run(code: str, *words: object, **options: object) -> subprocess.Popen[str]:
    """A Python process of our own, with a pipe each way."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def writer(folder: Path, *, idle: float = 30, fsync: str = "everysec", count: int = 1 << 30) -> subprocess.Popen[str]:
    return run(WRITER, folder, idle, fsync, count)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, "the process ended without a word"
    return line


def end(process: subprocess.Popen[str]) -> list[str]:
    """Kill -9, and return the whole lines that it had still said."""
    process.kill()
    assert process.stdout is not None
    assert process.stdin is not None
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    process.stdin.close()
    return rest[: rest.rfind("\n") + 1].splitlines()


def until(condition: Callable[[], object], *, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which only waits for its parent to notice, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def keeper_of(folder: Path) -> int:
    return int(Folder(folder).keeper_lock.read_text())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid))


def entries(running: Running, stream: str = "written") -> list[str]:
    """The ``n`` field of every entry, in order."""
    reply = resp.call(running.address, ("XRANGE", stream, "-", "+"), timeout=10)[0]
    assert isinstance(reply, list)
    return [entry[1][1].decode() for entry in reply]  # type: ignore[index, union-attr]


def add(running: Running, numbers: Sequence[int], stream: str = "written") -> None:
    commands = [("XADD", stream, "*", "n", str(number)) for number in numbers]
    for reply in resp.call(running.address, *commands, timeout=10):
        assert isinstance(reply, bytes), reply


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor of a process leads to."""
    found: dict[int, str] = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except FileNotFoundError:
            continue
    return found
