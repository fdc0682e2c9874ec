"""What the demo's run looks like at one moment: frozen data for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupLine:
    """A group now; rates and latencies are those of the last seconds."""

    name: str
    reads: str  # the streams, for people
    rate: float  # events handled a second
    lag: int | None  # not yet delivered or not yet settled, as the server counts
    lag_seconds: float
    p50_ms: float
    p99_ms: float
    handled: int


@dataclass(frozen=True, slots=True)
class WorkerLine:
    number: int
    pid: int | None  # None: there is none now
    deaths: int


@dataclass(frozen=True, slots=True)
class SymbolLine:
    symbol: str
    price: float
    day: str
    prices: tuple[float, ...]  # the last ones, oldest first


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown."""

    phase: str
    engine: str  # its URL, without a password
    guarantee: str
    source: str
    synthetic: str  # which events are made up, in words
    seconds: float
    published: int
    rate: float  # published a second, of late
    asked: float
    lap: int
    groups: tuple[GroupLine, ...]
    workers: tuple[WorkerLine, ...]
    symbols: tuple[SymbolLine, ...]
    alerts: tuple[str, ...]  # the last ones, newest first
    message: str  # the last thing that went wrong, if any
