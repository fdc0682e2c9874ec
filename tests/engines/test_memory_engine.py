"""What only the memory engine has: stalling, and errors that name what is wrong. The rest is in the suite."""

from __future__ import annotations

import pytest

from mainstem.engine import Delivery, GroupSpec, Incident, Lost, Record, StreamSpec
from mainstem.engines.memory import MemoryEngine, MemoryStore, open_engine
from mainstem.engines.memory.member import MemoryMember
from mainstem.errors import ConfigError, Unavailable

SPEC = StreamSpec(name="s")
RECORD = Record(b"e1", b"t", b"s", b"2026-01-02T03:04:05Z", b"", b"{}", b"")


async def _joined(engine: MemoryEngine, lease: float = 0.05) -> MemoryMember:
    member = await engine.join(GroupSpec(name="g", lease=lease))
    await member.follow([SPEC])
    return member


async def test_each_url_opens_a_store_of_its_own() -> None:
    first, second = await open_engine("memory://"), await open_engine("memory://")
    await first.declare(SPEC)
    assert await second.streams("*") == []


async def test_a_stalled_member_learns_what_it_lost() -> None:
    store = MemoryStore()
    stalled, other = MemoryEngine(store), MemoryEngine(store)
    old, new = await _joined(stalled), await _joined(other)
    await other.publish([(("s", 0), RECORD)], 0.0)
    (held,) = await old.receive(1, 1.0, frozenset())
    stalled.stall()
    (again,) = await new.receive(1, 1.0, frozenset())
    assert isinstance(held, Delivery)
    assert isinstance(again, Delivery)
    assert again.deliveries == 2
    assert await old.receive(1, 0.0, frozenset()) == [Lost(("s", 0), (held.position,))]


async def test_a_stalled_member_that_receives_again_in_time_keeps_its_events() -> None:
    store = MemoryStore()
    engine, other = MemoryEngine(store), MemoryEngine(store)
    member, thief = await _joined(engine, lease=30.0), await _joined(other)
    await engine.publish([(("s", 0), RECORD)], 0.0)
    await member.receive(1, 1.0, frozenset())
    engine.stall()
    assert await member.receive(1, 0.0, frozenset()) == []
    assert member.expires == float("inf")
    assert await thief.receive(1, 0.1, frozenset()) == []


async def test_a_group_that_was_deleted_is_made_again_with_an_incident() -> None:
    engine = MemoryEngine()
    member = await _joined(engine)
    await engine.publish([(("s", 0), RECORD)], 0.0)
    await member.receive(1, 1.0, frozenset())
    admin = engine.can.admin
    assert admin is not None
    await admin.delete_group("s", "g")
    incident, again = await member.receive(1, 1.0, frozenset())
    assert isinstance(incident, Incident)
    assert isinstance(again, Delivery)


async def test_what_is_wrong_is_named() -> None:
    engine = MemoryEngine()
    with pytest.raises(ConfigError, match="'nothing' is not declared"):
        await engine.describe("nothing")
    await engine.declare(SPEC)
    with pytest.raises(ConfigError, match="no cursor of stream 's'"):
        await engine.read("s", {0: "first"}, 1, 0.0)
    (outcome,) = await engine.publish([(("s", 3), RECORD)], 0.0)
    assert isinstance(outcome, ConfigError)
    admin = engine.can.admin
    assert admin is not None
    with pytest.raises(ConfigError, match="only its retention"):
        await admin.amend(StreamSpec(name="s", partitions=2))


async def test_after_an_abort_everything_is_refused() -> None:
    engine = MemoryEngine()
    member = await _joined(engine)
    engine.abort()
    with pytest.raises(Unavailable, match="aborted"):
        await engine.streams("*")
    with pytest.raises(Unavailable, match="aborted"):
        await member.receive(1, 0.0, frozenset())
    await member.leave()
    await engine.close()
