"""The conformance suite on every broken engine. `test_the_suite_itself.py` runs chosen tests of it, and expects most to
fail; pytest does not collect this file by itself."""

from __future__ import annotations

import pytest

from conformance.broken_engines import CAUGHT_BY, Engine, Sound
from mainstem.engines.memory import MemoryStore
from mainstem.testing.conformance import EngineConformance, Harness


def _suite(kind: type[Engine]) -> type[EngineConformance]:
    def harness(self: EngineConformance) -> Harness:
        store = MemoryStore()

        async def another() -> Engine:
            return kind(store)

        return Harness(another, lease=0.2, stall=kind.stall)

    members = {"harness": pytest.fixture(harness), "__module__": __name__}
    return type(f"Test{kind.__name__}", (EngineConformance,), members)


globals().update({f"Test{kind.__name__}": _suite(kind) for kind in (*CAUGHT_BY, Sound)})
