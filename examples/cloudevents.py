"""CloudEvents in and out: what other systems send becomes an event, and an event becomes what they read."""

import asyncio
import json

from mainstem import Mainstem, from_cloudevent, to_cloudevent

INCOMING = """{
  "specversion": "1.0", "id": "9f1c", "source": "https://shop.example/orders", "type": "order.placed",
  "time": "2026-01-31T09:30:00Z", "subject": "customer-7", "datacontenttype": "application/json",
  "data": {"order": 17, "total": 99.5}
}"""


async def main() -> None:
    async with Mainstem() as app:
        orders = app.stream("orders")
        await orders.publish(from_cloudevent(json.loads(INCOMING)))

        async for event in orders.read():
            print(event.type, event.key, event.data)
            assert (event.id, event.key, event.data["order"]) == ("9f1c", "customer-7", 17)

            answer = event.caused(
                data={"order": 17, "invoice": 1}, type="order.invoiced", source="billing", key=event.key
            )
            mapped = to_cloudevent(answer)
            print(json.dumps(mapped, indent=2))
            assert (mapped["causationid"], mapped["partitionkey"]) == ("9f1c", "customer-7")


asyncio.run(main())
