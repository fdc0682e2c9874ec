"""
Commits of a keyed member: gathered per partition for a moment, sent for all partitions in one write, one at a time.

What a commit says is the partition's matter (`keyed_part`), whether it counts the server's (`keyed_scripts`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from mainstem.engine import Dead
from mainstem.engines.redis import keyed_scripts
from mainstem.engines.redis.keyed_holdings import Holdings
from mainstem.engines.redis.keyed_part import Commit, Owned, Restored
from mainstem.engines.redis.layout import letter_fields
from mainstem.engines.redis.replies import translate
from mainstem.engines.redis.scripts import Call
from mainstem.engines.redis.server import Server
from mainstem.engines.redis.wire import Reply, ReplyError
from mainstem.errors import ConfigError, MainstemError, OutcomeUnknown, PermissionDenied, Unavailable

MANY = 100
"""Settled events of one partition that are worth a commit."""

LINGER = 0.005
BUSY_LINGER = 0.02
"""Seconds that fewer wait for others while more of the partition is at work, also while the group is busy."""

PAUSE = 0.1
"""Seconds after a failed commit until it is sent again."""


class Commits:
    """Sends what `holdings` have to commit."""

    def __init__(self, server: Server, holdings: Holdings) -> None:
        self._server = server
        self._holdings = holdings
        self._dirty: dict[Owned, None] = {}
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.get_running_loop().create_task(self._live(), name="redis keyed commits")

    def mark(self, owned: Owned) -> None:
        """It has something to commit, soon or, where it is much or urgent, now."""
        self._dirty[owned] = None
        if owned.waiting >= MANY or owned.proposed is not None:
            self._wake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._due)

    async def flush(self, parts: Iterable[Owned]) -> None:
        """
        Commit what these have; a partition that turns out to be lost is told by its signal.

        Raises Unavailable, OutcomeUnknown or what the server answered; then it is sent again later.
        """
        async with self._turn:
            holds = self._holdings.holds
            made = [(owned, owned.commit()) for owned in parts if owned.since and holds(owned)]
            if not made:
                return
            try:
                calls = [self._call(owned, commit) for owned, commit in made]
                replies = await self._server.run_many("commit", calls)
            except BaseException:
                for owned, commit in made:
                    self._again(owned, commit)
                raise
            self._learn(made, replies)

    def stop(self) -> None:
        """Send nothing more by itself."""
        self._task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """The same, and wait until it is so."""
        self.stop()
        await asyncio.wait([self._task])

    @property
    def _linger(self) -> float:
        return BUSY_LINGER if self._holdings.busy else LINGER

    def _due(self) -> None:
        self._timer = None
        self._wake.set()

    async def _live(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.flush(self._choose())
            except (Unavailable, OutcomeUnknown):
                await self._later()
            except MainstemError as error:
                self._report(error)
                await self._later()

    async def _later(self) -> None:
        await asyncio.sleep(PAUSE)
        self._wake.set()

    def _report(self, error: MainstemError) -> None:
        if isinstance(error, PermissionDenied | ConfigError):
            self._holdings.failure = error
            self._holdings.changed()

    def _choose(self) -> list[Owned]:
        edge = time.monotonic() - self._linger
        due: list[Owned] = []
        left: dict[Owned, None] = {}
        for owned in self._dirty:
            if owned.waiting >= MANY or owned.proposed is not None or owned.since <= edge:
                due.append(owned)
            else:
                left[owned] = None
        self._dirty = left
        if left and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._linger, self._due)
        return due

    def _call(self, owned: Owned, commit: Commit) -> Call:
        identity = self._holdings.identity
        args: list[bytes | str | int] = [identity.me, owned.token, identity.group.name, commit.cursor, commit.read]
        args += (commit.once, commit.lost, len(commit.fields), *commit.fields)
        if commit.once:
            args += (len(commit.taken), *commit.taken)
        for letter in commit.letters:
            fields = _letter(letter)
            args += (len(fields), *fields)
        return Call(keyed_scripts.COMMIT, owned.keys, args)

    def _learn(self, made: list[tuple[Owned, Commit]], replies: list[Reply]) -> None:
        failure: MainstemError | None = None
        for (owned, commit), reply in zip(made, replies, strict=True):
            if not isinstance(reply, ReplyError):
                owned.committed(commit)
                if owned.since:
                    self.mark(owned)
                if owned.cleared:
                    self._holdings.offer(owned)
                continue
            if reply.code == "GONE":
                self._holdings.lose_state(owned)
            elif reply.code in ("LOST", "REGRESS"):
                self._holdings.lose(owned)
            else:
                self._again(owned, commit)
                failure = translate(reply, f"commit what was handled of {owned.part}")
        if failure is not None:
            raise failure

    def _again(self, owned: Owned, commit: Commit) -> None:
        owned.not_committed(commit)
        self.mark(owned)


def _letter(item: Dead) -> list[bytes]:
    delivery = item.delivery
    origin = delivery.tag.origin if isinstance(delivery.tag, Restored) else delivery.position
    return letter_fields(delivery.record, item.cause, origin)
