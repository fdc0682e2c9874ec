"""Running all subscriptions of an app side by side: one that fails is started again and never stops the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from mainstem.connection import Connection
from mainstem.errors import ConfigError, EventRejected, PermissionDenied
from mainstem.hooks import IncidentDetail
from mainstem.processing.batch_worker import BatchWorker
from mainstem.processing.handling import Calls
from mainstem.processing.session import Session
from mainstem.processing.subscription import Middleware, Subscription
from mainstem.processing.worker import Worker

_log = logging.getLogger("mainstem")

PAUSE = 1.0  # seconds before a subscription that broke is started again
FINAL = (ConfigError, PermissionDenied, EventRejected)  # starting again would not help


async def serve(
    subscriptions: Sequence[Subscription],
    connection: Connection,
    middleware: Sequence[Middleware],
    resources: Any,
    stop: asyncio.Event,
    drain: float,
) -> int:
    """Run until `stop` is set, then drain; returns how many events were released unhandled."""
    if not subscriptions:
        raise ConfigError("this app has no subscriptions: decorate a handler with @app.subscribe(...).")
    for subscription in subscriptions:
        await subscription.source.resolve()
        if subscription.to is not None:
            await subscription.to.open()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_keep(sub, connection, middleware, resources, stop, drain)) for sub in subscriptions]
    released = sum(task.result() for task in tasks)
    if released:
        what = f"{released} events were released unhandled at the end: the group will have them again"
        _log.warning(what)
        connection.hooks.incident(IncidentDetail("released", "*", "*", what, released))
    return released


async def _keep(
    subscription: Subscription,
    connection: Connection,
    middleware: Sequence[Middleware],
    resources: Any,
    stop: asyncio.Event,
    drain: float,
) -> int:
    while True:
        session = Session(subscription, connection.engine, connection.hooks)
        calls = Calls(subscription, middleware, resources)
        try:
            return await _worker(session, calls, connection).run(stop, drain)
        except FINAL:
            raise
        except Exception:
            if stop.is_set():
                raise
            _log.exception("subscription %s broke; it is started again in %g s", subscription.name, PAUSE)
            await asyncio.sleep(PAUSE)


def _worker(session: Session, calls: Calls, connection: Connection) -> Worker | BatchWorker:
    batching = session.subscription.batching
    if batching is not None:
        return BatchWorker(session, calls, connection.hooks, batching)
    return Worker(session, calls, connection.hooks)
