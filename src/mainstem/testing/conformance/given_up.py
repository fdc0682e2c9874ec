"""Dead letters: moved whole, restored to one group only, purged."""

from __future__ import annotations

import time

import pytest

from mainstem.engine import Dead, DeadLetters
from mainstem.testing.conformance.scene import BOTH, Scene, ids, record, requires, strange_record, until
from mainstem.testing.elsewhere import zombie

_CAUSE = b'{"error":"ValueError","attempts":3}'


class GivenUp:
    @requires("dead")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_dead_letter_keeps_every_byte(self, scene: Scene, partitions: int) -> None:
        """The record with the fields of foreign writers, the cause, the origin and the time are all there."""
        spec = await scene.stream(partitions)
        strange = strange_record((b"\xff\x00", bytes(range(256)), b"cause", b"mine"))
        await scene.publish(spec, strange)
        reader = await scene.reader(spec)
        (delivery,) = await reader.get(1)
        await reader.dead(delivery, _CAUSE)
        (letter,) = await _letters(scene).dead(spec.name, "g", "", 10)
        assert letter.record == strange
        assert (letter.part, letter.position, letter.cause) == (delivery.part, delivery.position, _CAUSE)
        assert abs(letter.at_ms / 1000 - time.time()) < 60

    @requires("dead")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_giving_up_settles_the_event(self, scene: Scene, partitions: int) -> None:
        """It does not come again, later events go on, and other groups are not touched."""
        spec = await scene.stream(partitions)
        reader, other = await scene.reader(spec), await scene.reader(spec, name="other")
        await scene.publish_ids(spec, "a", "b")
        first, second = await reader.get(2)
        await reader.dead(first)
        assert await reader.done(second) == []
        await reader.member.leave()
        again = await scene.reader(spec)
        await again.nothing(scene.lease * 1.5)
        assert ids(await other.get(2, settle=True)) == ["a", "b"]
        assert ((await scene.figures(spec)).dead, (await scene.figures(spec, "other")).dead) == (1, 0)
        assert await _letters(scene).dead(spec.name, "other", "", 10) == []

    @requires("dead")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_dead_letters_are_listed_in_pages(self, scene: Scene, partitions: int) -> None:
        """Oldest first, `limit` at a time, each page behind the last id of the one before."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, *(f"e{n}" for n in range(7)))
        for delivery in await reader.get(7):
            await reader.dead(delivery)
        seen: list[str] = []
        after = ""
        while page := await _letters(scene).dead(spec.name, "g", after, 3):
            assert len(page) <= 3
            seen += [letter.record.id.decode() for letter in page]
            after = page[-1].id
        assert seen == [f"e{n}" for n in range(7)]

    @requires("dead")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_restored_letters_reach_their_group_only(self, scene: Scene, partitions: int) -> None:
        """They come again as first deliveries, byte for byte; the others stay, and other groups see nothing."""
        spec = await scene.stream(partitions)
        reader, other = await scene.reader(spec), await scene.reader(spec, name="other")
        await scene.publish_ids(spec, "a", "b", "c")
        await other.get(3, settle=True)
        for delivery in await reader.get(3):
            await reader.dead(delivery)
        letters = await _letters(scene).dead(spec.name, "g", "", 10)
        chosen = [letters[0].id, letters[2].id]
        assert await _letters(scene).restore(spec.name, "g", chosen) == 2
        got = await reader.get(2, settle=True)
        assert [each.record for each in got] == [record("a"), record("c")]
        assert [each.deliveries for each in got] == [1, 1]
        await other.nothing(0.3)
        await reader.nothing(0.3)
        left = await _letters(scene).dead(spec.name, "g", "", 10)
        assert [letter.record.id for letter in left] == [b"b"]

    @requires("dead")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_a_restored_letter_survives_a_crash(self, scene: Scene, partitions: int) -> None:
        """Until it is settled it comes again, as any other event."""
        spec = await scene.stream(partitions)
        doomed = await scene.another()
        reader = await scene.reader(spec, engine=doomed)
        await scene.publish_ids(spec, "a")
        (delivery,) = await reader.get(1)
        await reader.dead(delivery)
        (letter,) = await _letters(scene).dead(spec.name, "g", "", 10)
        await _letters(scene).restore(spec.name, "g", [letter.id])
        assert ids(await reader.get(1)) == ["a"]
        scene.crash(doomed)
        heir = await scene.reader(spec)
        assert ids(await heir.get(1, settle=True, within=scene.recovery)) == ["a"]
        await heir.nothing(0.3)

    @requires("dead")
    @pytest.mark.parametrize("partitions", BOTH)
    async def test_purged_letters_are_gone(self, scene: Scene, partitions: int) -> None:
        """Only those that are named, and they never come again; the result says how many there were."""
        spec = await scene.stream(partitions)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b")
        for delivery in await reader.get(2):
            await reader.dead(delivery)
        first, second = await _letters(scene).dead(spec.name, "g", "", 10)
        assert await _letters(scene).purge(spec.name, "g", [first.id]) == 1
        assert await _letters(scene).purge(spec.name, "g", [first.id]) == 0
        assert await _letters(scene).dead(spec.name, "g", "", 10) == [second]
        assert await _letters(scene).restore(spec.name, "g", [first.id]) == 0
        await reader.nothing(0.3)

    @requires("dead")
    async def test_dead_letters_are_outside_patterns(self, scene: Scene) -> None:
        """Giving up creates no stream that a pattern could match."""
        spec = await scene.stream()
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a")
        (delivery,) = await reader.get(1)
        await reader.dead(delivery)
        assert await scene.engine.streams(f"{spec.name}*") == [spec]

    @requires("dead")
    @pytest.mark.parametrize("partitions", [0, 1], ids=["queue", "keyed"])
    async def test_a_zombie_gives_up_nothing(self, scene: Scene, partitions: int) -> None:
        """Its verdict is refused: no letter is written, and the new owner goes on."""
        spec = await scene.stream(partitions)
        async with zombie(scene.harness, await scene.another(), spec, scene.group()) as old:
            await scene.publish_ids(spec, "a")
            assert await old.receive(1) == ["a"]
            await old.freeze()
            new = await scene.reader(spec)
            (delivery,) = await new.get(1, within=scene.recovery + scene.lease)
            assert await old.settle("dead") == ["a"]
        assert await _letters(scene).dead(spec.name, "g", "", 10) == []
        assert await new.done(delivery) == []

    @requires("dead", "until_read")
    async def test_a_dead_letter_does_not_hold_the_stream(self, scene: Scene) -> None:
        """An event given up is settled, so an until-read stream may drop it; the letter stays."""
        spec = await scene.stream(until_read=True)
        reader = await scene.reader(spec)
        await scene.publish_ids(spec, "a", "b")
        first, second = await reader.get(2)
        fenced = await reader.member.settle([Dead(first, _CAUSE)])
        assert [*fenced, *await reader.done(second)] == []

        async def empty() -> bool:
            await reader.nothing(0.05)
            return (await scene.engine.describe(spec.name)).length == 0

        await until(empty, "the stream drops what is settled")
        assert [each.record.id for each in await _letters(scene).dead(spec.name, "g", "", 10)] == [b"a"]


def _letters(scene: Scene) -> DeadLetters:
    letters = scene.engine.can.dead
    assert letters is not None
    return letters
