"""How the conformance suite reaches an engine. Nothing here knows which engine it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mainstem.engine import Engine


@dataclass(frozen=True, slots=True)
class Harness:
    """What a third party's file of five lines gives the suite.

    `open` connects another engine to the same streams. Unless `stall` is given it must be picklable, such as
    `functools.partial(open_engine, url)`: the suite then opens the engine in a process of its own as well, and stops
    that process to make a zombie.

    `lease` is the lease of the groups that the suite makes, in seconds: the shorter, the faster the suite.

    `stall` stops every sign of life of an engine's members as SIGSTOP of its process would; for engines that live in
    one process only.
    """

    open: Callable[[], Awaitable[Engine]]
    lease: float = 1.0
    stall: Callable[[Engine], None] | None = None
