"""A stream is a named, ordered, durable list of events. Anyone may read it, without taking anything away."""

from __future__ import annotations

from mainstem import Mainstem


async def test_publish_an_event_and_read_it_back() -> None:
    async with Mainstem() as app:  # no URL: an embedded Valkey in the project's .mainstem/
        ticks = app.stream("market.ticks")

        position = await ticks.publish({"symbol": "AAPL", "price": 189.2}, type="tick", source="feed")

        (event,) = [event async for event in ticks.read()]
        assert event.data == {"symbol": "AAPL", "price": 189.2}
        assert (event.type, event.source, event.stream) == ("tick", "feed", "market.ticks")
        assert event.position == position


async def test_reading_takes_nothing_away_and_can_go_on_where_it_stopped() -> None:
    async with Mainstem() as app:
        news = app.stream("news")
        positions = await news.publish_batch([{"n": 0}, {"n": 1}, {"n": 2}])

        first = [event.data["n"] async for event in news.read(limit=2)]
        again = [event.data["n"] async for event in news.read()]
        behind = [event.data["n"] async for event in news.read(start=positions[1])]

        assert (first, again, behind) == ([0, 1], [0, 1, 2], [2])


async def test_events_outlive_the_program_that_published_them() -> None:
    async with Mainstem() as app:
        await app.stream("filings").publish({"form": "10-K"})

    async with Mainstem() as later:
        assert [event.data async for event in later.stream("filings").read()] == [{"form": "10-K"}]
