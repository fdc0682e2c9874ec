"""
The server that is measured: one of our own on loopback with a folder that is thrown away, or the one the user names.

Starts, empties and observes it; measures nothing itself. On a user's server only streams of this run are touched.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mainstem.bench.raw import RawLink, info
from mainstem.engines.redis import address
from mainstem.engines.redis.layout import STREAMS_KEY
from mainstem.errors import Unavailable
from mainstem.servers.binary import find_binary

START_WITHIN = 10.0
_AOF_LIMIT = 1 << 30
_AOF = ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")  # none amid a run
_OPTIONS = ("--bind", "127.0.0.1", "--save", "", *_AOF)


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server has spent so far; `aof_bytes` is None where it writes no append-only file."""

    cpu_seconds: float
    aof_bytes: int | None


class BenchServer:
    """Where to measure. `token` is part of every stream name of this run."""

    def __init__(self, url: str, token: str, *, own: bool) -> None:
        self.url = url
        self.token = token
        self.own = own

    def cost(self) -> Cost:
        """Read the counters of processor time and of the append-only file."""
        with RawLink(self.url) as link:
            cpu = info(link, "cpu")
            aof = info(link, "persistence").get("aof_current_size")
        spent = float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])
        return Cost(spent, int(aof) if aof else None)

    def clear(self) -> None:
        """Remove what this run has stored; waits until that is done."""
        with RawLink(self.url) as link:
            if self.own:
                link.call("FLUSHALL", "SYNC")
                self._shorten_aof(link)
            else:
                self._remove_ours(link)

    def settings(self) -> dict[str, object]:
        """What the server is, for the report."""
        with RawLink(self.url) as link:
            about = info(link, "server")
            fsync = link.call("CONFIG", "GET", "appendfsync", "appendonly")
        words = [word.decode() for word in fsync]
        aof = dict(zip(words[::2], words[1::2], strict=True))
        name = "Valkey" if "valkey_version" in about else "Redis"
        version = about.get("valkey_version") or about["redis_version"]
        return {
            "server": f"{name} {version}, {'our own, ' if self.own else ''}{address.parse(self.url).redacted()}",
            "appendonly": aof.get("appendonly", "?"),
            "appendfsync": aof.get("appendfsync", "?"),
        }

    def _remove_ours(self, link: RawLink) -> None:
        cursor = "0"
        while True:
            cursor, keys = link.call("SCAN", cursor, "MATCH", f"*{self.token}*", "COUNT", "1000")
            if keys:
                link.call("UNLINK", *keys)
            if cursor == b"0":
                break
        specs = [name for name in link.call("HKEYS", STREAMS_KEY) if self.token.encode() in name]
        if specs:
            link.call("HDEL", STREAMS_KEY, *specs)

    def _shorten_aof(self, link: RawLink) -> None:
        if int(info(link, "persistence").get("aof_current_size", "0")) < _AOF_LIMIT:
            return
        link.call("BGREWRITEAOF")
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            state = info(link, "persistence")
            if state.get("aof_rewrite_in_progress") == "0" and state.get("aof_rewrite_scheduled") == "0":
                return
            time.sleep(0.02)


@contextmanager
def bench_server(url: str | None) -> Generator[BenchServer, None, None]:
    """The named server, or one of our own that ends with the block. Raises Unavailable when it does not answer."""
    token = f"bench-{os.getpid()}-{time.time_ns() // 1_000_000:x}"
    if url:
        with _reached(url):
            yield BenchServer(url, token, own=False)
        return
    folder = Path(tempfile.mkdtemp(prefix="mainstem-bench-"))
    try:
        with _started(folder) as address_:
            yield BenchServer(address_, token, own=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def on_two_cores() -> Generator[str, None, None]:
    """Children started inside run on the first two cores of this machine, where the system allows to say so."""
    if not hasattr(os, "sched_setaffinity"):
        yield f"not pinned, {os.cpu_count()} cores"
        return
    allowed = os.sched_getaffinity(0)
    chosen = sorted(allowed)[:2]
    os.sched_setaffinity(0, chosen)
    try:
        yield ", ".join(map(str, chosen)) + f" of {len(allowed)}"
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _reached(url: str) -> Generator[None, None, None]:
    try:
        with RawLink(url) as link:
            link.call("PING")
    except OSError as error:
        raise Unavailable(f"no server answers at {address.parse(url).redacted()} ({error}): start it first.") from error
    yield


@contextmanager
def _started(folder: Path) -> Generator[str, None, None]:
    port = _free_port()
    url = f"redis://127.0.0.1:{port}/0"
    words = [find_binary(), "--port", str(port), "--dir", str(folder), *_OPTIONS]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_it_answers(url, server, folder / "log")
        yield url
    finally:
        server.kill()  # nothing in it is to be kept
        server.wait()


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_WITHIN
    while time.monotonic() < give_up and server.poll() is None:
        try:
            with RawLink(url) as link:
                link.call("PING")
                return
        except OSError:
            time.sleep(0.01)
    tail = log.read_text(errors="replace")[-300:]
    raise Unavailable(f"the server for the benchmark did not start; its log ends with: {tail}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
