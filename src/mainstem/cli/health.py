"""`mainstem health`: how streams and their groups stand now, with what is wrong in colour."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from mainstem.cli import exits
from mainstem.cli.connecting import opened
from mainstem.cli.options import Format
from mainstem.cli.printing import Column, Row, age, as_json, console, say, table, write_rows, write_text
from mainstem.errors import ConfigError, Unavailable
from mainstem.names import seconds, stream_glob
from mainstem.observability.monitor import StreamMetrics, StreamMonitor

WORRYING = 60.0  # seconds behind that are shown in yellow

COLUMNS = (
    Column("stream"),
    Column("events"),
    Column("rate", "in/s"),
    Column("group"),
    Column("lag", style=lambda row: _alarm(row, "lag")),
    Column("lag_seconds", "behind", age, style=lambda row: "yellow" if (row["lag_seconds"] or 0) > WORRYING else ""),
    Column("pending"),
    Column("members", style=lambda row: "yellow" if row["members"] == 0 and row["lag"] else ""),
    Column("handled_per_second", "out/s"),
    Column(
        "error_rate",
        "errors",
        lambda rate: "-" if rate is None else f"{rate:.1%}",
        style=lambda row: _red(row, "error_rate"),
    ),
    Column("dead", style=lambda row: "yellow" if row["dead"] else ""),
    Column("lost", style=lambda row: _red(row, "lost")),
)


async def health(glob: str, max_lag: int | None, url: str | None, output: Format) -> int:
    """One look; returns 1 when something is lost, or behind by more than `max_lag` events."""
    async with opened(url) as app:
        found = await StreamMonitor(app).get_all(stream_glob(glob))
    if not found and not set(glob) & set("*?"):
        raise ConfigError(f"there is no stream {glob!r}: `mainstem ls` lists what there is.")
    _write(found, max_lag, output, glob)
    wrong = troubles(found, max_lag)
    for trouble in wrong:
        say(trouble)
    return exits.FAILED if wrong else exits.OK


async def watch(glob: str, max_lag: int | None, every: str, url: str | None, output: Format) -> None:
    """Look again and again until Ctrl-C; a server that is away is waited for."""
    pause = max(seconds(every, "--every"), 0.1)
    async with opened(url) as app:
        monitor = StreamMonitor(app)
        if output == "table" and sys.stdout.isatty():
            await _live(monitor, stream_glob(glob), max_lag, pause)
        while True:
            try:
                _write(await monitor.get_all(stream_glob(glob)), max_lag, output, glob)
            except Unavailable as error:
                say(str(error))
            sys.stdout.flush()
            await asyncio.sleep(pause)


def troubles(found: Sequence[StreamMetrics], max_lag: int | None) -> list[str]:
    """What is wrong, a sentence each. A lag that the server cannot tell counts as over the limit."""
    wrong: list[str] = []
    for stream in found:
        for group in stream.groups:
            name = f"group {group.group!r} of {stream.stream_name!r}"
            if group.lost:
                wrong.append(f"{name} lost {group.lost:,} events to retention: keep events longer (mainstem alter).")
            if max_lag is not None and (group.lag is None or group.lag > max_lag):
                lag = "an unknown number of" if group.lag is None else f"{group.lag:,}"
                wrong.append(f"{name} is {lag} events behind, over --max-lag {max_lag:,}: add workers.")
    return wrong


async def _live(monitor: StreamMonitor, glob: str, max_lag: int | None, pause: float) -> None:
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, screen=False) as live:
        while True:
            try:
                rows = [row for stream in await monitor.get_all(glob) for row in rows_of(stream, max_lag)]
                live.update(table(rows, COLUMNS) if rows else f"no stream matches {glob!r}", refresh=True)
            except Unavailable as error:
                live.update(str(error), refresh=True)
            await asyncio.sleep(pause)


def _write(found: Sequence[StreamMetrics], max_lag: int | None, output: Format, glob: str) -> None:
    if output == "json":
        write_text(as_json([msgspec.to_builtins(stream) for stream in found], indent=2))
        return
    if output == "ndjson":
        for stream in found:
            write_text(as_json(msgspec.to_builtins(stream)))
        return
    rows = [row for stream in found for row in rows_of(stream, max_lag)]
    write_rows(rows, COLUMNS, output, empty=f"no stream matches {glob!r}.")


def rows_of(stream: StreamMetrics, max_lag: int | None) -> list[dict[str, Any]]:
    """A row a group; a stream without groups has one too."""
    fields = ("group", "lag", "lag_seconds", "pending", "members", "handled_per_second", "error_rate", "dead", "lost")
    head = {"stream": stream.stream_name, "events": stream.message_count, "rate": stream.throughput_per_second}
    if not stream.groups:
        return [{**head, **dict.fromkeys(fields), "max_lag": max_lag}]
    return [
        {**head, **{field: getattr(group, field) for field in fields}, "max_lag": max_lag} for group in stream.groups
    ]


def _alarm(row: Row, field: str) -> str:
    limit = row["max_lag"]
    return "bold red" if limit is not None and row[field] is not None and row[field] > limit else ""


def _red(row: Row, field: str) -> str:
    return "bold red" if row[field] else ""
