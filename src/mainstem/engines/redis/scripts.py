"""
Running Lua on the server: a script is its source and its digest, sent by digest, and as source where it is unknown.

No script's text stands here (``queue_scripts``, ``group_scripts`` and ``keyed_scripts`` have them), and no user's text
ever becomes part of one: names and data travel as KEYS and ARGV. Repeating a call after NOSCRIPT is safe: nothing ran.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import redis
from redis.exceptions import NoScriptError

from mainstem.engines.redis.wire import Reply, ReplyError, Wire, command

Arguments: TypeAlias = "Sequence[bytes | str | int]"


@dataclass(frozen=True, slots=True)
class Script:
    """Lua source and the digest under which a server knows it."""

    source: bytes
    sha: bytes

    def by_sha(self, keys: Sequence[bytes], args: Arguments) -> bytes:
        """The packed command that runs it where it is known; otherwise the reply is a NOSCRIPT error."""
        return command(b"EVALSHA", self.sha, len(keys), *keys, *args)

    def in_full(self, keys: Sequence[bytes], args: Arguments) -> bytes:
        """The packed command that runs it anywhere, and makes it known."""
        return command(b"EVAL", self.source, len(keys), *keys, *args)


def lua(*pieces: str) -> Script:
    """A script made of pieces, the functions it uses first."""
    source = "\n".join(pieces).encode()
    return Script(source, hashlib.sha1(source, usedforsecurity=False).hexdigest().encode())


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a script, to be sent among others."""

    script: Script
    keys: Sequence[bytes]
    args: Arguments


async def run(wire: Wire, call: Call) -> Reply:
    """Run one script; error replies are values. Raises NotSent or ReplyLost."""
    reply = await wire.send(call.script.by_sha(call.keys, call.args))
    if is_unknown(reply):
        reply = await wire.send(call.script.in_full(call.keys, call.args))
    return reply


async def run_many(wire: Wire, calls: Sequence[Call]) -> list[Reply]:
    """Run many in one write; error replies are values. Raises NotSent or ReplyLost."""
    if not calls:
        return []
    replies = await wire.send_many([call.script.by_sha(call.keys, call.args) for call in calls], len(calls))
    unknown = [at for at, reply in enumerate(replies) if is_unknown(reply)]
    if unknown:
        again = [calls[at].script.in_full(calls[at].keys, calls[at].args) for at in unknown]
        for at, reply in zip(unknown, await wire.send_many(again, len(again)), strict=True):
            replies[at] = reply
    return replies


def run_blocking(client: redis.Redis, call: Call) -> object:
    """The same over a blocking redis-py client; raises redis-py's errors."""
    execute: Any = cast(Any, client).execute_command
    arguments = (len(call.keys), *call.keys, *call.args)
    try:
        reply: object = execute("EVALSHA", call.script.sha, *arguments)
    except NoScriptError:
        reply = execute("EVAL", call.script.source, *arguments)
    return reply


def is_unknown(reply: Reply) -> bool:
    """Whether the server did not know the script, and so did nothing."""
    return isinstance(reply, ReplyError) and reply.code == "NOSCRIPT"
