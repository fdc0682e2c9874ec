"""StreamMonitor: the health of streams, at a cost that does not grow with their length, and alerts on lag."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mainstem.app import Mainstem
from mainstem.engine import GroupInfo, StreamInfo
from mainstem.errors import ConfigError, MainstemError, Unavailable
from mainstem.event import StreamEvent
from mainstem.stream import EventStream

_log = logging.getLogger("mainstem")

SAMPLE = 1.0  # seconds between two looks where there was no earlier one to compare with
POLL = 1.0  # seconds between looks of an alert
EASED = 0.8  # an alert is over when the lag is below this share of its limit: it does not flap


@dataclass(frozen=True, slots=True)
class GroupMetrics:
    """One group's standing. `error_rate`: failed attempts per attempt, since the look before."""

    group: str
    lag: int | None  # events not yet delivered; None: the server cannot tell
    lag_seconds: float  # age of the oldest event not yet settled
    pending: int  # delivered, not settled
    members: int
    lost: int  # taken by retention before the group read them
    dead: int  # dead letters
    handled_per_second: float
    error_rate: float


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    """A stream's health. Group figures of the stream itself are those of its worst group."""

    stream_name: str
    message_count: int
    consumer_lag: int | None  # events
    consumer_lag_seconds: float
    pending: int
    throughput_per_second: float  # events added
    error_rate: float  # 0 to 1
    last_message_timestamp: datetime | None
    lost: int
    dead: int
    groups: tuple[GroupMetrics, ...]


@dataclass(frozen=True, slots=True)
class LagAlert:
    """A group passed the limit (`over`), or came back below it."""

    stream_name: str
    group: str
    lag: int
    max_lag: int
    lag_seconds: float
    over: bool


OnAlert = Callable[[LagAlert], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float  # monotonic
    info: StreamInfo


class StreamMonitor:
    """Watches the streams of an open app. Each figure of rate compares with the look before."""

    def __init__(self, app: Mainstem) -> None:
        self._app = app
        self._last: dict[str, _Sample] = {}

    async def get_stream_health(self, name: str) -> StreamMetrics:
        """Look at one stream. The first look takes a second, to have a rate; later ones compare with the last."""
        engine = self._app.connection().engine
        before = self._last.get(name)
        if before is None:
            before = _Sample(time.monotonic(), await engine.describe(name))
            await asyncio.sleep(SAMPLE)
        after = _Sample(time.monotonic(), await engine.describe(name))
        self._last[name] = after
        return metrics(before.info, after.info, after.at - before.at)

    async def get_all(self, glob: str = "*") -> Sequence[StreamMetrics]:
        """Look at every stream whose name matches, together."""
        specs = await self._app.connection().engine.streams(glob)
        return await asyncio.gather(*(self.get_stream_health(spec.name) for spec in specs))

    async def alert_on_lag(
        self,
        name: str,
        max_lag: int,
        on_alert: OnAlert | None = None,
        *,
        to: EventStream[Any] | None = None,
        every: float = POLL,
    ) -> None:
        """Until cancelled: when a group's lag passes `max_lag`, call back and publish an event; again when it is over.

        The event goes to `to`, by default the stream "mainstem.alerts", with type "lag.alert" and key `name`. A
        server that is away is waited for; a callback that fails is logged.
        """
        if max_lag < 0:
            raise ConfigError(f"max_lag={max_lag} must be 0 or more events.")
        target = to if to is not None else self._app.stream("mainstem.alerts")
        over: dict[str, bool] = {}
        while True:
            try:
                info = await self._app.connection().engine.describe(name)
                for group in info.groups:
                    alert = decide(name, group, max_lag, over.get(group.name, False))
                    if alert is not None:
                        over[group.name] = alert.over
                        await _call(alert, on_alert)
                        await _publish(alert, target, every)
            except MainstemError as error:
                _log.warning("lag of %s cannot be watched now: %s", name, error)
            await asyncio.sleep(every)


def decide(name: str, group: GroupInfo, max_lag: int, over: bool) -> LagAlert | None:
    """Whether a group's lag began or ceased to be over its limit. Unsettled events count as lag."""
    if group.lag is None:
        return None
    lag = group.lag + group.pending
    if not over and lag > max_lag:
        return LagAlert(name, group.name, lag, max_lag, group.lag_seconds, True)
    if over and lag <= max_lag * EASED:
        return LagAlert(name, group.name, lag, max_lag, group.lag_seconds, False)
    return None


def metrics(before: StreamInfo, after: StreamInfo, seconds: float) -> StreamMetrics:
    """Compare two looks at a stream. Pure."""
    earlier = {group.name: group for group in before.groups}
    groups = tuple(_group_metrics(earlier.get(group.name), group, seconds) for group in after.groups)
    lags = [group.lag for group in groups if group.lag is not None]
    return StreamMetrics(
        stream_name=after.spec.name,
        message_count=after.length,
        consumer_lag=max(lags) if lags else (None if groups else 0),
        consumer_lag_seconds=max((group.lag_seconds for group in groups), default=0.0),
        pending=sum(group.pending for group in groups),
        throughput_per_second=_rate(before.added, after.added, seconds),
        error_rate=max((group.error_rate for group in groups), default=0.0),
        last_message_timestamp=None if after.last_ms is None else datetime.fromtimestamp(after.last_ms / 1000, UTC),
        lost=sum(group.lost for group in groups),
        dead=sum(group.dead for group in groups),
        groups=groups,
    )


def _group_metrics(before: GroupInfo | None, after: GroupInfo, seconds: float) -> GroupMetrics:
    handled_before, failed_before = (before.handled, before.failed) if before is not None else (0, 0)
    handled, failed = max(after.handled - handled_before, 0), max(after.failed - failed_before, 0)
    return GroupMetrics(
        group=after.name,
        lag=after.lag,
        lag_seconds=after.lag_seconds,
        pending=after.pending,
        members=after.members,
        lost=after.lost,
        dead=after.dead,
        handled_per_second=_rate(handled_before, after.handled, seconds),
        error_rate=failed / (handled + failed) if handled + failed else 0.0,
    )


def _rate(before: int, after: int, seconds: float) -> float:
    return max(after - before, 0) / seconds if seconds > 0 else 0.0


async def _call(alert: LagAlert, on_alert: OnAlert | None) -> None:
    if on_alert is None:
        return
    try:
        answer = on_alert(alert)
        if inspect.isawaitable(answer):
            await answer
    except Exception:  # noqa: BLE001 - a callback is a stranger's code
        _log.exception("the callback of a lag alert on %s failed", alert.stream_name)


async def _publish(alert: LagAlert, to: EventStream[Any], every: float) -> None:
    """Publish the alert once, however long the server is away: its callback was told already."""
    data = {
        "stream": alert.stream_name, "group": alert.group, "lag": alert.lag, "max_lag": alert.max_lag,
        "lag_seconds": round(alert.lag_seconds, 3), "over": alert.over,
    }  # fmt: skip
    event = StreamEvent(data=data, type="lag.alert", key=alert.stream_name)
    while True:
        try:
            await to.publish(event)
            return
        except Unavailable as error:
            _log.warning("the lag alert on %s waits for the server: %s", alert.stream_name, error)
            await asyncio.sleep(every)
