"""Archive every stream that matches a pattern, many events at a time, into one file of lines per stream."""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mainstem import Mainstem, Received

app = Mainstem()
archived = 0
done = threading.Event()


@app.subscribe_batch(app.pattern("news.*"), group="archive", size=500, max_wait="50ms")
def archive(events: Sequence[Received[Any]]) -> None:
    """Not async, so it runs in a thread and may block.

    A batch is acknowledged when this returns. After a crash it comes again, so the id is kept with each line.
    """
    global archived
    lines = defaultdict[str, list[str]](list)
    for event in events:
        lines[event.stream].append(json.dumps({"id": event.id, "time": str(event.time), "data": event.data}))
    for stream, its_lines in lines.items():
        with Path(f"{stream}.ndjson").open("a") as file:
            file.write("\n".join(its_lines) + "\n")
    archived += len(events)
    print("archived a batch of", len(events))
    if archived == 600:
        done.set()


async def main() -> None:
    async with Mainstem() as publisher, app.running():
        for topic in ("sports", "weather"):  # streams that come later are archived too
            news = publisher.stream(f"news.{topic}")
            await news.publish_batch([{"headline": f"{topic} {number}"} for number in range(300)])
        await asyncio.to_thread(done.wait, 30)


asyncio.run(main())
found = [json.loads(line) for path in Path().glob("news.*.ndjson") for line in path.read_text().splitlines()]
assert len({line["id"] for line in found}) == 600
