"""
Which partitions a member owns: joining, renewing, taking its share, handing over what is above it. No leader decides.

Every member computes its share from the sorted members. A partition changes hands only by being released, or by its
lease running out; the server refuses whoever comes too early (`keyed_scripts`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from typing import Any, cast

import redis
from redis.exceptions import NoScriptError

from mainstem.engine import Lost, Part, Revoking, StreamSpec
from mainstem.engines.redis import keyed_scripts
from mainstem.engines.redis.groups import sweep_call
from mainstem.engines.redis.keyed_codec import share
from mainstem.engines.redis.keyed_commits import Commits
from mainstem.engines.redis.keyed_holdings import FENCE, Holdings
from mainstem.engines.redis.keyed_part import Owned
from mainstem.engines.redis.keyed_reads import Reads
from mainstem.engines.redis.layout import group_key, log_key, members_key
from mainstem.engines.redis.replies import checked, data, items, translate
from mainstem.engines.redis.scripts import Call, Script
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import Reply, ReplyError, command
from mainstem.errors import ConfigError, MainstemError, OutcomeUnknown, PermissionDenied, Unavailable

EAGER = 0.25
CALM = 1.0
"""Seconds between two looks at the members: while partitions are missing, and otherwise."""

ATTEMPTS = 64
"""Partitions one write tries to acquire."""

LAST_ROUND = 1.0
"""Seconds that leaving waits for a renewal under way, which would make the member one again."""


class Leases:
    """Takes, keeps and hands over partitions on behalf of one member."""

    def __init__(self, server: Server, holdings: Holdings, commits: Commits, reads: Reads) -> None:
        self._server = server
        self._holdings = holdings
        self._commits = commits
        self._reads = reads
        self._identity = holdings.identity
        self._streams: dict[str, StreamSpec] = {}
        self._epoch = 0
        self._swept = 0.0
        self._in_round = False  # whether the thread renews at this moment
        self._eager = False
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._fence: asyncio.TimerHandle | None = None
        self._renewals = server.renewals(self._identity.group.lease)
        self._renewals.add(self._identity.me, self._renew)
        self._task = self._loop.create_task(self._live(), name="redis keyed leases")

    async def follow(self, streams: Sequence[StreamSpec]) -> None:
        """Take part in exactly these."""
        wanted = {spec.name: spec for spec in streams}
        async with self._turn:
            gone = [spec for name, spec in self._streams.items() if name not in wanted]
            new = [spec for name, spec in wanted.items() if name not in self._streams]
            await self._join(new)
            self._streams = wanted
            await self._part_with(gone)
            await self._tend()
        self._wake.set()

    async def yield_part(self, part: Part) -> None:
        """Hand this one over; if the server cannot be reached, as soon as it can."""
        async with self._turn:
            owned = self._holdings.owned.get(part)
            if owned is None:
                return
            try:
                await self._hand_over([owned])
            except (Unavailable, OutcomeUnknown):
                owned.revoke(time.monotonic())
        self._wake.set()

    async def leave(self) -> None:
        """Hand everything over."""
        self.stop()
        deadline = time.monotonic() + LAST_ROUND
        while self._in_round and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.002)
        async with self._turn:
            await self._part_with(list(self._streams.values()))

    def stop(self) -> None:
        """Renew and acquire no more."""
        self._renewals.remove(self._identity.me)
        self._task.cancel()
        if self._fence is not None:
            self._fence.cancel()

    async def close(self) -> None:
        """The same, and wait until it is so."""
        self.stop()
        await asyncio.wait([self._task])

    # ------------------------------------------------------------------------------------------------ in the thread

    def _renew(self, client: redis.Redis) -> None:
        self._in_round = True
        try:
            self._round(client)
        finally:
            self._in_round = False

    def _round(self, client: redis.Redis) -> None:
        owned = list(self._holdings.owned.values())
        streams = list(self._streams.values())
        identity = self._identity
        me, lease = identity.me, identity.lease_ms
        calls = [Call(keyed_scripts.BEAT, (members_key(s.name, identity.group.name),), (me, lease)) for s in streams]
        calls += [Call(keyed_scripts.RENEW, o.keys[:1], (me, o.token, lease)) for o in owned]
        began = time.monotonic()
        replies = _run_blocking(client, calls)[len(streams) :]
        refused: list[tuple[Owned, str]] = []
        for each, reply in zip(owned, replies, strict=True):
            if not isinstance(reply, Exception):
                each.renewed = max(each.renewed, began)
            elif str(reply)[:4] in ("LOST", "GONE"):
                refused.append((each, str(reply)[:4]))
        if refused:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the member
                self._loop.call_soon_threadsafe(self._refused, refused)

    def _refused(self, refused: Sequence[tuple[Owned, str]]) -> None:
        for owned, code in refused:
            if owned.released:
                continue
            if code == "GONE":
                self._holdings.lose_state(owned)
            else:
                self._holdings.lose(owned)
        self._wake.set()

    # ---------------------------------------------------------------------------------------------------- tending

    async def _live(self) -> None:
        while True:
            try:
                async with asyncio.timeout((EAGER if self._eager else CALM) * random.uniform(0.8, 1.0)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                async with self._turn:
                    await self._tend()
            except (Unavailable, OutcomeUnknown):
                self._eager = True
            except MainstemError as error:
                self._report(error)

    def _report(self, error: MainstemError) -> None:
        if isinstance(error, PermissionDenied | ConfigError):
            self._holdings.failure = error
            self._holdings.changed()

    async def _tend(self) -> None:
        now = time.monotonic()
        self._stop_fenced()
        await self._take_away([o for o in self._holdings.owned.values() if o.revoked is not None and o.revoked <= now])
        await self._restore_streams()
        streams = list(self._streams.values())
        name = self._identity.group.name
        calls = [Call(keyed_scripts.MEMBERS, (members_key(spec.name, name),), ()) for spec in streams]
        replies = await self._server.run_many("see the members of the group", calls)
        self._eager = False
        for spec, reply in zip(streams, replies, strict=True):
            members = [data(member).decode() for member in items(checked(reply, "see the members of the group"))]
            await self._balance(spec, members)
        await self._sweep()

    async def _sweep(self) -> None:
        """Let retention trim what is owned, where publishing does not."""
        if time.monotonic() < self._swept + CALM:
            return
        self._swept = time.monotonic()
        owned = list(self._holdings.owned.values())
        calls = [sweep_call(each.spec, each.part[1], CALM) for each in owned]
        for reply in await self._server.run_many("sweep", [call for call in calls if call is not None]):
            checked(reply, "sweep")

    async def _balance(self, spec: StreamSpec, members: Sequence[str]) -> None:
        if self._identity.me not in members:
            await self._beat([spec])
            members = [*members, self._identity.me]
        due = share(members, self._identity.me, spec.partitions)
        mine = [o for p in spec.parts if (o := self._holdings.owned.get((spec.name, p))) is not None]
        kept = [owned for owned in mine if owned.revoked is None]
        if len(kept) > due:
            self._revoke(sorted(kept, key=lambda owned: (owned.held, -owned.part[1]))[: len(kept) - due])
        elif len(mine) < due:
            first = sorted(members).index(self._identity.me) * due
            await self._acquire(spec, due - len(mine), first)
            self._eager = True

    def _revoke(self, surplus: Sequence[Owned]) -> None:
        deadline = time.monotonic() + self._identity.group.drain
        for owned in surplus:
            owned.revoke(deadline)
            self._holdings.tell(Revoking(owned.part, deadline))

    async def _take_away(self, parts: Sequence[Owned]) -> None:
        """Hand over without waiting: what is not settled runs again elsewhere."""
        if not parts:
            return
        for owned in parts:
            owned.revoke(time.monotonic())
        for owned in await self._hand_over(parts):
            self._holdings.tell(Lost(owned.part))

    async def _hand_over(self, parts: Sequence[Owned]) -> list[Owned]:
        """Commit and release; returns those that were still ours to release."""
        for owned in parts:
            owned.uncount()
        while dirty := [owned for owned in parts if owned.since and self._holdings.holds(owned)]:
            await self._commits.flush(dirty)
        held = [owned for owned in parts if self._holdings.holds(owned)]
        me = self._identity.me
        for owned in held:
            owned.released = True
        calls = [Call(keyed_scripts.RELEASE, o.keys[:1], (me, o.token, int(o.trusted))) for o in held]
        replies = await self._server.run_many("release partitions", calls)
        for owned, reply in zip(held, replies, strict=True):
            self._holdings.drop(owned)
            if isinstance(reply, ReplyError) and reply.code not in ("LOST", "GONE"):
                raise translate(reply, f"release partition {owned.part}")
        return held

    # ----------------------------------------------------------------------------------------------------- joining

    async def _join(self, streams: Sequence[StreamSpec]) -> None:
        name, start = self._identity.group.name, self._identity.group.start
        places = [(group_key(spec, p, name), log_key(spec, p)) for spec in streams for p in spec.parts]
        calls = [Call(keyed_scripts.FOUND, keys, (name, start)) for keys in places]
        for reply in await self._server.run_many(f"join the group {name!r}", calls):
            checked(reply, f"join the group {name!r}")
        await self._beat(streams)

    async def _beat(self, streams: Sequence[StreamSpec]) -> None:
        identity = self._identity
        keys = [(members_key(spec.name, identity.group.name),) for spec in streams]
        calls = [Call(keyed_scripts.BEAT, key, (identity.me, identity.lease_ms)) for key in keys]
        for reply in await self._server.run_many("join the group", calls):
            checked(reply, f"join the group {identity.group.name!r}")

    async def _restore_streams(self) -> None:
        """Somebody deleted the state of these: store their specification again, as a publisher would."""
        while self._holdings.gone:
            name = next(iter(self._holdings.gone))
            if spec := self._streams.get(name):
                await self._server.declare(spec)
            self._holdings.gone.discard(name)

    async def _part_with(self, streams: Sequence[StreamSpec]) -> None:
        names = {spec.name for spec in streams}
        await self._take_away([owned for owned in self._holdings.owned.values() if owned.part[0] in names])
        keys = [members_key(name, self._identity.group.name) for name in names]
        leave = [command(b"ZREM", key, self._identity.me) for key in keys]
        await self._server.pipeline("leave the group", leave, changes=True)

    # --------------------------------------------------------------------------------------------------- acquiring

    async def _acquire(self, spec: StreamSpec, missing: int, first: int) -> None:
        """Try the partitions others may have left, beginning with those the other members try last."""
        order = [(first + step) % spec.partitions for step in range(spec.partitions)]
        free = [partition for partition in order if (spec.name, partition) not in self._holdings.owned]
        while free and missing > 0:
            tried, free = free[: min(missing, ATTEMPTS)], free[min(missing, ATTEMPTS) :]
            missing -= await self._attempt(spec, tried)

    async def _attempt(self, spec: StreamSpec, partitions: Sequence[int]) -> int:
        identity = self._identity
        name = identity.group.name
        began = time.monotonic()
        places = [(group_key(spec, p, name), log_key(spec, p)) for p in partitions]
        calls = [Call(keyed_scripts.ACQUIRE, keys, (identity.me, identity.lease_ms)) for keys in places]
        replies = await self._server.run_many("acquire partitions", calls)
        acquired = 0
        for partition, reply in zip(partitions, replies, strict=True):
            if items(checked(reply, f"acquire partition {partition} of {spec.name!r}"))[0] == 1:
                acquired += 1
                await self._own(spec, partition, reply, began)
        return acquired

    async def _own(self, spec: StreamSpec, partition: int, reply: Reply, began: float) -> None:
        self._epoch += 1
        owned = Owned(spec, partition, self._identity.group.name, self._epoch, reply)
        owned.renewed = began
        left = await self._reads.left(owned, owned.facts)
        self._holdings.gain(owned)
        self._reads.account(owned, owned.facts, left)
        self._reads.wake()
        self._watch()

    # -------------------------------------------------------------------------------------------------- self-fence

    def _watch(self) -> None:
        """Look again when the first lease may have run out."""
        if self._fence is not None:
            self._fence.cancel()
            self._fence = None
        if self._holdings.owned:
            first = min(owned.renewed for owned in self._holdings.owned.values())
            pause = first + FENCE * self._identity.group.lease - time.monotonic()
            self._fence = self._loop.call_later(max(0.001, pause), self._stop_fenced)

    def _stop_fenced(self) -> None:
        now = time.monotonic()
        for owned in list(self._holdings.owned.values()):
            self._holdings.held(owned.part, now)
        self._watch()


def _run_blocking(client: redis.Redis, calls: Sequence[Call]) -> list[object]:
    """Run scripts in one write; an error is returned in the place of its reply. Raises when the connection fails."""
    replies = _pipeline(client, [_by_sha(call) for call in calls])
    unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
    if unknown:
        scripts: dict[bytes, Script] = {calls[at].script.sha: calls[at].script for at in unknown}
        loads = [(b"SCRIPT LOAD", script.source) for script in scripts.values()]
        again = _pipeline(client, [*loads, *(_by_sha(calls[at]) for at in unknown)])[len(loads) :]
        for at, reply in zip(unknown, again, strict=True):
            replies[at] = reply
    return replies


def _by_sha(call: Call) -> tuple[object, ...]:
    return (b"EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.args)


def _pipeline(client: redis.Redis, commands: Sequence[tuple[object, ...]]) -> list[object]:
    pipe = cast("Any", client).pipeline(transaction=False)
    for each in commands:
        pipe.execute_command(*each)
    # Without their tracebacks, which would keep the connection alive in a cycle after it was dropped.
    return [r.with_traceback(None) if isinstance(r, Exception) else r for r in pipe.execute(raise_on_error=False)]
