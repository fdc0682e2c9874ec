"""
One run of the demo: the app, its workers, the feed, the check. What is shown of it is made elsewhere, from snapshots.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mainstem.app import Mainstem
from mainstem.demo.board import ALERTS, Prices, Rates
from mainstem.demo.crew import Crew
from mainstem.demo.feed import Feed
from mainstem.demo.ledger import Latencies, Ledger, digest
from mainstem.demo.market import DailyBar, Market
from mainstem.demo.pipeline import GROUPS, Alert, Job, Signal, Streams, streams
from mainstem.demo.replay import replay
from mainstem.demo.report import Report
from mainstem.demo.snapshot import GroupLine, Snapshot, WorkerLine
from mainstem.demo.tail import Tail
from mainstem.engine import Engine, GroupInfo
from mainstem.errors import ConfigError, MainstemError, Unavailable
from mainstem.event import Received
from mainstem.processing.tasks import cancel_all
from mainstem.stream import EventStream

WORKERS = 2
READY = 15.0  # seconds until the feed begins although some worker has not joined its groups
SETTLED = 1.5  # seconds that members of a group take to share out its partitions; the feed begins after that
DRAIN = 30.0  # seconds that the groups may take to finish at the end
LOOK = 0.5  # seconds between two looks at the server's own figures


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. `seconds`: None until it is stopped."""

    market: Market
    url: str
    rate: float
    seconds: float | None


