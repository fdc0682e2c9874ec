"""
What came out: figures of several repetitions, their medians, the ratio to a peer, and whether a goal is met.

Pure: nothing is measured, started or read here. Every judgement that the report prints is made in this module.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Figures = Mapping[str, float]


class Goal(msgspec.Struct, frozen=True):
    """A bound that a figure must keep."""

    side: Literal[">=", "<=", "<"]
    bound: float

    def met_by(self, figure: float) -> bool:
        """Whether the figure keeps the bound."""
        if self.side == ">=":
            return figure >= self.bound
        return figure <= self.bound if self.side == "<=" else figure < self.bound

    def __str__(self) -> str:
        return f"{self.side} {self.bound:,g}"


class Spread(msgspec.Struct, frozen=True):
    """The median of the repetitions, and how far they lay apart."""

    median: float
    low: float
    high: float
    runs: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report. `met` is None where no goal applies; `ours` is None where the measurement failed."""

    work: str
    ours: float | None = None
    peer: float | None = None
    ratio: float | None = None
    goal: str | None = None
    met: bool | None = None
    ours_min: float | None = None
    ours_max: float | None = None
    peer_min: float | None = None
    peer_max: float | None = None
    unit: str = ""
    peer_name: str | None = None
    repetitions: int = 0
    note: str = ""


def spread(runs: Sequence[Figures], figure: str) -> Spread | None:
    """Median, least and greatest of one figure; None when no run has it."""
    values = [run[figure] for run in runs if figure in run]
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def against(
    work: str,
    ours: Spread | None,
    peer: Spread | None,
    *,
    unit: str,
    peer_name: str,
    goal: Goal | None = None,
    note: str = "",
) -> Result:
    """Compare with a peer: the goal bounds ours divided by the peer's; without both there is no ratio, no success."""
    ratio = ours.median / peer.median if ours and peer and peer.median else None
    met = goal.met_by(ratio) if goal and ratio is not None else (False if goal else None)
    return _result(work, ours, peer, ratio, goal, met, unit=unit, peer_name=peer_name, note=note)


def alone(work: str, ours: Spread | None, *, unit: str, goal: Goal | None = None, note: str = "") -> Result:
    """Judge a figure by itself: the goal bounds its median. Without the figure there is no success."""
    met = (goal.met_by(ours.median) if ours else False) if goal else None
    return _result(work, ours, None, None, goal, met, unit=unit, peer_name=None, note=note)


def failed(work: str, reason: str) -> Result:
    """A line for a side that could not be measured; the goals that need it are not met."""
    return Result(work=work, note=reason)


def best(runs: Mapping[str, Sequence[Figures]], figure: str, names: Sequence[str]) -> str:
    """Of the peers named, the one with the highest median: the one that a comparison must be made with."""
    medians = {name: found.median for name in names if (found := spread(runs.get(name, ()), figure))}
    return max(medians, key=lambda name: medians[name]) if medians else names[0]


def as_json(results: Sequence[Result], settings: Mapping[str, object]) -> str:
    """One line of JSON: `results` and `settings`."""
    return msgspec.json.encode({"results": list(results), "settings": dict(settings)}).decode()


def print_table(results: Sequence[Result], settings: Mapping[str, object], console: Console) -> None:
    """For people: the settings, one line a result, and what was not met."""
    for name, value in settings.items():
        console.print(f"{name}: {value}", highlight=False, markup=False, soft_wrap=True)
    table = Table(title="medians (least to greatest)", title_justify="left")
    for heading, side in (("work", "left"), ("ours", "right"), ("peer", "right"), ("ratio", "right"), ("goal", "left")):
        table.add_column(heading, justify="right" if side == "right" else "left")
    table.add_column("met")
    for result in results:
        table.add_row(*_cells(result))
    console.print(table)
    for line in summary(results):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def summary(results: Sequence[Result]) -> list[str]:
    """What a reader must not overlook: notes, and the goals that were not met."""
    notes = [f"{result.work}: {result.note}" for result in results if result.note]
    goals = [result for result in results if result.met is not None]
    missed = [result.work for result in goals if not result.met]
    verdict = f"{len(goals) - len(missed)} of {len(goals)} goals met"
    return [*notes, f"{verdict}; NOT met: {', '.join(missed)}" if missed else f"{verdict}."]


def shown(value: float) -> str:
    """A figure with as many digits as say something."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _result(
    work: str,
    ours: Spread | None,
    peer: Spread | None,
    ratio: float | None,
    goal: Goal | None,
    met: bool | None,
    *,
    unit: str,
    peer_name: str | None,
    note: str,
) -> Result:
    return Result(
        work=work,
        ours=ours.median if ours else None,
        peer=peer.median if peer else None,
        ratio=ratio,
        goal=str(goal) if goal else None,
        met=met,
        ours_min=ours.low if ours else None,
        ours_max=ours.high if ours else None,
        peer_min=peer.low if peer else None,
        peer_max=peer.high if peer else None,
        unit=unit,
        peer_name=peer_name,
        repetitions=ours.runs if ours else 0,
        note=note,
    )


def _cells(result: Result) -> tuple[str, ...]:
    ours = _figure(result.ours, result.ours_min, result.ours_max)
    peer = _figure(result.peer, result.peer_min, result.peer_max)
    return (
        escape(f"{result.work} [{result.unit}]" if result.unit else result.work),
        ours,
        f"{result.peer_name}: {peer}" if result.peer_name else peer,
        "" if result.ratio is None else f"{result.ratio:.2f}",
        result.goal or "",
        {True: "yes", False: "NO", None: ""}[result.met],
    )


def _figure(median: float | None, low: float | None, high: float | None) -> str:
    if median is None or low is None or high is None:
        return "-"
    return f"{shown(median)} ({shown(low)} to {shown(high)})"
