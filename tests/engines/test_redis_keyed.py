"""Keyed mode on real servers, the oldest and the newest supported: reading, settling, giving back, giving up."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engines.keyed_lab import (
    GROUP,
    KEYS,
    NOTHING,
    Lab,
    check_order,
    collect,
    nothing_comes,
    opened_lab,
    publish,
    state,
)
from mainstem.engine import (
    Back,
    Dead,
    Delivery,
    Done,
    Gained,
    GroupSpec,
)
from mainstem.engines.redis.keyed_part import WINDOW
from mainstem.engines.redis.layout import group_key, log_key
from waiting import wait_until


@pytest.fixture(params=["redis7_url", "valkey_url"])
async def lab(request: pytest.FixtureRequest, stream_name: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with opened_lab(request.getfixturevalue(request.param), stream_name, tmp_path) as opened:
        yield opened


# ------------------------------------------------------------------------------------------------ reading and settling


async def test_events_of_a_partition_come_in_order_and_only_once(lab: Lab) -> None:
    spec = lab.spec(4)
    positions = publish(lab.client, spec, KEYS, range(10))
    runner = await lab.run("a", spec, GROUP)
    await wait_until(lambda: len(runner.notes) >= 400)
    check_order(runner.notes, KEYS, 10)
    assert sorted(note.position for note in runner.notes) == sorted(positions)
    assert {signal for signal in runner.signals if isinstance(signal, Gained)} == {
        Gained((spec.name, partition)) for partition in range(4)
    }
    await runner.stop()
    assert [int(state(lab.client, spec, p)["read"]) for p in range(4)] == [
        lab.client.xlen(log_key(spec, p)) for p in range(4)
    ]
    for partition in range(4):
        (group,) = lab.client.xinfo_groups(log_key(spec, partition))
        assert (group["lag"], group["pending"]) == (0, 0)


async def test_what_was_settled_is_committed_when_settle_returns_and_nothing_else_is_at_work(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(5))
    member = await lab.join("a", spec, GROUP)
    deliveries, _ = await collect(member, 5)
    assert await member.settle([Done(d) for d in deliveries]) == []
    assert state(lab.client, spec, 0)["cursor"] == deliveries[-1].position
    assert state(lab.client, spec, 0)["read"] == "5"


async def test_a_later_success_does_not_commit_past_an_unfinished_event(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(5))
    member = await lab.join("a", spec, GROUP)
    deliveries, _ = await collect(member, 5)
    await member.settle([Done(deliveries[number]) for number in (0, 2, 4)])
    await wait_until(lambda: state(lab.client, spec, 0).get("done"))
    assert state(lab.client, spec, 0)["cursor"] == deliveries[0].position
    assert state(lab.client, spec, 0)["done"] == f"{deliveries[2].position} {deliveries[4].position}"
    await member.settle([Done(deliveries[number]) for number in (1, 3)])
    assert state(lab.client, spec, 0)["cursor"] == deliveries[4].position
    assert state(lab.client, spec, 0)["done"] == ""


async def test_done_beyond_the_cursor_survives_a_crash(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(300))
    first = await lab.join("a", spec, GROUP)
    deliveries, _ = await collect(first, 300)
    unsettled = {3, 4, 50, 299}
    await first.settle([Done(d) for n, d in enumerate(deliveries) if n not in unsettled])
    await wait_until(lambda: state(lab.client, spec, 0).get("done", "").count("~") == 4)
    first.cut()
    second = await lab.join("b", spec, GROUP)
    again, _ = await collect(second, 1, within=GROUP.lease + 2)
    await second.settle([Done(again[0])])
    for _ in range(3):  # after a crash they come one at a time
        more, _ = await collect(second, 1)
        again += more
        await second.settle([Done(more[0])])
    assert [int(d.record.data) for d in again] == sorted(unsettled)
    await nothing_comes(second)
    await wait_until(lambda: state(lab.client, spec, 0)["cursor"] == deliveries[-1].position)
    assert state(lab.client, spec, 0)["read"] == "300"


async def test_200_cancelled_receives_lose_nothing(lab: Lab) -> None:
    spec = lab.spec(4)
    member = await lab.join("a", spec, GROUP)
    got: list[Delivery] = []

    async def receive() -> None:
        batch = await member.receive(3, 5.0, NOTHING)
        got.extend(item for item in batch if isinstance(item, Delivery))

    for number in range(200):
        task = asyncio.create_task(receive())
        for _ in range(number % 7):
            await asyncio.sleep(0)
        publish(lab.client, spec, [f"k{number % 9}"], [number])
        await asyncio.sleep(0.001 * (number % 3))
        task.cancel()
        await asyncio.wait([task])
        await member.settle([Done(d) for d in got[-3:]])
    rest, _ = await collect(member, 200 - len(got), limit=10)
    assert sorted(int(d.record.data) for d in [*got, *rest]) == list(range(200))


async def test_buffers_and_window_are_bounded(lab: Lab) -> None:
    spec = lab.spec(4)
    publish(lab.client, spec, KEYS, range(120))  # 4,800
    member = await lab.join("a", spec, GROUP)
    most = 0
    deliveries: list[Delivery] = []
    for _ in range(40):
        deliveries += [item for item in await member.receive(10, 0.1, NOTHING) if isinstance(item, Delivery)]
        await asyncio.sleep(0.002)
        most = max(most, member._holdings.buffered)
    assert len(deliveries) >= 300
    assert 10 <= most <= 20
    while more := [item for item in await member.receive(1000, 0.3, NOTHING) if isinstance(item, Delivery)]:
        deliveries += more
    by_part = Counter(d.part for d in deliveries)
    assert all(WINDOW - 100 < count <= WINDOW for count in by_part.values()), by_part
    await member.settle([Done(d) for d in deliveries if d.part[1] == 2])
    more, _ = await collect(member, 1)
    assert {d.part[1] for d in more} == {2}


async def test_a_paused_partition_is_left_out_and_does_not_stop_the_others(lab: Lab) -> None:
    spec = lab.spec(4)
    publish(lab.client, spec, KEYS, range(40))
    member = await lab.join("a", spec, GROUP)
    paused = frozenset({(spec.name, 1), (spec.name, 2), (spec.name, 3)})
    await collect(member, 40, limit=20)  # so that the paused ones are buffered, too
    await wait_until(lambda: member._holdings.buffered > 10)
    seen: list[Delivery] = []
    deadline = time.monotonic() + 3
    while len(seen) < 300 and time.monotonic() < deadline:
        batch = [item for item in await member.receive(20, 0.1, paused) if isinstance(item, Delivery)]
        await member.settle([Done(d) for d in batch])
        seen += batch
    assert {d.part[1] for d in seen} == {0}
    assert len(seen) >= 300
    rest, _ = await collect(member, 1600 - 40 - len(seen))
    assert len({d.position + str(d.part) for d in rest}) == len(rest)


async def test_a_new_group_may_start_at_the_end(lab: Lab) -> None:
    spec = lab.spec(2)
    publish(lab.client, spec, KEYS, range(5))
    member = await lab.join("a", spec, GroupSpec(name="g", start="end", lease=2.0))
    publish(lab.client, spec, KEYS, [5])
    deliveries, _ = await collect(member, 40)
    assert {int(d.record.data) for d in deliveries} == {5}
    await nothing_comes(member)


async def test_a_lost_connection_loses_nothing(lab: Lab) -> None:
    spec = lab.spec(4)
    runner = await lab.run("a", spec, GROUP)
    for number in range(20):
        publish(lab.client, spec, KEYS, [number])
        lab.client.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0.02)
    await wait_until(lambda: len({(n.key, n.number) for n in runner.notes}) == 800, timeout=10)
    check_order(runner.notes, KEYS, 20)
    assert len(runner.notes) == 800  # the member goes on with what it knows: nothing comes twice
    await runner.stop()


# --------------------------------------------------------------------------------------------- giving back, giving up


async def test_what_is_given_back_comes_again_and_its_attempts_outlive_the_owner(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(3))
    member = await lab.join("a", spec, GROUP)
    (one, two, three), _ = await collect(member, 3)
    began = time.monotonic()
    await member.settle([Back(two, after=0.3, attempts=1), Done(three)])
    ((again,), _) = await collect(member, 1)
    assert time.monotonic() - began >= 0.3
    assert (again.position, again.deliveries) == (two.position, 2)
    await member.settle([Back(again, attempts=0)])
    ((again,), _) = await collect(member, 1)
    assert again.deliveries == 2
    await member.settle([Back(again, after=60, attempts=1), Done(one)])
    await wait_until(lambda: state(lab.client, spec, 0).get("try") == f"{two.position}=2")
    await member.leave()
    other = await lab.join("b", spec, GROUP)
    ((again,), _) = await collect(other, 1)
    assert (again.position, again.deliveries) == (two.position, 3)
    await other.settle([Done(again)])
    assert state(lab.client, spec, 0)["cursor"] == three.position
    assert state(lab.client, spec, 0)["try"] == ""


async def test_a_dead_letter_is_stored_with_its_acknowledgement_and_can_be_restored(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(2))
    member = await lab.join("a", spec, GROUP)
    (one, two), _ = await collect(member, 2)
    await member.settle([Done(one), Dead(two, b'{"error": "no"}')])
    assert state(lab.client, spec, 0)["cursor"] == two.position
    ((_, fields),) = lab.client.xrange(group_key(spec, 0, "g", "dead"))
    assert (fields[b"id"], fields[b"data"], fields[b"cause"]) == (b"k.1", b"1", b'{"error": "no"}')
    assert fields[b"origin"].decode() == two.position
    await member.settle([Dead(two, b"{}")])  # settled before: not stored again
    assert lab.client.xlen(group_key(spec, 0, "g", "dead")) == 1

    lab.client.xadd(group_key(spec, 0, "g", "again"), fields)
    ((again,), _) = await collect(member, 1)
    assert (again.position, again.record, again.deliveries) == (two.position, two.record, 1)
    await member.settle([Back(again, attempts=1)])
    ((again,), _) = await collect(member, 1)
    assert again.deliveries == 2
    await member.settle([Done(again)])
    assert lab.client.xlen(group_key(spec, 0, "g", "again")) == 0
    await nothing_comes(member)


async def test_a_commit_whose_reply_was_lost_is_applied_once(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(2))
    member = await lab.join("a", spec, GROUP)
    (one, two), _ = await collect(member, 2)
    (owned,) = member._holdings.owned.values()
    owned.bury(Dead(one, b"{}"), time.monotonic())
    commit = owned.commit()
    replies = await lab.server.run_many("commit", [member._commits._call(owned, commit)])
    assert replies == [1]
    owned.not_committed(commit)  # as if this reply had not come
    await member.settle([Done(two)])
    await wait_until(lambda: state(lab.client, spec, 0)["cursor"] == two.position)
    assert lab.client.xlen(group_key(spec, 0, "g", "dead")) == 1
