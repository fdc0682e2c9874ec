"""
Showing the demo's run: a live view for a terminal, lines of progress for everything else. Snapshots in, text out.
"""

from __future__ import annotations

import sys
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mainstem.demo.snapshot import GroupLine, Snapshot, SymbolLine

FIGURES = 2.0  # seconds between two lines of figures
ROOMY = 34  # lines of a terminal that has room for all
LOW_ALERTS = 3
BLOCKS = "▁▂▃▄▅▆▇█"


class Display(Protocol):
    """Something that shows snapshots, one each `every` seconds."""

    every: float

    def show(self, snapshot: Snapshot) -> None: ...
    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


class Terminal:
    """The live view."""

    every = 0.25

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(screen(snapshot, self._console.height), refresh=True)

    def close(self) -> None:
        self._live.stop()


class Progress:
    """A line on stderr for each new phase and message, and one of figures now and then."""

    every = 0.25

    def __init__(self) -> None:
        self._phase = ""
        self._message = ""
        self._told = 0.0

    def show(self, snapshot: Snapshot) -> None:
        if not self._phase:
            _say(f"{snapshot.source}; {snapshot.synthetic}")
        if snapshot.phase != self._phase:
            self._phase = snapshot.phase
            _say(snapshot.phase)
        if snapshot.message != self._message:
            self._message = snapshot.message
            _say(snapshot.message)
        if snapshot.seconds >= self._told + FIGURES:
            self._told = snapshot.seconds
            _say(_progress(snapshot))

    def close(self) -> None:
        """Nothing to leave."""


def screen(snapshot: Snapshot, height: int) -> RenderableType:
    """The whole view, in so many lines: a low terminal has no blank ones, and fewer alerts."""
    parts = [_head(snapshot), _feed(snapshot), _groups(snapshot), _symbols(snapshot)]
    parts += [_alerts(snapshot, LOW_ALERTS if height < ROOMY else len(snapshot.alerts)), _workers(snapshot)]
    if height >= ROOMY:
        parts = [spaced for part in parts for spaced in (part, Text())]
    parts.append(Text(snapshot.message, "red", overflow="ellipsis", no_wrap=True))
    title = f"[bold]mainstem demo[/] · {snapshot.phase}"
    return Panel(Group(*parts), title=title, subtitle="Ctrl-C ends with a report")


def sparkline(prices: tuple[float, ...]) -> str:
    """Prices as blocks, from the lowest to the highest of them."""
    if not prices:
        return ""
    low, high = min(prices), max(prices)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((price - low) * scale)] for price in prices)


def _head(snapshot: Snapshot) -> RenderableType:
    return Group(
        Text.assemble((snapshot.engine, "bold cyan"), "  ", snapshot.guarantee),
        Text(f"replaying {snapshot.source}" + (f", lap {snapshot.lap}" if snapshot.lap > 1 else "")),
        Text(snapshot.synthetic, "yellow"),
    )


def _feed(snapshot: Snapshot) -> RenderableType:
    return Text.assemble(
        "published ", (f"{snapshot.published:,}", "bold"), f" in {snapshot.seconds:.0f} s, now ",
        (f"{snapshot.rate:,.0f}", "bold"), f" events/s (asked {snapshot.asked:,.0f})",
    )  # fmt: skip


def _groups(snapshot: Snapshot) -> RenderableType:
    table = _table("group", "reads", "handled", "events/s", "lag", "oldest", "p50", "p99")
    for group in snapshot.groups:
        lag = "?" if group.lag is None else f"{group.lag:,}"
        latency = (f"{group.p50_ms:.2f} ms", f"{group.p99_ms:.2f} ms") if group.rate else ("–", "–")
        counts = (f"{group.handled:,}", f"{group.rate:,.0f}", lag, f"{group.lag_seconds:.1f} s")
        table.add_row(group.name, group.reads, *counts, *latency)
    return table


def _symbols(snapshot: Snapshot) -> RenderableType:
    table = _table("symbol", "day", "price", "", left=("day", ""))
    for line in snapshot.symbols:
        table.add_row(line.symbol, line.day, f"{line.price:,.2f}", _spark(line))
    return table


def _spark(line: SymbolLine) -> Text:
    up = len(line.prices) < 2 or line.prices[-1] >= line.prices[0]
    return Text(sparkline(line.prices), "green" if up else "red")


def _alerts(snapshot: Snapshot, most: int) -> RenderableType:
    lines = [Text(f"  {text}", overflow="ellipsis", no_wrap=True) for text in snapshot.alerts[:most]]
    return Group(Text("last alerts", "bold"), *(lines or [Text("  none yet")]))


def _workers(snapshot: Snapshot) -> RenderableType:
    told = Text("workers ", "bold")
    for worker in snapshot.workers:
        pid = Text(f"{worker.pid}", "cyan") if worker.pid else Text("–", "yellow")
        told += Text.assemble(pid, f" (died {worker.deaths}×)" if worker.deaths else "", "  ")
    return told + Text("try kill -9 on one: nothing is lost", "dim")


def _table(*columns: str, left: tuple[str, ...] = ("reads",)) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 or column in left else "right", no_wrap=True)
    return table


def _progress(snapshot: Snapshot) -> str:
    groups = "; ".join(_short(group) for group in snapshot.groups)
    return f"{snapshot.seconds:5.1f} s  {snapshot.published:,} published; {groups}"


def _short(group: GroupLine) -> str:
    lag = "?" if group.lag is None else f"{group.lag:,}"
    return f"{group.name}: {group.handled:,} handled, lag {lag}, p99 {group.p99_ms:.2f} ms"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
