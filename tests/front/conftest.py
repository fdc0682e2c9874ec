"""Every test of this folder that asks for `url` runs on the memory engine, on a Valkey and on the oldest Redis."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["memory", "valkey", "redis7"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the app under test keeps its streams. On a server others' streams are there too: use `stream_name`."""
    if request.param == "memory":
        return "memory://"
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


@pytest.fixture(params=["valkey", "redis7"])
def server_url(request: pytest.FixtureRequest) -> str:
    """The same for what needs a server: several processes, foreign clients."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found
