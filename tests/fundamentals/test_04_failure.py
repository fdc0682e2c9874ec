"""An event is acknowledged after its handler succeeded. A failing one is tried again, then kept as a dead letter."""

from __future__ import annotations

from typing import Any

import msgspec

from mainstem import Context, Mainstem, Received, Reject, Retry
from waiting import wait_until


async def test_a_failing_handler_is_tried_again() -> None:
    app = Mainstem()
    orders = app.stream("orders")
    attempts: list[int] = []

    @app.subscribe(orders, group="billing", retry=Retry(5, base="10ms"))
    async def bill(event: Received[Any], ctx: Context) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) < 3:
            raise ConnectionError("the bank is away")

    async with app.running():
        await orders.publish({"id": 1})
        await wait_until(lambda: len(attempts) == 3)

    assert attempts == [1, 2, 3]


async def test_what_fails_for_good_becomes_a_dead_letter_of_its_group() -> None:
    app = Mainstem()
    orders = app.stream("orders")
    handled: list[int] = []

    @app.subscribe(orders, group="billing", retry=Retry(2, base="10ms"))
    async def bill(event: Received[Any]) -> None:
        if event.data["amount"] < 0:
            raise ValueError("a negative amount")
        if event.data["amount"] == 0:
            raise Reject("nothing to bill")  # no further attempts
        handled.append(event.data["amount"])

    async with app.running():
        await orders.publish_batch([{"amount": amount} for amount in (5, -1, 0, 7)])
        dead = app.connection().engine.can.dead
        assert dead is not None
        await wait_until(lambda: dead_count(app))

        letters = await dead.dead("orders", "billing", "", 10)
        decode = msgspec.json.decode
        causes = {decode(letter.record.data)["amount"]: decode(letter.cause) for letter in letters}

    assert handled == [5, 7]
    assert causes[-1]["reason"] == "ValueError: a negative amount"
    assert causes[-1]["attempts"] == 2
    assert 'raise ValueError("a negative amount")' in causes[-1]["traceback"]
    assert (causes[0]["reason"], causes[0]["attempts"]) == ("nothing to bill", 1)


async def dead_count(app: Mainstem) -> bool:
    info = await app.stream("orders").describe()
    return sum(group.dead for group in info.groups) == 2
