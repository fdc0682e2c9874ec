"""
The memory engine: streams in this process, for tests, examples and programs that need no server.

stream -> a list of entries per partition; group -> desks over the lists; ack -> an entry leaves its desk;
position -> the ordinal of an entry in its partition, from 1.

Only the names that other packages may use are re-exported here.
"""

from __future__ import annotations

from mainstem.engines.memory.engine import MemoryEngine
from mainstem.engines.memory.store import MemoryStore

__all__ = ["MemoryEngine", "MemoryStore", "open_engine"]


async def open_engine(url: str) -> MemoryEngine:
    """Open a fresh, empty store. The URL is `memory://`; what follows it is ignored."""
    return MemoryEngine()
