"""Calling a handler: sync or async, with or without a Context, under a timeout, inside the app's middleware."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from mainstem.event import Received
from mainstem.processing.context import Context
from mainstem.processing.subscription import Middleware, Subscription, wants_context

Call = Callable[[Any, Callable[[], bool]], Awaitable[Any]]
"""Takes the event (or batch) and a function that says whether its lease is lost; answers with the handler's result."""


THREADS = "mainstem-handler-"  # what the names of threads that run sync handlers begin with


class Calls:
    """Prepares one subscription's handler once, so that calling it costs no decisions."""

    def __init__(self, subscription: Subscription, middleware: Sequence[Middleware], resources: Any) -> None:
        self._subscription = subscription
        self._resources = resources
        self._context = wants_context(subscription.handler)
        self._middleware = tuple(middleware)
        self._threads = (
            None
            if subscription.is_async
            else ThreadPoolExecutor(
                max_workers=subscription.concurrency, thread_name_prefix=f"{THREADS}{subscription.name}"
            )
        )
        self._logger = logging.getLogger(f"mainstem.handler.{subscription.name}")
        self._closing = asyncio.Event()

    @property
    def direct(self) -> Callable[[Any], Awaitable[Any]] | None:
        """The handler itself where nothing stands around it: the hot path."""
        if self._context or self._middleware or self._threads is not None or self._subscription.timeout is not None:
            return None
        handler: Callable[[Any], Awaitable[Any]] = self._subscription.handler
        return handler

    async def call(self, event: Any, lost: Callable[[], bool]) -> Any:
        """Run the handler on an event or a batch."""
        run = self._body(event, lost)
        for middleware in reversed(self._middleware):
            run = partial(middleware, event, run)
        if self._subscription.timeout is None or self._threads is not None:
            return await run()
        async with asyncio.timeout(self._subscription.timeout):
            return await run()

    def close(self) -> None:
        """Let the threads end; does not wait for a handler that hangs, nor does one that was cancelled any more."""
        self._closing.set()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _body(self, event: Any, lost: Callable[[], bool]) -> Callable[[], Awaitable[Any]]:
        arguments = (event, self._context_of(event, lost)) if self._context else (event,)
        if self._threads is None:
            return partial(self._subscription.handler, *arguments)
        return partial(self._in_thread, arguments)

    async def _in_thread(self, arguments: tuple[Any, ...]) -> Any:
        """Run a sync handler; one that outlives its timeout is waited for, since a thread cannot be stopped.

        Starting it again beside itself would be worse; a late success counts.
        """
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, partial(_guarded, self._subscription.handler, *arguments))
        if self._subscription.timeout is not None:
            done, _ = await asyncio.wait((running,), timeout=self._subscription.timeout)
            if not done:
                self._logger.error(
                    "still running after its timeout of %g s; waiting for it to end", self._subscription.timeout
                )
        result = await self._finish(running)
        return await result if inspect.isawaitable(result) else result  # a plain function around an async one

    async def _finish(self, running: asyncio.Future[Any]) -> Any:
        """Wait for a thread even when cancelled: its work goes on, so its event must not be given to another yet.

        Once the worker ends nothing is waited for: the event comes again.
        """
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            closing = asyncio.ensure_future(self._closing.wait())
            await asyncio.wait((running, closing), return_when=asyncio.FIRST_COMPLETED)
            closing.cancel()
            raise

    def _context_of(self, event: Any, lost: Callable[[], bool]) -> Context:
        first = cast("Received[Any]", event[0] if isinstance(event, list) else event)
        sub = self._subscription
        return Context(first.stream, sub.group, sub.name, first.attempt, self._resources, self._logger, lost)


def _guarded(handler: Callable[..., Any], *arguments: Any) -> Any:
    """A StopIteration cannot pass through a future: its caller would wait for ever."""
    try:
        return handler(*arguments)
    except StopIteration as error:
        raise RuntimeError("the handler raised StopIteration") from error