class Stage:
    """Run it once with `run`; `snapshot` may be called at any time meanwhile."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._job = Job(url=plan.url, run=uuid.uuid4().hex[:8])
        self._app = Mainstem(plan.url, source="demo")
        self._streams: Streams = streams(self._app)
        self._ledgers = {name: Ledger() for name in GROUPS}
        self._feed = Feed(self._streams, replay(plan.market), self._job, self._ledgers["signals"], plan.rate)
        self._phase = "opening"
        self._guarantee = ""
        self._message = ""
        self._crew: Crew | None = None
        self._infos: dict[str, list[GroupInfo]] = {name: [] for name in GROUPS}
        self._prices = Prices(closes=isinstance(plan.market.rows[0], DailyBar))
        self._rates = Rates()
        self._alerts: deque[str] = deque(maxlen=ALERTS)
        self._alert_count = 0
        self._drained = False

    async def run(self, stop: asyncio.Event) -> Report:
        """Feed until `stop` or for the planned time, let the groups finish, and give the account.

        Raises `ConfigError` for an engine of one process, `Unavailable` when there is no server to publish to, and
        `MainstemError` when the workers cannot be kept running.
        """
        async with self._app:
            engine = self._app.connection().engine
            self._guarantee = _guarantee(engine)
            if not engine.can.shared:
                raise ConfigError(
                    f"{self._plan.url} lives in one process, and the demo's workers are others: leave --url out for an "
                    "embedded server, or name one."
                )
            await self._prepare(engine)
            try:
                await self._with_workers(engine, stop)
            finally:
                with suppress(MainstemError):
                    await self._forget(engine)
        return self._report()

    def snapshot(self) -> Snapshot:
        """What there is to see now."""
        plan, feed = self._plan, self._feed
        self._prices.add(feed.recent)
        feed.recent.clear()
        seats = self._crew.seats if self._crew is not None else ()
        return Snapshot(
            phase=self._phase,
            engine=shown(plan.url),
            guarantee=self._guarantee,
            source=plan.market.source,
            synthetic=_synthetic(plan.market),
            seconds=feed.seconds,
            published=feed.published,
            rate=self._rates.published,
            asked=plan.rate,
            lap=self._prices.lap,
            groups=tuple(self._group(name) for name in GROUPS),
            workers=tuple(WorkerLine(seat.number, seat.pid, seat.deaths) for seat in seats),
            symbols=self._prices.lines(),
            alerts=tuple(reversed(self._alerts)),
            message=self._message,
        )

    # The course of a run

    async def _prepare(self, engine: Engine) -> None:
        """Create the streams, and this run's groups where the streams end now: earlier runs are not ours to handle."""
        await self._streams.alerts.open()
        for name, sources in self._sources().items():
            for stream in sources:
                await stream.open()
                if engine.can.admin is not None:
                    end = await engine.locate(stream.name, "end")
                    await engine.can.admin.seek(stream.name, self._job.group(name), end)

    async def _with_workers(self, engine: Engine, stop: asyncio.Event) -> None:
        async with (
            Tail(engine, self._streams.signals, self._on_signal) as signals,
            Tail(engine, self._streams.alerts, self._on_alert) as alerts,
        ):
            async with Crew(self._job, WORKERS, self._on_report, self._on_line) as crew:
                self._crew = crew
                perform = asyncio.create_task(self._perform(crew, stop), name="demo-perform")
                watch = asyncio.create_task(self._watch(), name="demo-watch")
                try:
                    await _first(perform, watch, crew.failed, signals.task, alerts.task)
                finally:
                    await cancel_all([perform, watch])
            await signals.finish()
            await alerts.finish()
            self._phase = "done"

    async def _perform(self, crew: Crew, stop: asyncio.Event) -> None:
        self._phase = f"starting {WORKERS} workers"
        await self._until(lambda: all(self._joined(name) for name in GROUPS), READY, stop)
        self._phase = "sharing out the partitions"
        await self._until(lambda: False, SETTLED, stop)
        self._phase = "running"
        await self._feed.run(stop, self._plan.seconds)
        self._phase = "finishing what is under way"
        # In this order: what the first group makes of its last events is what the second one has to finish.
        self._drained = await self._until(lambda: self._finished("signals"), DRAIN)
        self._drained = await self._until(lambda: self._finished("alerts"), DRAIN) and self._drained
        await crew.stop()

    async def _until(self, condition: Callable[[], bool], seconds: float, stop: asyncio.Event | None = None) -> bool:
        deadline = time.monotonic() + seconds
        while not (stop is not None and stop.is_set()):
            await self._look()
            if condition():
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return False

    def _joined(self, name: str) -> bool:
        infos = self._infos[name]
        return len(infos) == len(self._sources()[name]) and all(info.members >= WORKERS for info in infos)

    def _finished(self, name: str) -> bool:
        settled = all(not info.lag and not info.pending for info in self._infos[name])
        return settled and self._ledgers[name].under_way == 0

    async def _watch(self) -> None:
        while True:
            self._rates.sample(self._feed.published, self._ledgers)
            await self._look()
            await asyncio.sleep(LOOK)

    async def _look(self) -> None:
        with suppress(Unavailable):
            for name, sources in self._sources().items():
                infos = [await stream.describe() for stream in sources]
                mine = self._job.group(name)
                self._infos[name] = [group for info in infos for group in info.groups if group.name == mine]

    async def _forget(self, engine: Engine) -> None:
        if engine.can.admin is None:
            return
        for name, sources in self._sources().items():
            for stream in sources:
                await engine.can.admin.delete_group(stream.name, self._job.group(name))

    def _sources(self) -> dict[str, tuple[EventStream[Any], ...]]:
        return {"signals": (self._streams.ticks, self._streams.bars), "alerts": (self._streams.signals,)}

    # What is heard from workers and streams

    def _on_report(self, group: int, us: int, identity: int) -> None:
        self._ledgers[GROUPS[group]].handle(identity, us)

    def _on_line(self, line: str) -> None:
        self._message = line

    def _on_signal(self, event: Received[Signal]) -> None:
        """A signal was stored, says the stream itself; nobody else is asked."""
        if event.metadata.extensions.get("run") == self._job.run:
            self._ledgers["alerts"].publish(digest(event.id))

    def _on_alert(self, event: Received[Alert]) -> None:
        if event.metadata.extensions.get("run") != self._job.run:
            return
        self._alert_count += 1
        synthetic = " [synthetic ticks]" if event.metadata.extensions.get("synthetic") else " [real bars]"
        self._alerts.append(f"{event.data.day} {event.data.symbol}: {event.data.text}{synthetic}")

    # Figures

    def _group(self, name: str) -> GroupLine:
        infos = self._infos[name]
        rate, latencies = self._rates.handled(name)
        lags = [info.lag + info.pending for info in infos if info.lag is not None]
        return GroupLine(
            name=name,
            reads=", ".join(stream.name.removeprefix("demo.") for stream in self._sources()[name]),
            rate=rate,
            lag=sum(lags) if len(lags) == len(infos) else None,
            lag_seconds=max((info.lag_seconds for info in infos), default=0.0),
            p50_ms=latencies.quantile_ms(0.50),
            p99_ms=latencies.quantile_ms(0.99),
            handled=self._ledgers[name].latencies.count,
        )

    def _report(self) -> Report:
        groups = {name: ledger.verdict() for name, ledger in self._ledgers.items()}
        together = Latencies()
        for ledger in self._ledgers.values():
            together = together.merged(ledger.latencies)
        feed = self._feed
        return Report(
            published=sum(group.published for group in groups.values()),
            handled=sum(group.handled for group in groups.values()),
            lost=sum(group.lost for group in groups.values()),
            duplicated=sum(group.duplicated for group in groups.values()),
            unknown=sum(group.unknown for group in groups.values()),
            p50_ms=round(together.quantile_ms(0.50), 3),
            p99_ms=round(together.quantile_ms(0.99), 3),
            groups=groups,
            seconds=round(feed.seconds, 2),
            rate=round(groups["signals"].published / feed.seconds, 1) if feed.seconds else 0.0,
            rate_asked=self._plan.rate,
            fed=groups["signals"].published,
            synthetic=feed.synthetic,
            signals=groups["alerts"].published,
            alerts=self._alert_count,
            workers=WORKERS,
            worker_deaths=self._crew.deaths if self._crew is not None else 0,
            drained=self._drained,
            source=self._plan.market.source,
            engine=shown(self._plan.url),
            guarantee=self._guarantee,
        )


def shown(url: str) -> str:
    """The URL without its password."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@", 1) if password else url


async def _first(*futures: asyncio.Future[None]) -> None:
    """Wait until one of them ends, and raise what ended it."""
    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for future in done:
        future.result()


def _guarantee(engine: Engine) -> str:
    """What holds on this engine, in words."""
    facts = getattr(engine, "facts", None)  # engines on a server that says so itself
    kept = getattr(facts, "durability", None)
    if not isinstance(kept, str):
        kept = "events outlive its clients" if engine.can.durable else "events end with the server"
    return f"each event at least once per group, in order per symbol; {kept}"


def _synthetic(market: Market) -> str:
    if isinstance(market.rows[0], DailyBar):
        return "bars are real; ticks between their prices are SYNTHETIC (synthetic=true)"
    return "prices are as the file has them, nothing is synthetic"
