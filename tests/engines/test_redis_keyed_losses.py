"""What a keyed group does when its state or its events are deleted under it; on real servers."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engines.keyed_lab import (
    GROUP,
    KEYS,
    NOTHING,
    Lab,
    collect,
    opened_lab,
    publish,
    state,
    told,
)
from mainstem.engine import (
    Delivery,
    Done,
    Gap,
    Incident,
)
from mainstem.engines.redis.layout import log_key, members_key
from waiting import wait_until


@pytest.fixture(params=["redis7_url", "valkey_url"])
async def lab(request: pytest.FixtureRequest, stream_name: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with opened_lab(request.getfixturevalue(request.param), stream_name, tmp_path) as opened:
        yield opened


async def test_flushall_while_running(lab: Lab) -> None:
    spec = lab.spec(4)
    publish(lab.client, spec, KEYS, range(2))
    runner = await lab.run("a", spec, GROUP)
    await wait_until(lambda: len(runner.notes) == 80)
    lab.client.flushall()
    publish(lab.client, spec, KEYS, range(2, 4))
    await wait_until(lambda: {n.number for n in runner.notes if n.key == "k7"} == {0, 1, 2, 3})
    await wait_until(lambda: len({(n.key, n.number) for n in runner.notes}) == 160)
    await wait_until(lambda: {s.part[1] for s in runner.signals if isinstance(s, Incident)} == set(range(4)))
    await wait_until(lambda: len(runner.owned) == 4)
    assert lab.client.hget("mainstem:streams", spec.name) is not None
    await wait_until(lambda: sum(int(state(lab.client, spec, p).get("read", 0)) for p in range(4)) == 80)
    assert lab.client.zrange(members_key(spec.name, "g"), 0, -1) == [b"a"]
    await runner.stop()


async def test_a_deleted_log_is_read_again_from_its_new_beginning(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(3))
    runner = await lab.run("a", spec, GROUP)
    await wait_until(lambda: len(runner.notes) == 3)
    lab.client.delete(log_key(spec, 0))
    publish(lab.client, spec, ["k"], range(3, 6))
    await wait_until(lambda: [n.number for n in runner.notes] == list(range(6)))
    await runner.stop()


async def test_what_was_trimmed_before_the_group_came_is_counted_exactly(lab: Lab) -> None:
    spec = lab.spec(1)
    first = await lab.join("a", spec, GROUP)
    publish(lab.client, spec, ["k"], range(100))
    deliveries, _ = await collect(first, 100)
    await first.settle([Done(d) for n, d in enumerate(deliveries) if n < 10 or 20 <= n < 30 or 60 <= n < 80])
    await wait_until(lambda: state(lab.client, spec, 0).get("done", "").count("~") == 4)
    await first.leave()
    lab.client.xtrim(log_key(spec, 0), maxlen=30, approximate=False)  # 70..99 are left: 60..69 of a run are gone
    second = await lab.join("b", spec, GROUP)
    gap = await told(second, Gap)
    assert gap == Gap((spec.name, 0), 10 + 30)  # 10..19 and 30..59
    rest, _ = await collect(second, 20)
    assert [int(d.record.data) for d in rest] == list(range(80, 100))
    await second.settle([Done(d) for d in rest])
    now = state(lab.client, spec, 0)
    assert (now["lost"], now["read"], now["done"]) == ("40", "100", "")
    assert lab.client.xinfo_groups(log_key(spec, 0))[0]["lag"] == 0


async def test_what_is_trimmed_while_running_is_counted_exactly(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(3000))
    member = await lab.join("a", spec, GROUP)
    deliveries = [d for d in await member.receive(10, 2.0, NOTHING) if isinstance(d, Delivery)]
    deliveries += [d for d in await member.receive(10, 2.0, NOTHING) if isinstance(d, Delivery)]
    lab.client.xtrim(log_key(spec, 0), maxlen=50, approximate=False)
    await member.settle([Done(d) for d in deliveries if isinstance(d, Delivery)])
    missing = 0
    deadline = time.monotonic() + 5
    while len({d.position for d in deliveries}) + missing < 3000:
        assert time.monotonic() < deadline, (len(deliveries), missing)
        batch = await member.receive(10, 0.2, NOTHING)
        missing += sum(item.missing for item in batch if isinstance(item, Gap))
        got = [item for item in batch if isinstance(item, Delivery)]
        await member.settle([Done(d) for d in got])
        deliveries += got
    assert len(deliveries) + missing == 3000
    assert [int(d.record.data) for d in deliveries[-50:]] == list(range(2950, 3000))
    await wait_until(lambda: state(lab.client, spec, 0)["read"] == "3000")
    assert state(lab.client, spec, 0)["lost"] == str(missing)
