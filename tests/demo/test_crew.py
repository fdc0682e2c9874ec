"""The demo's supervision of its workers."""

from __future__ import annotations

import asyncio

import pytest

from mainstem.demo.crew import DEATHS, Crew
from mainstem.demo.pipeline import Job
from mainstem.errors import MainstemError


async def test_workers_that_cannot_run_end_the_demo_with_what_they_said() -> None:
    lines: list[str] = []
    async with Crew(Job(url="nosuch://x", run="r"), 1, lambda *_: None, lines.append) as crew:
        async with asyncio.timeout(30):
            with pytest.raises(MainstemError, match=r"^worker 1 cannot run: no engine for nosuch://"):
                await crew.failed
        assert crew.deaths == DEATHS
    assert lines.count("worker 1 died (exit code 1) and is started again") == DEATHS - 1
    assert [seat.pid for seat in crew.seats] == [None]


async def test_stopping_at_once_leaves_nothing() -> None:
    async with Crew(Job(url="redis://127.0.0.1:1/0", run="r"), 2, lambda *_: None, lambda _: None) as crew:
        pass
    assert crew.deaths == 0
    assert [seat.pid for seat in crew.seats] == [None, None]
