"""
One measured program: the process that `runner` starts for each side of a comparison, and what it is told and answers.

`python -m mainstem.bench.program NAME JOB` runs one function of `PROGRAMS` in a clean interpreter and prints lines of
JSON: `{"ready": true}` once it is prepared, then its figures.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
import time
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

import msgspec

PROGRAMS = {
    "limit": "limit:publish",
    "raw.consume": "limit:consume",
    "redis.awaiting": "peer_redis:awaiting",
    "redis.consume": "peer_redis:consume",
    "redis.producer": "peer_redis:producer",
    "redis.consumer": "peer_redis:consumer",
    "redis.ticker": "peer_redis:ticker",
    "redis.listener": "peer_redis:listener",
    "faststream.producer": "peer_faststream:producer",
    "faststream.typed": "peer_faststream:typed_batches",
    "faststream.bare": "peer_faststream:bare_batches",
    "faststream.single": "peer_faststream:one_by_one",
    "faststream.ticker": "peer_faststream:ticker",
    "faststream.listener": "peer_faststream:listener",
    "ours.publish": "ours:publish",
    "ours.awaiting": "ours:awaiting",
    "ours.consume": "ours:consume",
    "ours.producer": "ours:producer",
    "ours.consumer": "ours:consumer",
    "ours.queue.consumer": "ours:queue_consumer",
    "ours.keyed.producer": "ours:keyed_producer",
    "ours.keyed.consumer": "ours:keyed_consumer",
    "ours.ticker": "ours:ticker",
    "ours.listener": "ours:listener",
    "ours.memory": "growth:memory",
    "ours.entries": "growth:entries",
    "ours.streams": "growth:streams",
}


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a program is asked to do. `rate`: events a second, where a pace is kept; `size`: what must not matter."""

    url: str
    stream: str
    count: int
    rate: int = 1000
    size: int = 0

    def ready(self) -> None:
        """Tell the runner that everything is prepared: the next role may start."""
        say({"ready": True})


class Clock:
    """From `start` to `stop`, on the clock that all processes of a machine share, and the processor time between."""

    def __init__(self, events: int) -> None:
        self._events = events
        self.started = 0.0
        self._cpu = 0.0

    def start(self) -> None:
        """Begin; what was made before is put out of the collector's sight, for us and for peers alike."""
        settle_memory()
        self._cpu = time.process_time()
        self.started = time.monotonic()

    def stop(self) -> dict[str, float]:
        """The figures of a program that begins and ends its work by itself."""
        ended, cpu = time.monotonic(), time.process_time() - self._cpu
        took = ended - self.started
        return {"events": self._events, "rate": self._events / took, "cpu_us": cpu / self._events * 1e6}


def settle_memory() -> None:
    """Before the clock starts, in every program alike: collect, freeze, and collect rarely from then on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def quantiles(samples: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds of latencies in seconds; the first tenth is warming up."""
    kept = sorted(samples[len(samples) // 10 :])
    return {
        "p50_ms": kept[len(kept) // 2] * 1000,
        "p99_ms": kept[min(len(kept) - 1, int(len(kept) * 0.99))] * 1000,
        "samples": float(len(kept)),
    }


def loop_name() -> str:
    """The event loop that every program uses."""
    return "uvloop" if find_spec("uvloop") else "asyncio"


def say(message: dict[str, Any]) -> None:
    """Answer the runner with one line."""
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


def main(name: str, job: str) -> None:
    """Run one program to its end."""
    module, _, function = PROGRAMS[name].partition(":")
    work: Callable[[Job], Any] = getattr(importlib.import_module(f"mainstem.bench.{module}"), function)
    outcome = work(msgspec.json.decode(job, type=Job))
    say({"figures": _run(outcome) if asyncio.iscoroutine(outcome) else outcome})


def _run(work: Coroutine[Any, Any, dict[str, float]]) -> dict[str, float]:
    factory = importlib.import_module("uvloop").new_event_loop if loop_name() == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
