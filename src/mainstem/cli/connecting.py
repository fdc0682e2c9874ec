"""
From `--url` to an open app, and from a name to a stream that exists: commands look at streams, they never make one by
a slip of the finger.
"""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from mainstem.app import Mainstem
from mainstem.cli.options import debugging
from mainstem.engine import Admin, DeadLetters, Engine, StreamSpec
from mainstem.errors import ConfigError, Unavailable, Unsupported
from mainstem.names import stream_name
from mainstem.running import ended_by, run_loop

R = TypeVar("R")


def execute(work: Coroutine[Any, Any, R]) -> R:
    """Run a command's coroutine; an ExceptionGroup of one error becomes that error."""
    level = logging.DEBUG if debugging() else logging.WARNING
    logging.basicConfig(level=level, format="mainstem: %(message)s", stream=sys.stderr)
    try:
        return run_loop(work)
    except BaseExceptionGroup as group:
        raise ended_by(group) from group


@asynccontextmanager
async def opened(url: str | None) -> AsyncGenerator[Mainstem]:
    """An open app on the engine that is meant."""
    app = Mainstem(url, source="mainstem-cli")
    if app.url.startswith("memory:"):
        raise ConfigError(
            "memory:// lives inside one process, where a command cannot see it: use embedded:// or a server's URL."
        )
    try:
        await app.open()
    except OSError as error:
        raise Unavailable(f"cannot reach the server: {error.strerror or error}; see `mainstem doctor`.") from error
    try:
        yield app
    finally:
        await app.close()


async def existing(engine: Engine, name: str) -> StreamSpec:
    """The stored specification of a stream, or `ConfigError` that names the closest ones."""
    found = await engine.streams(stream_name(name))
    if found:
        return found[0]
    names = [spec.name for spec in await engine.streams("*")]
    raise ConfigError(f"there is no stream {name!r}: {suggestion(name, names)}`mainstem ls` lists what there is.")


def suggestion(name: str, names: Sequence[str]) -> str:
    """A question to put before the rest of a sentence; empty where no name is close."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, close))}? " if close else ""


def admin_of(engine: Engine) -> Admin:
    """The engine's ability to move and remove groups."""
    if engine.can.admin is None:
        raise Unsupported(engine.can.name, "move or remove groups")
    return engine.can.admin


def dead_letters_of(engine: Engine) -> DeadLetters:
    """The engine's ability to list and restore dead letters."""
    if engine.can.dead is None:
        raise Unsupported(engine.can.name, "keep dead letters")
    return engine.can.dead
