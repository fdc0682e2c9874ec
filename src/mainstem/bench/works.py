"""
What is compared, with what, and against which goal: section by section the table that the report prints.

A work names its sides and turns their figures into results; how they are run is `runner`'s, how they are judged
`report`'s business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mainstem.bench import report
from mainstem.bench.report import Goal, Result, spread
from mainstem.bench.runner import Runs, Side

OURS, REDIS, LIMIT, RAW = "mainstem", "redis-py", "limit", "raw client"
TYPED, BARE, SINGLE = "FastStream batch typed", "FastStream batch msgspec", "FastStream one by one"
QUEUE, KEYED = "queue mode", "keyed mode"
RATE = "events/s"

Judge = Callable[[Runs], list[Result]]


@dataclass(frozen=True, slots=True)
class Work:
    """`count` events a run at scale 1; `repetitions`: at most so many."""

    name: str
    sides: tuple[Side, ...]
    judge: Judge
    count: int
    repetitions: int | None = None


def works(*, full: bool = False, small: bool = False) -> Sequence[Work]:
    """Every work; `full` goes to 10^7 entries instead of 10^6, `small` leaves the largest sizes out."""
    entries = (1_000, 100_000) if small else (1_000, 100_000, 10_000_000 if full else 1_000_000)
    streams = (1, 100) if small else (1, 100, 10_000)
    return (
        Work("publish", (_ours("publish"), Side(LIMIT, ("limit",))), _publish, 200_000),
        Work("awaiting", (_ours("awaiting"), Side(REDIS, ("redis.awaiting",))), _awaiting, 60_000),
        Work("consume", (_ours("consume"), Side(REDIS, ("redis.consume",))), _consume, 150_000),
        Work("end-to-end", _END_TO_END, _end_to_end, 150_000),
        Work("keyed", _KEYED, _keyed, 150_000),
        Work("latency", _LATENCY, _latency, 4_000),
        Work("overhead", (_ours("consume"), Side(RAW, ("raw.consume",))), _overhead, 150_000),
        Work("memory", (_ours("memory"),), _memory, 1_000_000, repetitions=1),
        Work("entries", _sizes("entries", entries), _flat, 2_000),
        Work("streams", _sizes("streams", streams), _flat, 10_000),
    )


def _ours(program: str) -> Side:
    return Side(OURS, (f"ours.{program}",))


def _sizes(what: str, sizes: Sequence[int]) -> tuple[Side, ...]:
    return tuple(Side(f"{size:,} {what if size > 1 else what[:-1]}", (f"ours.{what}",), size=size) for size in sizes)


_END_TO_END = (
    Side(OURS, ("ours.consumer", "ours.producer")),
    Side(REDIS, ("redis.consumer", "redis.producer"), 0.4),
    Side(TYPED, ("faststream.typed", "faststream.producer"), 0.2),
    Side(BARE, ("faststream.bare", "faststream.producer"), 0.2),
    Side(SINGLE, ("faststream.single", "faststream.producer"), 0.03),
    Side(LIMIT, ("limit",)),
)
_KEYED = (
    Side(KEYED, ("ours.keyed.consumer", "ours.keyed.producer")),
    Side(QUEUE, ("ours.queue.consumer", "ours.producer")),
)
_LATENCY = (
    Side(OURS, ("ours.listener", "ours.ticker")),
    Side(REDIS, ("redis.listener", "redis.ticker")),
    Side(SINGLE, ("faststream.listener", "faststream.ticker")),
)


def _publish(runs: Runs) -> list[Result]:
    return [_rate(runs, "publish_batch", LIMIT, Goal(">=", 0.9))]


def _awaiting(runs: Runs) -> list[Result]:
    return [_rate(runs, "1,000 awaiting publishers", REDIS, Goal(">=", 4))]


def _consume(runs: Runs) -> list[Result]:
    return [_rate(runs, "consume + decode + ack", REDIS, Goal(">=", 2))]


def _end_to_end(runs: Runs) -> list[Result]:
    batch = report.best(runs, "rate", (TYPED, BARE))
    limit = spread(runs[LIMIT], "rate")
    fast = limit is not None and limit.median >= 200_000
    note = f"the limit reaches {limit.median:,.0f} here" if limit else "the limit could not be measured"
    floor = report.alone(
        "end to end, >= 100,000 events/s where the limit reaches 200,000",
        spread(runs[OURS], "rate"),
        unit=RATE,
        goal=Goal(">=", 100_000) if fast else None,
        note=note if fast else f"{note}, less than 200,000: the absolute goal does not apply",
    )
    return [
        _rate(runs, "end to end against FastStream batch", batch, Goal(">=", 5)),
        _rate(runs, "end to end against redis-py", REDIS, Goal(">=", 3)),
        _rate(runs, "end to end against FastStream one by one", SINGLE, None),
        floor,
    ]


def _keyed(runs: Runs) -> list[Result]:
    both = {KEYED: runs[KEYED], QUEUE: runs[QUEUE]}
    disorder = sum(run.get("disorder", 0) for run in runs[KEYED])
    measures = (("rate", "rate", RATE), ("server_cpu_us", "server CPU", "us/event"), ("aof_bytes", "AOF", "B/event"))
    lines = [
        report.against(
            f"keyed (16 partitions, 10,000 keys), {what}",
            spread(both[KEYED], figure),
            spread(both[QUEUE], figure),
            unit=unit,
            peer_name=QUEUE,
            goal=Goal(">=", 1.2) if figure == "rate" else None,
        )
        for figure, what, unit in measures
    ]
    order = [{"disorder": disorder}] if runs[KEYED] else []
    return [*lines, report.alone("keyed, out of order", spread(order, "disorder"), unit="events", goal=Goal("<=", 0))]


def _latency(runs: Runs) -> list[Result]:
    ours, peer = spread(runs[OURS], "p99_ms"), spread(runs[REDIS], "p99_ms")
    single = spread(runs[SINGLE], "p99_ms")
    middle, peer_middle = spread(runs[OURS], "p50_ms"), spread(runs[REDIS], "p50_ms")
    name = "publish -> handler at 1,000 events/s"
    return [
        report.alone(f"{name}, p99", ours, unit="ms", goal=Goal("<", 1.0)),
        report.against(f"{name}, p99 against redis-py", ours, peer, unit="ms", peer_name=REDIS, goal=Goal("<=", 0.5)),
        report.against(f"{name}, p99 against FastStream", ours, single, unit="ms", peer_name=SINGLE),
        report.against(f"{name}, p50 against redis-py", middle, peer_middle, unit="ms", peer_name=REDIS),
    ]


def _overhead(runs: Runs) -> list[Result]:
    ours, raw = spread(runs[OURS], "cpu_us"), spread(runs[RAW], "cpu_us")
    extra = [{"extra": mine["cpu_us"] - bare["cpu_us"]} for mine, bare in zip(runs[OURS], runs[RAW], strict=False)]
    return [
        report.against("batch handler, client CPU", ours, raw, unit="us/event", peer_name=RAW),
        report.alone(
            "own overhead in a batch handler",
            spread(extra, "extra"),
            unit="us/event",
            goal=Goal("<=", 3),
            note="processor time of our process less that of a raw client that reads, parses and acks the same",
        ),
    ]


def _memory(runs: Runs) -> list[Result]:
    handled = spread(runs[OURS], "handled")
    return [
        report.against(
            f"RSS after {handled.median:,.0f} events" if handled else "RSS",
            spread(runs[OURS], "rss_end_mb"),
            spread(runs[OURS], "rss_start_mb"),
            unit="MB",
            peer_name="after a tenth",
            goal=Goal("<=", 1.1),
        )
    ]


def _flat(runs: Runs) -> list[Result]:
    """One line an operation and size: its cost against that at the first, smallest size."""
    smallest, *larger = runs
    return [
        report.against(
            f"{operation} at {size}",
            spread(runs[size], operation),
            spread(runs[smallest], operation),
            unit="us",
            peer_name=f"at {smallest}",
            goal=Goal("<=", 1.1),
        )
        for operation in ("publish", "consume", "describe", "health")
        for size in larger
    ]


def _rate(runs: Runs, work: str, peer: str, goal: Goal | None) -> Result:
    ours = spread(runs[OURS], "rate")
    return report.against(work, ours, spread(runs[peer], "rate"), unit=RATE, peer_name=peer, goal=goal)
