"""Be told when a group falls behind, and again when it has caught up; and ask for a stream's health."""

import asyncio

from mainstem import Mainstem, Received
from mainstem.observability.monitor import LagAlert, StreamMonitor

app = Mainstem()
uploads = app.stream("uploads")


@app.subscribe(uploads, group="thumbnails", concurrency=4)
async def thumbnail(event: Received[dict[str, int]]) -> None:
    await asyncio.sleep(0.01)  # some work


async def main() -> None:
    alerts: list[LagAlert] = []
    caught_up = asyncio.Event()

    def tell(alert: LagAlert) -> None:
        print(f"{alert.group} is {'behind' if alert.over else 'in time again'}: {alert.lag} events")
        alerts.append(alert)
        if not alert.over:
            caught_up.set()

    async with app.running():
        monitor = StreamMonitor(app)
        watching = asyncio.create_task(monitor.alert_on_lag("uploads", 200, tell, every=0.05))
        await uploads.publish_batch([{"file": number} for number in range(600)])
        await caught_up.wait()
        watching.cancel()
        health = await monitor.get_stream_health("uploads")
        print(f"{health.message_count} events, lag {health.consumer_lag}, {health.error_rate:.0%} of attempts failed")

    assert [alert.over for alert in alerts] == [True, False]


asyncio.run(main())
