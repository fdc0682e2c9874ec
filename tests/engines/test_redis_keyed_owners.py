"""Who owns a partition of a keyed stream: shares, hand-over, takeover, fences; on real servers, with real kills."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engines.keyed_lab import (
    GROUP,
    KEYS,
    Lab,
    Note,
    Runner,
    check_order,
    check_owners,
    collect,
    opened_lab,
    publish,
    state,
    told,
)
from mainstem.engine import (
    Dead,
    Done,
    GroupSpec,
    Lost,
    Revoking,
)
from mainstem.engines.redis.keyed_part import WINDOW
from mainstem.engines.redis.layout import group_key
from waiting import wait_until


@pytest.fixture(params=["redis7_url", "valkey_url"])
async def lab(request: pytest.FixtureRequest, stream_name: str, tmp_path: Path) -> AsyncIterator[Lab]:
    async with opened_lab(request.getfixturevalue(request.param), stream_name, tmp_path) as opened:
        yield opened


async def test_members_share_the_partitions_and_never_own_one_at_once(lab: Lab) -> None:
    spec = lab.spec(16)
    runners: list[Runner] = []

    async def shares(*wanted: int) -> None:
        await wait_until(lambda: sorted(len(r.owned) for r in runners) == sorted(wanted), timeout=8)
        assert set.union(*(r.owned for r in runners)) == set(range(16))

    total = 0

    async def feed() -> None:
        nonlocal total
        while True:
            publish(lab.client, spec, KEYS, [total])
            total += 1
            await asyncio.sleep(0.01)

    feeding = asyncio.create_task(feed())
    for name, wanted in (("c", (16,)), ("a", (8, 8)), ("b", (6, 5, 5))):
        runners.append(await lab.run(name, spec, GROUP))
        await shares(*wanted)
    gone = runners.pop(0)
    await gone.stop()
    await shares(8, 8)
    feeding.cancel()
    await asyncio.wait([feeding])
    everyone = [gone, *runners]
    await wait_until(lambda: len({(n.key, n.number) for r in everyone for n in r.notes}) == total * len(KEYS))
    for runner in runners:
        await runner.stop()
    notes = [note for runner in everyone for note in runner.notes]
    check_owners(notes)
    check_order(notes, KEYS, total)
    assert len(notes) == total * len(KEYS), "a hand-over that drains runs nothing twice"
    assert not [d for runner in everyone for d in runner.fenced]


async def test_a_hand_over_that_is_not_drained_in_time_goes_on_without(lab: Lab) -> None:
    spec = lab.spec(2)
    group = GroupSpec(name="g", lease=2.0, drain=0.5)
    publish(lab.client, spec, KEYS, range(1))
    slow = await lab.join("a", spec, group)
    deliveries, _ = await collect(slow, 40)
    other = await lab.join("b", spec, group)
    revoking = await told(slow, Revoking)
    assert isinstance(revoking, Revoking)
    lost = await told(slow, Lost)
    assert lost == Lost(revoking.part)
    again, _ = await collect(other, len([d for d in deliveries if d.part == revoking.part]))
    assert {d.part for d in again} == {revoking.part}
    late = [d for d in deliveries if d.part == revoking.part]
    assert await slow.settle([Done(d) for d in deliveries]) == late
    assert await other.settle([Done(d) for d in again]) == []


async def test_a_killed_member_is_replaced_within_its_lease_and_nothing_is_lost(lab: Lab) -> None:
    spec = lab.spec(16)
    publish(lab.client, spec, KEYS, range(30))
    doomed = lab.work("w", spec, GROUP, pause=0.004)
    await wait_until(lambda: len(doomed.notes()) >= 30, timeout=10)
    heir = await lab.run("a", spec, GROUP)
    await wait_until(lambda: heir.notes, timeout=10)
    os.kill(doomed.process.pid, signal.SIGKILL)
    killed = time.monotonic()
    doomed.process.wait()
    await wait_until(lambda: len(heir.owned) == 16, timeout=GROUP.lease + 2)
    assert time.monotonic() - killed <= GROUP.lease + 2
    theirs = doomed.notes()

    def all_notes() -> list[Note]:
        return [*theirs, *heir.notes]

    await wait_until(lambda: len({(n.key, n.number) for n in all_notes()}) == 1200, timeout=20)
    await heir.stop()
    check_order(all_notes(), KEYS, 30)
    check_owners(all_notes())
    settled = {(line["settled"][0], line["settled"][1]) for line in doomed.lines() if "settled" in line}
    twice = [place for place, count in Counter((n.partition, n.position) for n in all_notes()).items() if count > 1]
    assert len([place for place in twice if place in settled]) <= 8, "only what no commit carried yet"


async def test_order_by_key_holds_while_members_join_leave_and_are_killed(lab: Lab) -> None:
    spec = lab.spec(8)
    group = GroupSpec(name="g", lease=1.0, drain=1.0)
    chance = random.Random(7)
    alive = [lab.work(f"w{number}", spec, group, pause=0.001) for number in range(2)]
    count = 0

    def notes() -> list[Note]:
        return [note for worker in lab.workers for note in worker.notes()]

    for number in range(2, 7):
        for _ in range(40):
            publish(lab.client, spec, KEYS, [count])
            count += 1
            await asyncio.sleep(0.02)
        alive.append(lab.work(f"w{number}", spec, group, pause=0.001))
        victim = alive.pop(chance.randrange(len(alive) - 1))
        how = chance.choice([signal.SIGKILL, signal.SIGTERM])
        victim.process.send_signal(how)
        await wait_until(lambda v=victim: v.process.poll() is not None)  # type: ignore[misc]
    await wait_until(lambda: len({(n.key, n.number) for n in notes()}) == count * len(KEYS), timeout=20, every=0.2)
    check_order(notes(), KEYS, count)
    check_owners(notes())


async def test_a_stopped_member_is_fenced_and_told(lab: Lab) -> None:
    spec = lab.spec(4)
    group = GroupSpec(name="g", lease=1.0, drain=1.0)
    zombie = lab.work("w", spec, group, pause=0.05, limit=1)
    publish(lab.client, spec, KEYS, range(3))
    await wait_until(lambda: len(zombie.notes()) >= 3, timeout=10)
    os.kill(zombie.process.pid, signal.SIGSTOP)
    heir = await lab.run("a", spec, group)
    await wait_until(lambda: len(heir.owned) == 4, timeout=5)
    await wait_until(lambda: len({(n.key, n.number) for n in [*zombie.notes(), *heir.notes]}) == 120, timeout=10)
    before = [state(lab.client, spec, p) for p in range(4)]
    settled = len(zombie.told("settled"))
    os.kill(zombie.process.pid, signal.SIGCONT)
    await wait_until(lambda: zombie.told("lost"), timeout=5)
    await wait_until(lambda: len(zombie.told("settled")) > settled, timeout=5)
    late = [line for line in zombie.lines() if "settled" in line][settled:]
    assert [line["fenced"] for line in late[:1]] == [1]
    zombie.end()
    for partition, was in enumerate(before):
        now = state(lab.client, spec, partition)
        assert int(now["read"]) >= int(was["read"])
    await heir.stop()
    check_owners([*zombie.notes(), *heir.notes])


async def test_a_blocked_event_loop_keeps_its_partitions(lab: Lab) -> None:
    spec = lab.spec(4)
    group = GroupSpec(name="g", lease=1.0, drain=5.0)
    publish(lab.client, spec, ["k"], range(2))
    busy = lab.work("w", spec, group, blocks="1", blocks_for=3.0)
    await wait_until(lambda: busy.told("blocking"), timeout=10)
    tokens = [state(lab.client, spec, p)["token"] for p in range(4)]
    other = await lab.join("a", spec, group)
    while not busy.told("unblocked"):
        assert [state(lab.client, spec, p)["token"] for p in range(4)] == tokens
        await asyncio.sleep(0.05)
    await wait_until(lambda: len(busy.told("settled")) == 2, timeout=5)
    assert [line["fenced"] for line in busy.lines() if "fenced" in line] == [0, 0]
    assert not busy.told("lost")
    await wait_until(lambda: len(other._holdings.owned) == 2, timeout=5)


async def test_a_zombies_commit_is_refused_by_the_server(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(3))
    member = await lab.join("a", spec, GROUP)
    deliveries, _ = await collect(member, 3)
    lab.client.hset(group_key(spec, 0, "g"), mapping={"owner": "b", "token": "9999999999999"})
    before = state(lab.client, spec, 0)
    assert await member.settle([Done(d) for d in deliveries]) == deliveries
    assert state(lab.client, spec, 0) == before
    assert await told(member, Lost) == Lost((spec.name, 0))


async def test_a_member_that_cannot_renew_stops_before_its_lease_ends(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(3))
    member = await lab.join("a", spec, GROUP)
    deliveries, _ = await collect(member, 3)
    lab.server.renewals(GROUP.lease).remove("a")
    began = time.monotonic()
    assert await told(member, Lost) == Lost((spec.name, 0))
    assert time.monotonic() - began <= GROUP.lease
    assert await member.settle([Done(d) for d in deliveries]) == deliveries


async def test_tokens_rise_even_when_the_state_was_lost(lab: Lab) -> None:
    spec = lab.spec(1)
    publish(lab.client, spec, ["k"], range(1))
    tokens: list[int] = []
    for number in range(4):
        member = await lab.join(f"m{number}", spec, GROUP)
        await collect(member, 1)
        tokens.append(int(state(lab.client, spec, 0)["token"]))
        await member.leave()
        if number % 2:
            lab.client.delete(group_key(spec, 0, "g"))
    assert tokens == sorted(set(tokens))


async def test_a_poison_that_kills_its_process_does_not_loop_for_ever(lab: Lab) -> None:
    spec = lab.spec(1)
    group = GroupSpec(name="g", lease=0.6, drain=1.0)
    publish(lab.client, spec, ["k"], range(6))
    for number in range(4):
        worker = lab.work(f"w{number}", spec, group, kills="3")
        await wait_until(lambda w=worker: w.process.poll() is not None, timeout=15)  # type: ignore[misc]
    notes = [note for worker in lab.workers for note in worker.notes()]
    assert [n.deliveries for n in notes if n.number == 3] == [1, 1, 2, 3]
    after_the_first = [note for worker in lab.workers[1:] for note in worker.notes()]
    assert max(n.number for n in after_the_first) == 3, "none of its neighbours is handed out together with it"
    survivor = await lab.join("s", spec, group)
    for expected in range(3, 6):
        ((delivery,), _) = await collect(survivor, 1, within=5)
        assert (int(delivery.record.data), delivery.deliveries) == (expected, 4 if expected == 3 else 1)
        item = Dead(delivery, b"{}") if expected == 3 else Done(delivery)
        await survivor.settle([item])
    publish(lab.client, spec, ["k"], range(6, 9))
    rest, _ = await collect(survivor, 3)
    await survivor.settle([Done(d) for d in rest])
    assert state(lab.client, spec, 0)["crashes"] == "0"


async def test_order_holds_where_the_probation_after_a_crash_ends(lab: Lab) -> None:
    spec = lab.spec(1)
    group = GroupSpec(name="g", lease=0.6)
    publish(lab.client, spec, ["k"], range(WINDOW + 100))
    first = await lab.join("a", spec, group)
    await collect(first, 1)
    first.cut()
    heir = await lab.run("b", spec, group)
    await wait_until(lambda: len(heir.notes) >= WINDOW + 100, timeout=20)
    assert [note.number for note in heir.notes] == list(range(WINDOW + 100))
    assert [note.deliveries for note in heir.notes] == [2] + [1] * (WINDOW + 99)
    await heir.stop()
    assert "crashes" not in state(lab.client, spec, 0) or state(lab.client, spec, 0)["crashes"] == "0"
