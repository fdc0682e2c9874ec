"""A process with one member, for tests that kill, stop or starve it. Its orders are one JSON object."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from engines.keyed_lab import NOTHING, note_of, open_server
from mainstem.engine import Delivery, Done, GroupSpec, Lost, Revoking, StreamSpec
from mainstem.engines.redis.keyed import RedisKeyedMember


async def main(orders: dict[str, object]) -> None:
    name = str(orders["name"])
    out = os.open(str(orders["path"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(**what: object) -> None:
        os.write(out, json.dumps(what).encode() + b"\n")

    spec = StreamSpec(name=str(orders["stream"]), partitions=int(str(orders["partitions"])))
    group = GroupSpec(name=str(orders["group"]), lease=float(str(orders["lease"])), drain=float(str(orders["drain"])))
    member = RedisKeyedMember(open_server(str(orders["url"])), group, f"{name}-{os.getpid()}")
    await member.follow([spec])
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    pause = float(str(orders.get("pause", 0)))
    while not leaving.is_set():
        batch = await member.receive(int(str(orders.get("limit", 50))), 0.5, NOTHING)
        for item in batch:
            if isinstance(item, Revoking):
                await member.yield_part(item.part)
            elif isinstance(item, Lost):
                tell(lost=item.part[1], at=time.monotonic())
            if not isinstance(item, Delivery):
                continue
            tell(note=dataclasses.asdict(note_of(item, name)))
            if item.record.data == str(orders.get("kills", "none")).encode():
                os.kill(os.getpid(), signal.SIGKILL)
            if item.record.data == str(orders.get("blocks", "none")).encode():
                tell(blocking=time.monotonic())
                time.sleep(float(str(orders["blocks_for"])))  # noqa: ASYNC251 - the handler that hogs the loop
                tell(unblocked=time.monotonic())
            await asyncio.sleep(pause)
            fenced = await member.settle([Done(item)])
            tell(settled=(item.part[1], item.position), fenced=len(fenced))
    await member.leave()


asyncio.run(main(json.loads(sys.argv[1])))
