"""StreamMonitor on real streams: what health says, and alerts that neither flap nor get lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from front.lab import served
from mainstem import ConfigError, Mainstem, Received, Retry
from mainstem.observability import monitor as module
from mainstem.observability.monitor import LagAlert, StreamMonitor
from waiting import wait_until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 0.2)


async def test_health_of_a_stream_with_a_group_that_lags(url: str, stream_name: str) -> None:
    async with Mainstem(url) as app:
        stream = app.stream(stream_name)
        before = datetime.now(UTC) - timedelta(seconds=1)
        async with stream.consume("g") as received:
            await stream.publish_batch(list(range(300)))
            for _ in range(10):
                await (await anext(received)).ack()
            watch = StreamMonitor(app)
            health = await watch.get_stream_health(stream_name)
            await stream.publish_batch(list(range(100)))
            later = await watch.get_stream_health(stream_name)
        assert health.stream_name == stream_name
        assert (health.message_count, later.message_count) == (300, 400)
        (group,) = later.groups
        assert group.group == "g"
        assert group.lag is not None
        assert group.lag + group.pending == 390
        assert later.throughput_per_second > 0
        assert later.last_message_timestamp is not None
        assert before < later.last_message_timestamp < datetime.now(UTC) + timedelta(seconds=1)
        assert later.consumer_lag_seconds >= 0


async def test_failures_and_dead_letters_show(url: str, stream_name: str) -> None:
    app = Mainstem(url)
    stream = app.stream(stream_name)

    @app.subscribe(stream, group="g", retry=Retry(2, base=0, cap=0))
    async def handle(event: Received[Any]) -> None:
        if event.data % 2:
            raise ValueError("odd")

    async with served(app) as running:
        await stream.open()
        watch = StreamMonitor(app)
        await watch.get_stream_health(stream_name)
        await stream.publish_batch(list(range(20)))
        await running.quiet(stream, "g")

        async def counted() -> bool:
            info = await stream.describe()
            return info.groups[0].failed == 20 and info.groups[0].handled == 10

        await wait_until(counted, 10)
        health = await watch.get_stream_health(stream_name)
    assert health.dead == 10
    assert health.error_rate == pytest.approx(20 / 30)
    assert (health.consumer_lag, health.pending) == (0, 0)


async def test_all_streams_that_match(url: str, stream_name: str) -> None:
    async with Mainstem(url) as app:
        for suffix in ("a", "b"):
            await app.stream(f"{stream_name}.{suffix}").publish(1)
        found = await StreamMonitor(app).get_all(f"{stream_name}.*")
    assert [(each.stream_name, each.message_count) for each in found] == [
        (f"{stream_name}.a", 1),
        (f"{stream_name}.b", 1),
    ]


async def test_an_alert_calls_back_and_publishes_once_when_it_begins_and_once_when_it_ends(
    url: str, stream_name: str
) -> None:
    async with Mainstem(url) as app:
        stream, alerts = app.stream(stream_name), app.stream(f"{stream_name}.alerts")
        told: list[LagAlert] = []

        async def on_alert(alert: LagAlert) -> None:
            told.append(alert)

        watching = asyncio.create_task(
            StreamMonitor(app).alert_on_lag(stream_name, 50, on_alert, to=alerts, every=0.02)
        )
        async with stream.consume("g") as received:
            await stream.publish_batch(list(range(60)))
            await wait_until(lambda: len(told) == 1)
            for _ in range(15):  # 45 left: under the limit, and not eased yet
                await (await anext(received)).ack()
            looks = await count_looks(app, 10)
            assert len(told) == 1, f"flapped within {looks} looks"
            for _ in range(20):
                await (await anext(received)).ack()
            await wait_until(lambda: len(told) == 2)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        published = [event async for event in alerts.read()]
    assert [(alert.over, alert.group, alert.max_lag) for alert in told] == [(True, "g", 50), (False, "g", 50)]
    assert told[0].lag == 60
    assert told[1].lag <= 40
    assert [(event.type, event.key, event.data["over"]) for event in published] == [
        ("lag.alert", stream_name, True),
        ("lag.alert", stream_name, False),
    ]


async def count_looks(app: Mainstem, count: int) -> int:
    """Let the alert look so often at least."""
    for _ in range(count):
        await asyncio.sleep(0.03)
    return count


async def test_a_callback_that_fails_is_logged_and_watching_goes_on(
    url: str, stream_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Mainstem(url) as app:
        stream = app.stream(stream_name)
        alerts = app.stream(f"{stream_name}.alerts")
        calls: list[bool] = []

        def on_alert(alert: LagAlert) -> None:
            calls.append(alert.over)
            raise RuntimeError("pager away")

        watching = asyncio.create_task(StreamMonitor(app).alert_on_lag(stream_name, 1, on_alert, to=alerts, every=0.02))
        async with stream.consume("g") as received:
            await stream.publish_batch([1, 2, 3])
            await wait_until(lambda: calls == [True])
            for _ in range(3):
                await (await anext(received)).ack()
            await wait_until(lambda: calls == [True, False])
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert "pager away" in caplog.text


async def test_a_limit_below_nothing_is_refused(url: str) -> None:
    async with Mainstem(url) as app:
        with pytest.raises(ConfigError, match="max_lag=-1 must be 0 or more events"):
            await StreamMonitor(app).alert_on_lag("s", -1)
