"""An app is tested without any server: on the memory engine, which passes the same conformance suite."""

from __future__ import annotations

from typing import Any

from mainstem import Mainstem, Received, Retry


async def test_run_the_app_publish_wait_until_quiet_and_look() -> None:
    app = Mainstem("redis://production.example")  # never contacted
    orders, invoices = app.stream("orders"), app.stream("invoices")

    @app.subscribe(orders, group="billing", to=invoices, retry=Retry(1))
    async def bill(event: Received[Any]) -> dict[str, Any]:
        if event.data["amount"] < 0:
            raise ValueError("a negative amount")
        return {"due": event.data["amount"]}

    async with app.testing() as trial:
        await trial.publish(orders, {"amount": 5}, {"amount": -1})
        await trial.quiet()

        assert [event.data for event in await trial.events(invoices)] == [{"due": 5}]
        assert [detail.reason for detail in trial.dead] == ["ValueError: a negative amount"]
