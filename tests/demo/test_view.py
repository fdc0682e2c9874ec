"""What the demo shows, rendered without a terminal."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console, RenderableType

from mainstem.demo.ledger import Verdict
from mainstem.demo.report import Report, table
from mainstem.demo.snapshot import GroupLine, Snapshot, SymbolLine, WorkerLine
from mainstem.demo.view import screen, sparkline

NOW = Snapshot(
    phase="running",
    engine="embedded://",
    guarantee="each event at least once",
    source="stocks.csv.gz",
    synthetic="the ticks are SYNTHETIC",
    seconds=12.0,
    published=24_000,
    rate=1999.0,
    asked=2000.0,
    lap=2,
    groups=(GroupLine("signals", "ticks, bars", 1998.0, 6, 0.1, 0.9, 2.9, 23_994),),
    workers=(WorkerLine(1, 4242, 0), WorkerLine(2, None, 3)),
    symbols=(SymbolLine("AAPL", 25.75, "2000-09-29", (28.0, 27.0, 26.0, 25.0)),),
    alerts=("2000-09-29 AAPL: opened -47 % from the last close",),
    message="worker 2 died (signal 9) and is started again",
)


def text(shown: RenderableType, width: int = 80) -> str:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


def test_a_sparkline_goes_from_its_lowest_to_its_highest_price() -> None:
    assert sparkline((1.0, 2.0, 8.0)) == "▁▂█"
    assert sparkline((5.0, 5.0)) == "▁▁"
    assert sparkline(()) == ""


def test_the_screen_shows_everything_in_eighty_columns() -> None:
    seen = text(screen(NOW, 50))
    assert max(len(line) for line in seen.splitlines()) <= 80
    for part in ("embedded://", "SYNTHETIC", "24,000", "1,999", "lap 2", "23,994", "2.90 ms", "4242", "AAPL", "█▆▃▁"):
        assert part in seen
    for part in ("opened -47 %", "died 3×", "– (died", "worker 2 died", "running"):
        assert part in seen


def test_a_lag_that_the_server_cannot_tell_is_a_question_mark() -> None:
    unknown = replace(NOW, groups=(replace(NOW.groups[0], lag=None),))
    assert " ? " in text(screen(unknown, 50))


def test_it_fits_a_terminal_of_24_lines() -> None:
    full = replace(
        NOW,
        guarantee="x" * 150,
        groups=NOW.groups * 2,
        symbols=NOW.symbols * 5,
        alerts=tuple(f"alert {number}" for number in range(5)),
    )
    seen = text(screen(full, 24)).splitlines()
    assert len(seen) <= 24
    assert any("worker 2 died" in line for line in seen)
    assert any("alert 0" in line for line in seen)  # the newest
    assert len(text(screen(full, 50)).splitlines()) > 24


def report(lost: int, duplicated: int, drained: bool) -> Report:
    group = Verdict(
        published=100, handled=100 - lost, lost=lost, duplicated=duplicated, unknown=0, p50_ms=1.0, p99_ms=2.5
    )
    return Report(
        published=100, handled=100 - lost, lost=lost, duplicated=duplicated, unknown=0, p50_ms=1.0, p99_ms=2.5,
        groups={"signals": group}, seconds=2.0,
        rate=50.0, rate_asked=2000.0, fed=100, synthetic=90, signals=3, alerts=1,
        workers=2, worker_deaths=1, drained=drained, source="x.csv", engine="redis://h", guarantee="at least once",
    )  # fmt: skip


def test_the_report_says_plainly_what_was_lost_and_what_came_twice() -> None:
    assert "every event of every group was handled" in text(table(report(0, 0, True)))
    assert "7 were handled again" in text(table(report(0, 7, True)))
    assert "3 events were lost" in text(table(report(3, 0, True)))
    assert "3 events were not handled in the time" in text(table(report(3, 0, False)))
    assert "asked 2,000/s: not reached" in text(table(report(0, 0, True)), 120)
    assert not report(1, 0, True).good
