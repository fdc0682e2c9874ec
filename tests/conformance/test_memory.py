"""The conformance suite on the memory engine."""

from __future__ import annotations

import pytest

from mainstem.engine import Engine
from mainstem.engines.memory import MemoryEngine, MemoryStore
from mainstem.testing.conformance import EngineConformance, Harness


class TestMemory(EngineConformance):
    @pytest.fixture
    def harness(self) -> Harness:
        store = MemoryStore()

        async def another() -> Engine:
            return MemoryEngine(store)

        return Harness(another, lease=0.2, stall=MemoryEngine.stall)
