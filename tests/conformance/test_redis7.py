"""The conformance suite on the Redis engine with a Redis 7 server."""

from __future__ import annotations

from functools import partial

import pytest

from mainstem.engines.redis import open_engine
from mainstem.testing.conformance import EngineConformance, Harness


class TestRedis7(EngineConformance):
    @pytest.fixture
    def harness(self, redis7_url: str) -> Harness:
        return Harness(partial(open_engine, redis7_url), lease=1.0)
