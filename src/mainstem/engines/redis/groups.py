"""
Groups of queues as wholes: making them, also again after the server lost them, and reading what scripts tell of them.

No member's state lives here.
"""

from __future__ import annotations

from collections.abc import Sequence

from mainstem.engine import StreamSpec
from mainstem.engines.redis.group_scripts import CREATE, SWEEP
from mainstem.engines.redis.holds import Source
from mainstem.engines.redis.layout import clock, log_key
from mainstem.engines.redis.replies import checked, data
from mainstem.engines.redis.scripts import Call
from mainstem.engines.redis.server import Server

MANY = 500
"""Scripts in one write."""


async def create(server: Server, sources: Sequence[Source], group: str, start: str) -> dict[Source, str]:
    """Make the group on each log where it is missing, at its checkpoint, else at ``start``; returns the new ones and
    where they stand. Raises what the server refuses, translated."""
    made: dict[Source, str] = {}
    for at in range(0, len(sources), MANY):
        some = sources[at : at + MANY]
        calls = [Call(CREATE, (source.log, source.group), (group, start)) for source in some]
        replies = await server.run_many(f"create the group {group!r}", calls)
        for source, reply in zip(some, replies, strict=True):
            where = data(checked(reply, f"create the group {group!r} of stream {source.spec.name!r}"))
            if where:
                made[source] = where.decode()
    return made


def sweep_call(spec: StreamSpec, partition: int, pause: float) -> Call | None:
    """The call that trims what retention lets go, done by one of all that ask within ``pause`` seconds."""
    log = log_key(spec, partition)
    tag = log if spec.keyed else b"{" + log + b"}"
    keys = (log, tag + b":sweep")
    if spec.until_read:
        return Call(SWEEP, keys, (int(pause * 1000), b"READ"))
    if spec.retain is None:
        return None
    oldest = max(0, int((clock() - spec.retain) * 1000))
    return Call(SWEEP, keys, (int(pause * 1000), b"MINID", oldest))
