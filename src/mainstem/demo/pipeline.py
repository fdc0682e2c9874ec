"""
The demo's app: four typed streams, two groups, three handlers. Read it as an example of an app.

Nothing here knows that the events are checked: `worker` wraps the handlers to report what they did.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass

import msgspec

from mainstem.app import Mainstem
from mainstem.event import Metadata, Received
from mainstem.stream import EventStream

GROUPS = ("signals", "alerts")
LEASE = "3s"  # short, so that a killed worker's share moves to the other one while you look
KEPT_TICKS = 400_000  # of 16 partitions: even a single symbol's share of it is more than the feed lets wait
KEPT_OTHERS = 400_000

MEMORY = 0.02  # weight of a new price in a symbol's average
MOVE = 0.08  # away from its average that a symbol must be for a signal
CALM = 0.04  # and how near it must come again before there is another
GAP = 0.06  # between a close and the next open
LOUD = 0.10  # of a signal that becomes an alert


class Bar(msgspec.Struct, frozen=True):
    """A real bar, as the exchange or the user's file has it."""

    symbol: str
    open: float
    high: float
    low: float
    close: float
    volume: float


class Tick(msgspec.Struct, frozen=True):
    """One price: real in a user's file of prices, synthetic between the real prices of a bar."""

    symbol: str
    price: float


class Signal(msgspec.Struct, frozen=True):
    """A symbol moved."""

    symbol: str
    why: str  # "momentum" or "gap"
    move: float  # 0.1 is 10 % up
    price: float
    day: dt.date
    made_ns: int  # see Job


class Alert(msgspec.Struct, frozen=True):
    """A move that a person should see."""

    symbol: str
    text: str
    day: dt.date


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What all processes of one run share.

    Latencies are differences of `time.monotonic_ns()`, taken by the publisher and by the worker: on Linux and macOS
    that clock is one for all processes of a machine, and unlike the wall clock nobody sets it. So the feed and the
    workers run on one machine, wherever the server is.
    """

    url: str
    run: str  # marks the events of this run: others may use the same streams at the same time

    def group(self, name: str) -> str:
        """Groups of this run alone, so that every run sees all its events, and only them."""
        return f"{name}-{self.run}"

    def metadata(self, *, synthetic: bool, sent_ns: int) -> Metadata:
        """Beside every event, and beside what handlers make of it."""
        return Metadata(extensions={"run": self.run, "synthetic": synthetic, "sentns": sent_ns})


@dataclass(frozen=True, slots=True)
class Streams:
    bars: EventStream[Bar]
    ticks: EventStream[Tick]
    signals: EventStream[Signal]
    alerts: EventStream[Alert]


def streams(app: Mainstem) -> Streams:
    """Declare the streams: bars and ticks in order per symbol, signals and alerts for whoever comes first."""
    return Streams(
        bars=app.stream("demo.bars", Bar, key=lambda bar: bar.symbol, partitions=16, max_events=KEPT_OTHERS),
        ticks=app.stream("demo.ticks", Tick, key=lambda tick: tick.symbol, partitions=16, max_events=KEPT_TICKS),
        signals=app.stream("demo.signals", Signal, max_events=KEPT_OTHERS),
        alerts=app.stream("demo.alerts", Alert, max_events=KEPT_OTHERS),
    )


def subscribe(app: Mainstem, job: Job) -> None:
    """Declare the handlers. What they remember is a worker's own: a symbol that moves to another starts afresh."""
    to = streams(app)
    averages: dict[str, float] = {}
    told: set[str] = set()
    closes: dict[str, float] = {}

    @app.subscribe(to.ticks, group=job.group("signals"), to=to.signals, lease=LEASE)
    async def momentum(event: Received[Tick]) -> Signal | None:
        symbol, price = event.data.symbol, event.data.price
        average = averages.get(symbol, price)
        averages[symbol] = average + (price - average) * MEMORY
        move = price / average - 1
        if abs(move) < CALM:
            told.discard(symbol)
        if abs(move) < MOVE or symbol in told:
            return None
        told.add(symbol)
        return Signal(symbol, "momentum", move, price, event.time.date(), time.monotonic_ns())

    @app.subscribe(to.bars, group=job.group("signals"), to=to.signals, lease=LEASE)
    async def gap(event: Received[Bar]) -> Signal | None:
        bar = event.data
        before = closes.get(bar.symbol, bar.open)
        closes[bar.symbol] = bar.close
        move = bar.open / before - 1
        if abs(move) < GAP:
            return None
        return Signal(bar.symbol, "gap", move, bar.open, event.time.date(), time.monotonic_ns())

    @app.subscribe(to.signals, group=job.group("alerts"), to=to.alerts, concurrency=8, lease=LEASE)
    async def alert(event: Received[Signal]) -> Alert | None:
        signal = event.data
        if abs(signal.move) < LOUD:
            return None
        return Alert(signal.symbol, _told(signal), signal.day)


def _told(signal: Signal) -> str:
    percent = f"{signal.move * 100:+.0f} %"
    if signal.why == "momentum":
        return f"{percent} against its average, at {signal.price:.2f}"
    split = ", a split?" if signal.move < -0.3 else ""
    return f"opened {percent} from the last close, at {signal.price:.2f}{split}"
