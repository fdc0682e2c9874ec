"""The demo's closing report: the figures as one JSON object, and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mainstem.demo.ledger import Verdict


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened. `published` and `handled` are sums over the groups, of ids, so published = handled + lost."""

    published: int
    handled: int
    lost: int
    duplicated: int
    unknown: int
    p50_ms: float
    p99_ms: float
    groups: Mapping[str, Verdict]
    seconds: float  # of publishing
    rate: float  # events a second that the feed reached
    rate_asked: float
    fed: int  # events of the feed: bars and ticks
    synthetic: int  # of them, ticks made between the prices of a bar
    signals: int
    alerts: int
    workers: int
    worker_deaths: int
    drained: bool  # False: the groups had not finished when the demo stopped waiting
    source: str
    engine: str
    guarantee: str

    @property
    def good(self) -> bool:
        return self.lost == 0

    def as_json(self) -> str:
        """One line."""
        return msgspec.json.encode(self).decode()


def table(report: Report) -> Group:
    """The report for a terminal."""
    groups = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("group", "published", "handled", "lost", "duplicated", "p50", "p99"):
        groups.add_column(column, justify="left" if column == "group" else "right")
    for name, group in report.groups.items():
        lost = Text(f"{group.lost:,}", "bold red" if group.lost else "green")
        counts = (f"{group.published:,}", f"{group.handled:,}", lost, f"{group.duplicated:,}")
        groups.add_row(name, *counts, f"{group.p50_ms:.2f} ms", f"{group.p99_ms:.2f} ms")
    return Group(Text(), *(Text(line) for line in _lines(report)), Text(), groups, Text(), _verdict(report))


def _lines(report: Report) -> list[str]:
    short = "" if report.rate >= report.rate_asked * 0.98 else f" (asked {report.rate_asked:,.0f}/s: not reached)"
    fed = f"{report.fed:,} events, {report.synthetic:,} of them synthetic, in {report.seconds:.1f} s"
    cut_off = (
        f"; {report.unknown:,} more were cut off while they were sent, and nobody had them" if report.unknown else ""
    )
    return [
        f"{fed}: {report.rate:,.0f}/s{short}{cut_off}",
        f"{report.signals:,} signals, {report.alerts:,} alerts; {report.workers} workers, {report.worker_deaths} died",
        f"{report.engine}: {report.guarantee}",
    ]


def _verdict(report: Report) -> Text:
    if report.good:
        again = f"; {report.duplicated:,} were handled again after a crash" if report.duplicated else ""
        return Text(f"every event of every group was handled, checked by id{again}", "bold green")
    if not report.drained:
        return Text(f"{report.lost:,} events were not handled in the time the demo waits for them", "bold red")
    return Text(f"{report.lost:,} events were lost", "bold red")
