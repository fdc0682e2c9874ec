"""Without a handler: take part in a group by hand, and settle each event yourself."""

from __future__ import annotations

from mainstem import Mainstem


async def test_ack_release_and_reject() -> None:
    async with Mainstem() as app:
        jobs = app.stream("jobs")
        await jobs.publish_batch([{"n": 0}, {"n": 1}, {"n": 2}])
        attempts: dict[int, int] = {}

        async with jobs.consume("workers") as received:
            async for item in received:
                attempts[item.data["n"]] = item.event.attempt
                if item.data["n"] == 0:
                    await item.ack()
                elif item.data["n"] == 1 and item.event.attempt == 1:
                    await item.release()  # the group gets it again
                elif item.data["n"] == 2:
                    await item.reject("not a job")  # to the dead letters
                else:
                    await item.ack()
                    break

        (group,) = (await jobs.describe()).groups
        assert attempts == {0: 1, 1: 2, 2: 1}
        assert (group.lag, group.pending, group.dead) == (0, 0, 1)
