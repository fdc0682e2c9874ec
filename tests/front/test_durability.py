"""`durability="disk"`: an acknowledged publish was fsynced, or the app refuses to open."""

from __future__ import annotations

from pathlib import Path

import pytest

from mainstem import ConfigError, Mainstem, Unsupported
from mainstem.engines.redis import RedisEngine


async def test_the_embedded_server_is_set_to_it(project: Path) -> None:
    async with Mainstem("embedded://", durability="disk") as app:
        await app.stream("orders").publish({"id": 1})
        engine = app.connection().engine
        assert isinstance(engine, RedisEngine)
        assert (engine.facts.appendonly, engine.facts.appendfsync) == ("yes", "always")


async def test_a_server_that_does_not_hold_it_is_refused(redis7_url: str) -> None:
    with pytest.raises(ConfigError, match=r"durability='always' does not hold on this server .* set appendonly yes"):
        async with Mainstem(redis7_url, durability="disk"):
            pass


async def test_memory_cannot() -> None:
    with pytest.raises(Unsupported, match="the memory engine cannot keep events on disk"):
        async with Mainstem("memory://", durability="disk"):
            pass


async def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="durability='paper' is unknown"):
        async with Mainstem("memory://", durability="paper"):  # type: ignore[arg-type]
            pass
