"""
From rows to an endless feed. Bars become ticks along open, low, high, close, and then themselves; pure and repeatable.

Ticks made here are synthetic and say so: the four prices of a bar are real, when they occurred and what lies between
them is not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise, zip_longest

from mainstem.demo.market import DailyBar, Market, Trade
from mainstem.demo.pipeline import Bar, Tick

TICKS = 10  # of a bar: its four prices and two between each pair
SESSION = timedelta(hours=6.5)  # of an exchange's day, over which a bar's ticks are spread
OPENING = timedelta(hours=14.5)  # UTC
NOISE = 0.04  # of the bar's range


@dataclass(frozen=True, slots=True)
class Moment:
    """One event to publish. `lap` counts how often the data was begun, from 1."""

    data: Bar | Tick
    time: datetime
    synthetic: bool
    lap: int


def replay(market: Market) -> Iterator[Moment]:
    """All rows in order of time, and again from the first after the last, for ever."""
    lap = 0
    while True:
        lap += 1
        rows: Sequence[DailyBar | Trade] = market.rows
        for _, same_time in groupby(rows, key=lambda row: row.time):
            yield from _together([_moments(row, lap) for row in same_time])


def _moments(row: DailyBar | Trade, lap: int) -> list[Moment]:
    if isinstance(row, Trade):
        return [Moment(Tick(row.symbol, row.price), row.time, False, lap)]
    step = SESSION / (TICKS - 1)
    opening = row.time + OPENING if row.time.hour == row.time.minute == 0 else row.time
    ticks = [
        Moment(Tick(row.symbol, price), opening + step * number, True, lap) for number, price in enumerate(path(row))
    ]
    bar = Bar(row.symbol, row.open, row.high, row.low, row.close, row.volume)
    return [*ticks, Moment(bar, row.time, False, lap)]


def path(bar: DailyBar) -> list[float]:
    """`TICKS` prices from open to close through low and high, none outside of them; the same for the same bar."""
    draw = random.Random(f"{bar.symbol} {bar.time.isoformat()}")
    low_first = bar.close >= bar.open
    turns = [bar.open, bar.low, bar.high, bar.close] if low_first else [bar.open, bar.high, bar.low, bar.close]
    noise = (bar.high - bar.low) * NOISE
    prices = [bar.open]
    for start, end in pairwise(turns):
        for part in (1 / 3, 2 / 3):
            between = start + (end - start) * part + draw.uniform(-noise, noise)
            prices.append(round(min(max(between, bar.low), bar.high), 4))
        prices.append(end)
    return prices


def _together(symbols: list[list[Moment]]) -> Iterator[Moment]:
    """Symbols trade at the same time: one event of each in turn."""
    for turn in zip_longest(*symbols):
        yield from (moment for moment in turn if moment is not None)
