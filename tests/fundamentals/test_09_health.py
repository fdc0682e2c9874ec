"""How far behind is a group? Ask, or be told."""

from __future__ import annotations

import asyncio

from mainstem import Mainstem
from mainstem.observability.monitor import LagAlert, StreamMonitor
from waiting import wait_until


async def test_health_says_how_far_each_group_is_behind() -> None:
    async with Mainstem() as app:
        ticks = app.stream("ticks")
        await ticks.publish_batch([{"n": n} for n in range(10)])
        async with ticks.consume("slow") as received:
            item = await anext(aiter(received))
            await item.ack()

        health = await StreamMonitor(app).get_stream_health("ticks")

        assert (health.stream_name, health.message_count) == ("ticks", 10)
        (group,) = health.groups
        assert (group.lag or 0) + group.pending == 9
        assert group.lag_seconds > 0
        assert health.last_message_timestamp is not None


async def test_an_alert_calls_back_and_publishes_an_event() -> None:
    async with Mainstem() as app:
        ticks, alerts = app.stream("ticks"), app.stream("ops.alerts")
        called: list[LagAlert] = []
        async with ticks.consume("slow"):
            pass  # the group exists now
        watching = asyncio.create_task(
            StreamMonitor(app).alert_on_lag("ticks", 5, called.append, to=alerts, every=0.05)
        )
        try:
            await ticks.publish_batch([{"n": n} for n in range(10)])
            await wait_until(lambda: called)
        finally:
            watching.cancel()

        (event,) = [event async for event in alerts.read()]
        assert (called[0].group, called[0].lag, called[0].over) == ("slow", 10, True)
        assert event.data["lag"] == 10
