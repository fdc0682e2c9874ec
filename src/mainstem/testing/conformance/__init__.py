"""
The suite that every engine passes: one named test a behaviour, its rule in the first line of its docstring.

A third party tests an engine with a file of five lines (pytest and pytest-asyncio must be installed):

    class TestMine(EngineConformance):
        @pytest.fixture
        def harness(self) -> Harness:
            return Harness(partial(open_engine, "mine://..."))

A test is skipped only where the engine does not claim an ability that the test requires: no engine is named here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

for _module in (
    "scene",
    "publishing",
    "reading",
    "queues",
    "keyed",
    "handover",
    "keeping",
    "given_up",
    "standing",
    "engines",
):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from mainstem.testing.conformance.engines import Engines  # noqa: E402
from mainstem.testing.conformance.given_up import GivenUp  # noqa: E402
from mainstem.testing.conformance.handover import Handover  # noqa: E402
from mainstem.testing.conformance.keeping import Keeping  # noqa: E402
from mainstem.testing.conformance.keyed import Keyed  # noqa: E402
from mainstem.testing.conformance.publishing import Publishing  # noqa: E402
from mainstem.testing.conformance.queues import Queues  # noqa: E402
from mainstem.testing.conformance.reading import Reading  # noqa: E402
from mainstem.testing.conformance.scene import Scene, missing, required, requires  # noqa: E402
from mainstem.testing.conformance.standing import Standing  # noqa: E402
from mainstem.testing.harness import Harness  # noqa: E402

__all__ = ["EngineConformance", "Harness", "Scene", "missing", "required", "requires"]


@pytest.mark.asyncio
class EngineConformance(Publishing, Reading, Queues, Keyed, Handover, Keeping, GivenUp, Standing, Engines):
    """Subclass it as `Test...` and provide the fixture `harness`."""

    @pytest_asyncio.fixture
    async def scene(self, request: pytest.FixtureRequest, harness: Harness) -> AsyncIterator[Scene]:
        """An engine for one test, with all that the test opens."""
        engine = await harness.open()
        scene = Scene(harness, engine)
        try:
            if unclaimed := missing(request.function, engine.can):
                pytest.skip(f"the {engine.can.name} engine does not claim {', '.join(unclaimed)}")
            yield scene
        finally:
            await scene.close()
