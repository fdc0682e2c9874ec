"""
The Redis and Valkey engine, on native Streams. Redis 7.0, Valkey 8 and newer.

stream -> a Redis stream per partition; a queue has one, named like it
group -> queue: a native consumer group; keyed: one leased, fenced owner per partition
ack -> queue: XACK while the lease is certain, else a script that asks who owns the entry; keyed: a fenced commit
position -> the entry's id

How keys and entries look, for other clients, stands in ``layout``. Only the names that other packages may use are
re-exported here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from mainstem.engines.redis.address import Address, parse
from mainstem.engines.redis.engine import RedisEngine
from mainstem.engines.redis.facts import ServerFacts
from mainstem.errors import ConfigError

__all__ = ["RedisEngine", "ServerFacts", "open_engine"]

DURABILITIES = (None, "everysec", "always")


async def open_engine(url: str, *, durability: str | None = None) -> RedisEngine:
    """
    Open ``redis://``, ``rediss://``, ``unix://``, or ``embedded://`` with the path of a folder or without one.

    ``durability``: "everysec" or "always" is the least that an acknowledged write must survive; the embedded server is
    set to it, any other refused with ConfigError where its settings do not hold it.
    """
    if durability not in DURABILITIES:
        raise ConfigError(f"durability={durability!r} is unknown: choose everysec, always, or leave it out.")
    if url.startswith("embedded:"):
        return await RedisEngine.open(_embedded(url, durability), name="embedded")
    engine = await RedisEngine.open(_fixed(parse(url)))
    if durability is not None and not _holds(engine.facts, durability):
        await engine.close()
        raise ConfigError(
            f"durability={durability!r} does not hold on this server ({engine.facts.durability}): "
            f"set appendonly yes and appendfsync {durability} there."
        )
    return engine


def _fixed(address: Address) -> Callable[[], Awaitable[Address]]:
    async def resolve() -> Address:
        return address

    return resolve


def _embedded(url: str, durability: str | None) -> Callable[[], Awaitable[Address]]:
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username:
        raise ConfigError("an embedded URL is embedded:// and the path of a folder, nothing more.")
    path = unquote(parts.netloc + parts.path)
    folder = Path(path) if path else None
    fsync: Literal["everysec", "always"] = "always" if durability == "always" else "everysec"

    async def resolve() -> Address:
        from mainstem.servers.embedded import ensure

        running = await ensure(folder, fsync=fsync)
        return parse(running.url)

    return resolve


def _holds(facts: ServerFacts, durability: str) -> bool:
    enough = ("always",) if durability == "always" else ("always", "everysec")
    return facts.appendonly == "yes" and facts.appendfsync in enough
