"""The smallest app: publish some events, handle each of them, stop when all are done."""

import asyncio

from mainstem import Mainstem, Received

app = Mainstem()  # MAINSTEM_URL, else an embedded Valkey in this folder's .mainstem/
orders = app.stream("orders")
paid: list[str] = []
done = asyncio.Event()


@app.subscribe(orders, group="billing")
async def bill(event: Received[dict[str, str]]) -> None:
    print("billing order", event.data["order"])
    paid.append(event.data["order"])
    if len(paid) == 5:
        done.set()


async def main() -> None:
    async with app.running():
        for number in range(5):
            await orders.publish({"order": f"A-{number}"})
        await done.wait()


asyncio.run(main())
assert sorted(paid) == [f"A-{number}" for number in range(5)]
