"""The conformance suite on the Redis engine with a Valkey server."""

from __future__ import annotations

from functools import partial

import pytest

from mainstem.engines.redis import open_engine
from mainstem.testing.conformance import EngineConformance, Harness


class TestValkey(EngineConformance):
    @pytest.fixture
    def harness(self, valkey_url: str) -> Harness:
        return Harness(partial(open_engine, valkey_url), lease=1.0)
