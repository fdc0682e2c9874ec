"""Without a handler: take events of a group one by one, and say what becomes of each."""

import asyncio

from mainstem import Mainstem


async def main() -> None:
    async with Mainstem() as app:
        jobs = app.stream("jobs")
        await jobs.publish_batch([{"job": "print"}, {"job": "fail"}, {"job": "nonsense"}])

        done: list[str] = []
        async with jobs.consume("workers") as received:
            async for item in received:
                name, attempt = item.data["job"], item.event.attempt
                if name == "nonsense":
                    await item.reject("no such job")  # to the group's dead letters: `mainstem dead ls jobs`
                elif name == "fail" and attempt == 1:
                    await item.release(after="100ms")  # again later, for any member of the group
                else:
                    await item.ack()
                    done.append(f"{name} at attempt {attempt}")
                if len(done) == 2:
                    break

        print(done)
        assert done == ["print at attempt 1", "fail at attempt 2"]
        (group,) = (await jobs.describe()).groups
        assert (group.pending, group.dead) == (0, 1)


asyncio.run(main())
