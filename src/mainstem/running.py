"""The process around an app: event loop, signals, garbage collector. Nothing about events."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from mainstem.errors import MainstemError
from mainstem.processing.handling import THREADS

R = TypeVar("R")
_log = logging.getLogger("mainstem")

GC_THRESHOLD = 50_000  # young objects; the default of 700 halves the speed of large reads


class Servable(Protocol):
    """What can be run: an app."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def serve(self, stop: asyncio.Event) -> int: ...
    def abort(self) -> None: ...


def run(app: Servable) -> None:
    """Serve until SIGINT or SIGTERM, then drain; a second SIGINT ends at once."""
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 20)
    run_loop(_serve(app))
    _leave_threads()


def run_loop(main: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine on uvloop where it is installed (extra `fast`), else on asyncio's own loop."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed and MAINSTEM_LOOP does not say "asyncio"."""
    if os.environ.get("MAINSTEM_LOOP") == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def ended_by(error: BaseException) -> BaseException:
    """The one error that says why serving ended: out of a task group, ours where there is one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    reasons = [ended_by(each) for each in group.exceptions]
    return next((reason for reason in reasons if isinstance(reason, MainstemError)), reasons[0])


def _leave_threads() -> None:
    """End the process although a sync handler hangs in its thread: the interpreter would wait for it for ever."""
    handlers = [thread for thread in threading.enumerate() if thread.name.startswith(THREADS)]
    for thread in handlers:
        thread.join(0.5)
    if any(thread.is_alive() for thread in handlers):
        _log.warning("a handler still runs in its thread: ending without it; its event comes again")
        logging.shutdown()
        os._exit(0)


async def _serve(app: Servable) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            _log.warning("stopping at once; what was not acknowledged comes again")
            app.abort()
            os._exit(130)
        _log.info("stopping: finishing what runs; once more (Ctrl-C) to stop at once")
        stop.set()

    def threadsafe(_number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(on_signal)

    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, on_signal)
        except NotImplementedError:  # Windows
            signal.signal(number, threadsafe)
    await app.open()
    try:
        await app.serve(stop)
    finally:
        await app.close()
