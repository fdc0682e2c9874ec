"""
Where the demo's prices come from: the bars that ship in the package bokeh-sampledata, or a CSV file of the user's.

Files to frozen rows, checked; what is made of the rows lives in `replay`.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from mainstem.errors import ConfigError

Row = TypeVar("Row")

SAMPLE = "stocks.csv.gz"
ROW_LIMIT = 1_000_000
"""Rows of a file that are replayed: they are held in memory, to be put in order of time."""

_ALIASES = {"ticker": "symbol", "date": "time", "datetime": "time", "timestamp": "time", "vol": "volume"}
_BAR = ("symbol", "time", "open", "high", "low", "close")
_NONE: list[str] = []
_TRADE = ("symbol", "time", "price")


@dataclass(frozen=True, slots=True)
class DailyBar:
    """One real bar: what a symbol did in one interval that began at `time`."""

    symbol: str
    time: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class Trade:
    """One price of a user's own file."""

    symbol: str
    time: datetime
    price: float


@dataclass(frozen=True, slots=True)
class Market:
    """What is replayed: bars or trades, in order of time, and where they come from."""

    source: str
    rows: tuple[DailyBar, ...] | tuple[Trade, ...]

    @property
    def symbols(self) -> list[str]:
        return sorted({row.symbol for row in self.rows})


def sample() -> Market:
    """The bars of bokeh-sampledata; `ConfigError` where it is not installed."""
    return _read(_sample_path(), f"bokeh-sampledata, {SAMPLE}")


def load(path: Path) -> Market:
    """A CSV file (also .csv.gz) of bars or of prices; `ConfigError` names the column or the line that is wrong."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}: give --csv a CSV file.")
    return _read(path, path.name)


def _sample_path() -> Path:
    # Importing the package would import pandas, which it does not need to be installed for this.
    spec = find_spec("bokeh_sampledata")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        path = Path(folder) / "_data" / SAMPLE
        if path.is_file():
            return path
    raise ConfigError(
        'the demo has no market data: pip install "mainstem[demo]", or replay a file of your own with --csv FILE.'
    )


def _read(path: Path, source: str) -> Market:
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    try:
        return Market(source, _rows(text, path))
    except csv.Error as error:
        raise ConfigError(f"{path} is not a CSV file: {error}.") from error


def _rows(text: str, path: Path) -> tuple[DailyBar, ...] | tuple[Trade, ...]:
    head = text.split("\n", 1)[0]
    lines = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    columns = [_column(name) for name in next(lines, _NONE)]
    if set(_BAR) <= set(columns):
        bars = [_bar(cells, path, line) for line, cells in _cells(lines, columns, path)]
        return tuple(sorted(_some(bars, path), key=lambda bar: bar.time))
    if set(_TRADE) <= set(columns):
        trades = [_trade(cells, path, line) for line, cells in _cells(lines, columns, path)]
        return tuple(sorted(_some(trades, path), key=lambda trade: trade.time))
    found = ", ".join(columns) if any(columns) else "none"
    raise ConfigError(
        f"{path} has the columns {found:.200}: name them symbol,date,open,high,low,close[,volume] or symbol,time,price."
    )


def _column(name: str) -> str:
    plain = name.strip().lower()
    return _ALIASES.get(plain, plain)


def _some(rows: list[Row], path: Path) -> list[Row]:
    if not rows:
        raise ConfigError(f"{path} has a header and no rows: there is nothing to replay.")
    return rows


def _cells(lines: Iterator[list[str]], columns: list[str], path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    for line, values in enumerate(lines, 2):
        if not any(values):
            continue
        if line > ROW_LIMIT + 1:
            raise ConfigError(f"{path} has more than {ROW_LIMIT:,} rows: replay a part of it.")
        if len(values) < len(columns):
            raise ConfigError(f"{path}, line {line}: {len(values)} values for {len(columns)} columns.")
        yield line, dict(zip(columns, values, strict=False))


def _bar(cells: Mapping[str, str], path: Path, line: int) -> DailyBar:
    opened, high, low, close = (_price(cells, name, path, line) for name in ("open", "high", "low", "close"))
    if not low <= min(opened, close) or not max(opened, close) <= high:
        raise ConfigError(f"{path}, line {line}: open {opened:g} or close {close:g} is not within {low:g} to {high:g}.")
    volume = _number(cells["volume"]) if cells.get("volume") else 0.0
    if not 0 <= volume < math.inf:
        raise ConfigError(f"{path}, line {line}: volume {cells['volume']!r:.40} is not a number from 0.")
    return DailyBar(_symbol(cells, path, line), _time(cells, path, line), opened, high, low, close, volume)


def _trade(cells: Mapping[str, str], path: Path, line: int) -> Trade:
    return Trade(_symbol(cells, path, line), _time(cells, path, line), _price(cells, "price", path, line))


def _symbol(cells: Mapping[str, str], path: Path, line: int) -> str:
    symbol = cells["symbol"].strip()
    if not 0 < len(symbol) <= 40:
        raise ConfigError(f"{path}, line {line}: symbol {symbol!r:.40} must have 1 to 40 characters.")
    return symbol


def _price(cells: Mapping[str, str], name: str, path: Path, line: int) -> float:
    price = _number(cells[name])
    if not 0 < price < math.inf:
        raise ConfigError(f"{path}, line {line}: {name} {cells[name]!r:.40} is not a price above 0.")
    return price


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _time(cells: Mapping[str, str], path: Path, line: int) -> datetime:
    text = cells["time"].strip()
    try:
        number = _number(text)
        if len(text) >= 9 and math.isfinite(number) and "-" not in text:  # seconds or milliseconds since 1970
            return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, UTC)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(
            f"{path}, line {line}: {text!r:.40} is not a time: write 2026-01-31, 2026-01-31T09:30:00Z or Unix seconds."
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)
