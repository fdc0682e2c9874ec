"""Give a stream a type, and its data is checked on the way in and on the way out."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from mainstem import ConfigError, EventRejected, Mainstem


class Tick(msgspec.Struct):
    symbol: str
    price: float


@dataclasses.dataclass
class Filing:
    company: str
    form: str


async def test_typed_data_comes_back_as_its_type() -> None:
    async with Mainstem() as app:
        ticks, filings = app.stream("ticks", Tick), app.stream("filings", Filing)
        await ticks.publish(Tick("AAPL", 189.2))
        await filings.publish(Filing("Apple", "10-K"))

        assert [event.data async for event in ticks.read()] == [Tick("AAPL", 189.2)]
        assert [(event.type, event.data) async for event in filings.read()] == [("Filing", Filing("Apple", "10-K"))]


async def test_wrong_data_is_refused_before_it_is_sent() -> None:
    async with Mainstem() as app:
        ticks = app.stream("ticks", Tick)

        with pytest.raises(EventRejected, match="not a valid Tick"):
            await ticks.publish({"symbol": "AAPL"})  # type: ignore[arg-type]  # no price

        assert [event async for event in ticks.read()] == []


async def test_a_stream_remembers_what_it_was_declared_as() -> None:
    async with Mainstem() as app:
        await app.stream("ticks", Tick).open()

        with pytest.raises(ConfigError, match=r"type 'Filing' \(stored: 'Tick'\)"):
            await app.stream("ticks", Filing).open()
