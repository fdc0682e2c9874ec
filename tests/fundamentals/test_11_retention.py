"""A stream keeps what its retention says. What a group loses by it is counted, never silent."""

from __future__ import annotations

import pytest

from mainstem import Mainstem, Unavailable
from mainstem.hooks import IncidentDetail
from waiting import wait_until


class Incidents:
    def __init__(self) -> None:
        self.seen: list[IncidentDetail] = []

    def on_incident(self, detail: IncidentDetail, /) -> None:
        self.seen.append(detail)

    def missed(self) -> int:
        return sum(detail.events for detail in self.seen if detail.kind == "gap")


async def test_a_group_is_told_exactly_what_it_missed() -> None:
    incidents = Incidents()
    async with Mainstem(hooks=[incidents]) as app:
        ticks = app.stream("ticks", max_events=100)
        async with ticks.consume("slow"):
            pass  # the group stands at the beginning
        await ticks.publish_batch([{"n": n} for n in range(1000)])
        kept = (await ticks.describe()).length

        async with ticks.consume("slow") as received:
            first = await anext(aiter(received))

            assert kept < 1000
            assert first.data["n"] == 1000 - kept
            await wait_until(lambda: incidents.missed() == 1000 - kept)
        (group,) = (await ticks.describe()).groups
        assert group.lost == 1000 - kept


async def test_until_read_makes_publishers_wait_instead() -> None:
    async with Mainstem(publish_deadline="300ms") as app:
        orders = app.stream("orders", retain="until-read", max_events=10)
        async with orders.consume("billing"):
            pass
        await orders.publish_batch([{"n": n} for n in range(10)])

        with pytest.raises(Unavailable, match="full"):
            await orders.publish({"n": 10})
        assert (await orders.describe()).length == 10
