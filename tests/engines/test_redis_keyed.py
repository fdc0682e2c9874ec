"""Keyed mode on real servers, the oldest and the newest supported: leases, fences, hand-over, order, gaps."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from engines.keyed_lab import (
    NOTHING,
    Note,
    Runner,
    Worker,
    check_order,
    check_owners,
    open_server,
    publish,
    start_worker,
    state,
)
from mainstem.engine import (
    Back,
    Dead,
    Delivery,
    Done,
    Gained,
    Gap,
    GroupSpec,
    Incident,
    Lost,
    Revoking,
    Signal,
    StreamSpec,
)
from mainstem.engines.redis.keyed import RedisKeyedMember
from mainstem.engines.redis.keyed_part import WINDOW
from mainstem.engines.redis.layout import group_key, log_key, members_key
from mainstem.engines.redis.server import Server
from waiting import wait_until


@dataclass
class Lab:
    """A server, a stream on it, and the members that a test made."""

    url: str
    name: str
    folder: Path
    client: redis.Redis
    server: Server
    members: list[RedisKeyedMember] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)

    def spec(self, partitions: int) -> StreamSpec:
        return StreamSpec(name=self.name, partitions=partitions)

    async def join(self, name: str, spec: StreamSpec, group: GroupSpec) -> RedisKeyedMember:
        member = RedisKeyedMember(self.server, group, name)
        self.members.append(member)
        await member.follow([spec])
        return member

    async def run(self, name: str, spec: StreamSpec, group: GroupSpec, **how: object) -> Runner:
        return Runner(await self.join(name, spec, group), name, **how).start()  # type: ignore[arg-type]

    def work(self, name: str, spec: StreamSpec, group: GroupSpec, **how: object) -> Worker:
        self.workers.append(start_worker(self.url, spec, group, name, self.folder, **how))
        return self.workers[-1]


@pytest.fixture(params=["redis7_url", "valkey_url"])
async def lab(request: pytest.FixtureRequest, stream_name: str, tmp_path: Path) -> AsyncIterator[Lab]:
    url: str = request.getfixturevalue(request.param)
    client = redis.Redis.from_url(url)
    client.flushall()
    server = open_server(url)
    await server.open()
    made = Lab(url, stream_name, tmp_path, client, server)
    yield made
    for worker in made.workers:
        worker.end()
    for member in made.members:
        await member.leave()
    await server.close()
    client.close()


GROUP = GroupSpec(name="g", lease=2.0, drain=2.0)
KEYS = [f"k{number}" for number in range(40)]


async def collect(
    member: RedisKeyedMember, count: int, within: float = 5.0, limit: int = 100
) -> tuple[list[Delivery], list[Signal]]:
    """Receive until there are so many deliveries."""
    deliveries: list[Delivery] = []
    signals: list[Signal] = []
    deadline = time.monotonic() + within
    while len(deliveries) < count:
        assert time.monotonic() < deadline, f"{len(deliveries)} of {count} deliveries, {signals}"
        for item in await member.receive(limit, 0.2, NOTHING):
            if isinstance(item, Delivery):
                deliveries.append(item)
            else:
                signals.append(item)
    return deliveries, signals


async def told(member: RedisKeyedMember, kind: type, within: float = 5.0) -> Signal:
    """Receive until it tells a signal of this kind."""
    deadline = time.monotonic() + within
    while True:
        assert time.monotonic() < deadline, f"no {kind.__name__}"
        for item in await member.receive(100, 0.2, NOTHING):
            if isinstance(item, kind):
                return item  # type: ignore[return-value]


async def nothing_comes(member: RedisKeyedMember, seconds: float = 0.4) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert not [item for item in await member.receive(100, 0.1, NOTHING) if isinstance(item, Delivery)]


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
    await member.settle([Back(two, after=0.3, counted=True), Done(three)])
    ((again,), _) = await collect(member, 1)
    assert time.monotonic() - began >= 0.3
    assert (again.position, again.deliveries) == (two.position, 2)
    await member.settle([Back(again, counted=False)])
    ((again,), _) = await collect(member, 1)
    assert again.deliveries == 2
    await member.settle([Back(again, after=60, counted=True), Done(one)])
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
    await member.settle([Back(again, counted=True)])
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


# ------------------------------------------------------------------------------------------------------------- owning


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


# ------------------------------------------------------------------------------------------- losses and what remains


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
