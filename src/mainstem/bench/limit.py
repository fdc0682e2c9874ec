"""
What the server itself can do: redis-benchmark (or our own C-speed stand-in), and a client that only reads and parses.

No library under comparison is used here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time

from mainstem.bench import payload
from mainstem.bench.program import Clock, Job
from mainstem.bench.raw import RawLink, command, preload
from mainstem.engines.redis import address
from mainstem.errors import MainstemError

PIPELINE = 100
_READ = 200


def tool() -> str | None:
    """The benchmark program of the server's makers, where it is installed."""
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


def describe() -> str:
    """Which limit is measured, for the settings."""
    found = tool()
    if found is None:
        return f"a preencoded pipeline of {PIPELINE} over a blocking socket, hiredis counting (no redis-benchmark here)"
    return f"{found.rsplit('/', 1)[-1]} -c 1 -P {PIPELINE}"


def publish(job: Job) -> dict[str, float]:
    """XADD of the one event, as fast as one connection can."""
    program = tool()
    return _by_tool(program, job) if program else _by_hand(job)


def consume(job: Job) -> dict[str, float]:
    """Read, parse and acknowledge a preloaded stream, and do nothing with it."""
    with RawLink(job.url) as link:
        preload(link, [job.stream], job.count)
        link.call("XGROUP", "CREATE", job.stream, "raw", "0")
        clock = Clock(job.count)
        clock.start()
        left = job.count
        while left:
            ((_, entries),) = link.call(
                "XREADGROUP", "GROUP", "raw", "one", "COUNT", str(_READ), "STREAMS", job.stream, ">"
            )
            link.call("XACK", job.stream, "raw", *[entry[0] for entry in entries])
            left -= len(entries)
        return clock.stop()


def _by_tool(program: str, job: Job) -> dict[str, float]:
    place = address.parse(job.url)
    where = ["-s", place.path] if place.path else ["-h", place.host, "-p", str(place.port)]
    login = (["--user", place.username] if place.username else []) + (["-a", place.password] if place.password else [])
    fields = [part.decode() for part in payload.flat(payload.entry(0))]
    options = ["-n", str(job.count), "-P", str(PIPELINE), "-c", "1", "-q", "--dbnum", str(place.db)]
    words = [program, *where, *login, *options, "XADD", job.stream, "*", *fields]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    rates = re.findall(r"([\d.]+) requests per second", done.stdout)
    if not rates:
        raise MainstemError(f"{program} gave no rate (exit {done.returncode}): {(done.stderr or done.stdout)[-200:]}")
    return {"events": float(job.count), "rate": float(rates[-1])}


def _by_hand(job: Job) -> dict[str, float]:
    batch = command("XADD", job.stream, "*", *payload.flat(payload.entry(0))) * PIPELINE
    rounds = max(1, job.count // PIPELINE)
    with RawLink(job.url) as link:
        started = time.monotonic()
        for _ in range(rounds):
            link.send(batch)
            link.replies(PIPELINE)
        took = time.monotonic() - started
    return {"events": float(rounds * PIPELINE), "rate": rounds * PIPELINE / took}
