"""What the demo remembers for its view: prices of late, alerts of late, and rates over the last seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mainstem.demo.ledger import Latencies, Ledger
from mainstem.demo.pipeline import Bar
from mainstem.demo.replay import Moment
from mainstem.demo.snapshot import SymbolLine

WIDTH = 32  # prices of a sparkline
SYMBOLS = 8  # shown
ALERTS = 5
SAMPLES = 7  # of the counters: at two a second, rates over the last three seconds


class Prices:
    """The last prices of each symbol: closes of its bars, or each of a file of prices."""

    def __init__(self, closes: bool) -> None:
        self.lap = 1
        self._closes = closes
        self._days: dict[str, str] = {}
        self._prices: dict[str, deque[float]] = {}
        self._last: dict[str, float] = {}

    def add(self, moments: Iterable[Moment]) -> None:
        for moment in moments:
            self.lap = moment.lap
            bar = moment.data if isinstance(moment.data, Bar) else None
            symbol = moment.data.symbol
            price = self._last[symbol] = bar.close if bar is not None else getattr(moment.data, "price", 0.0)
            self._days[symbol] = moment.time.date().isoformat()
            if (bar is not None) == self._closes:
                self._prices.setdefault(symbol, deque(maxlen=WIDTH)).append(price)

    def lines(self) -> tuple[SymbolLine, ...]:
        shown = sorted(self._last)[:SYMBOLS]
        return tuple(SymbolLine(s, self._last[s], self._days[s], tuple(self._prices.get(s, ()))) for s in shown)


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters at one time."""

    at: float
    published: int
    latencies: Mapping[str, Latencies]


class Rates:
    """Counters over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)

    def sample(self, published: int, ledgers: Mapping[str, Ledger]) -> None:
        copies = {name: ledger.latencies.copy() for name, ledger in ledgers.items()}
        self._samples.append(Sample(time.monotonic(), published, copies))

    @property
    def published(self) -> float:
        """Events a second."""
        if len(self._samples) < 2:
            return 0.0
        first, last = self._samples[0], self._samples[-1]
        return (last.published - first.published) / (last.at - first.at)

    def handled(self, name: str) -> tuple[float, Latencies]:
        """Of one group: events a second, and how long they took."""
        if len(self._samples) < 2:
            return 0.0, Latencies()
        first, last = self._samples[0], self._samples[-1]
        between = last.latencies[name].since(first.latencies[name])
        return between.count / (last.at - first.at), between
