"""Declaring streams, publishing to them, and the bytes that must survive."""

from __future__ import annotations

import pytest

from mainstem.engine import Record, StreamSpec
from mainstem.errors import MainstemError
from mainstem.testing.conformance.scene import BOTH, SOON, Scene, ids, position, record, strange_record


class Publishing:
    async def test_declare_creates_and_returns_the_specification(self, scene: Scene) -> None:
        """Every field of a specification is stored with the stream."""
        spec = scene.spec(4, type="Trade", retain=3600.0, max_events=5000)
        assert await scene.engine.declare(spec) == spec
        assert await (await scene.another()).declare(spec) == spec

    async def test_declare_returns_what_is_stored(self, scene: Scene) -> None:
        """A stream that exists is not changed by declaring it otherwise."""
        stored = await scene.stream(2, type="Trade")
        asked = StreamSpec(name=stored.name, partitions=3, type="Order")
        assert await scene.engine.declare(asked) == stored
        assert await scene.engine.streams(stored.name) == [stored]

    async def test_streams_lists_matching_names_in_order(self, scene: Scene) -> None:
        """`*` matches any text, `?` one character; the result is sorted by name."""
        names = [f"{scene.name}.{end}" for end in ("b1", "a2", "b2", "b10")]
        for name in names:
            await scene.engine.declare(StreamSpec(name=name))
        found = await scene.engine.streams(f"{scene.name}.b*")
        assert [spec.name for spec in found] == [names[0], names[3], names[2]]
        assert [spec.name for spec in await scene.engine.streams(f"{scene.name}.?2")] == [names[1], names[2]]
        assert await scene.engine.streams(f"{scene.name}.c*") == []

    async def test_publish_stores_in_order(self, scene: Scene) -> None:
        """Positions come back one a record, in the order of the records, and are where the records are."""
        spec = await scene.stream()
        wanted = [f"e{n}" for n in range(250)]
        positions = await scene.publish_ids(spec, *wanted)
        page = await scene.engine.read(spec.name, {}, 1000, 0.0)
        assert ids(page.deliveries) == wanted
        assert [each.position for each in page.deliveries] == positions
        assert len(set(positions)) == len(positions)

    async def test_publish_spreads_to_the_stated_partitions(self, scene: Scene) -> None:
        """A record is stored in the partition that the caller names, and in no other."""
        spec = await scene.stream(3)
        parts = [(spec.name, n % 3) for n in range(30)]
        await scene.publish_to([(part, record(f"e{n}")) for n, part in enumerate(parts)])
        page = await scene.engine.read(spec.name, {}, 100, 0.0)
        for partition in range(3):
            here = [each for each in page.deliveries if each.part == (spec.name, partition)]
            assert ids(here) == [f"e{n}" for n in range(30) if n % 3 == partition]

    async def test_publish_gives_each_record_its_outcome(self, scene: Scene) -> None:
        """A record of a stream that was never declared fails, and only it: those before it in the batch are stored."""
        spec = await scene.stream()
        unknown = scene.spec()
        batch = [((spec.name, 0), record("a")), ((spec.name, 0), record("c")), ((unknown.name, 0), record("b"))]
        first, last, failed = await scene.engine.publish(batch, SOON)
        assert isinstance(failed, MainstemError)
        stored = [position(first), position(last)]
        page = await scene.engine.read(spec.name, {}, 10, 0.0)
        assert ids(page.deliveries) == ["a", "c"]
        assert [each.position for each in page.deliveries] == stored

    async def test_publishing_nothing_does_nothing(self, scene: Scene) -> None:
        """An empty batch has no outcomes."""
        assert list(await scene.engine.publish([], SOON)) == []

    @pytest.mark.parametrize("partitions", BOTH)
    async def test_any_bytes_survive_in_any_field(self, scene: Scene, partitions: int) -> None:
        """Fields are bytes: not text, not trimmed, not ended by a zero; fields of foreign writers are kept too."""
        spec = await scene.stream(partitions)
        odd = bytes(range(256))
        strange = strange_record((b"\xff\x00x", odd, b"trace", b""))
        await scene.publish(spec, strange)
        page = await scene.engine.read(spec.name, {}, 10, 0.0)
        assert [each.record for each in page.deliveries] == [strange]
        (delivery,) = await (await scene.reader(spec)).get(1)
        assert delivery.record == strange

    async def test_empty_fields_survive(self, scene: Scene) -> None:
        """An event without key, data and meta is an event."""
        spec = await scene.stream()
        empty = Record(b"e1", b"t", b"s", b"2026-01-02T03:04:05Z", b"", b"", b"")
        await scene.publish(spec, empty)
        (delivery,) = await (await scene.reader(spec)).get(1)
        assert delivery.record == empty

    async def test_an_event_of_one_mebibyte_survives(self, scene: Scene) -> None:
        """Big data arrives whole, among small events and in order."""
        spec = await scene.stream()
        big = record("big", data=bytes(n % 251 for n in range(1 << 20)))
        await scene.publish(spec, record("a"), big, record("b"))
        got = await (await scene.reader(spec)).get(3)
        assert [each.record for each in got] == [record("a"), big, record("b")]
