"""
Mainstem: the app. Streams, patterns and subscriptions are declared here and run on the engine that a URL chooses.

The one module that knows all of them; what they do lives elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from mainstem.connection import Connection
from mainstem.decorators import Many, One
from mainstem.engine import Engine
from mainstem.errors import ConfigError, MainstemError
from mainstem.hooks import Hook, Hooks
from mainstem.names import group_name, seconds, stream_glob, stream_name
from mainstem.opening import Durability, open_engine, scheme_of
from mainstem.payload import payload_of
from mainstem.processing.retry import Retry
from mainstem.processing.serving import serve
from mainstem.processing.subscription import Batching, Middleware, Source, Subscription, wants_context
from mainstem.publisher import Publisher
from mainstem.stream import EventStream, StreamPattern, specification
from mainstem.trial import Trial

T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
F = TypeVar("F", bound=Callable[..., Any])


class Mainstem:
    """An app: `async with Mainstem(url) as app` as a library, `app.run()` as a service.

    `url` defaults to MAINSTEM_URL, else an embedded Valkey in the project's `.mainstem/`. `durability`: "disk" means
    that an acknowledged publish was fsynced (the embedded server is set so, any other must be), "server" that it is as
    safe as the server's settings make it. `publish_deadline` is how long a publish waits for a server that is away;
    `drain` how long handlers may finish at the end; `event_limit` the largest encoded event in bytes.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        source: str = "mainstem",
        durability: Durability = "server",
        publish_deadline: float | str | None = None,
        drain: float | str | None = None,
        event_limit: int | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        if url is not None:
            scheme_of(url)
        if event_limit is not None and event_limit < 1:
            raise ConfigError(f"event_limit={event_limit} must be at least 1 byte.")
        self.source = source
        self.hooks = Hooks(hooks)
        self._url = url
        self._durability: Durability = durability
        self._deadline = None if publish_deadline is None else seconds(publish_deadline, "publish_deadline")
        self._drain = None if drain is None else seconds(drain, "drain")
        self._event_limit = event_limit
        self._streams: dict[str, EventStream[Any]] = {}
        self._subscriptions: list[Subscription] = []
        self._middleware: list[Middleware] = []
        self._lifespan: Callable[[Mainstem], AsyncGenerator[Any, None]] | None = None
        self._connection: Connection | None = None

    @property
    def url(self) -> str:
        """The engine's URL in force."""
        if self._url is not None:
            return self._url
        from mainstem.settings import load

        return load().url

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        return tuple(self._subscriptions)

    # Declaring

    @overload
    def stream(
        self,
        name: str,
        /,
        *,
        key: Callable[[Any], str] | None = None,
        partitions: int | None = None,
        retain: float | str | None = None,
        max_events: int | None = None,
    ) -> EventStream[Any]: ...
    @overload
    def stream(
        self,
        name: str,
        of: type[In],
        /,
        *,
        key: Callable[[In], str] | None = None,
        partitions: int | None = None,
        retain: float | str | None = None,
        max_events: int | None = None,
    ) -> EventStream[In]: ...
    def stream(
        self,
        name: str,
        of: Any = None,
        /,
        *,
        key: Callable[[Any], str] | None = None,
        partitions: int | None = None,
        retain: float | str | None = None,
        max_events: int | None = None,
    ) -> EventStream[Any]:
        """Declare a stream, or name one that exists (without options its stored specification applies).

        `of`: the type of its data: a msgspec Struct, dataclass, pydantic model, bytes; without one any JSON.
        `key`: makes it keyed: events of one key stay in order, over `partitions` (16). `retain`: how long events are
        kept ("7d"), or "until-read": until every group has read them (then `max_events` is a hard cap, and publishers
        wait). `max_events`: how many are kept; 1,000,000 where neither is stated.
        """
        until_read = retain == "until-read"
        spec, stated = specification(
            stream_name(name),
            payload_of(of).type,
            keyed=key is not None or partitions is not None,
            partitions=partitions,
            retain=None if retain is None or until_read else seconds(retain, "retain"),
            max_events=max_events,
            until_read=until_read,
        )
        stream = EventStream[Any](self, spec, of=of, key=key, stated=stated)
        self._streams[name] = stream
        return stream

    @overload
    def pattern(self, glob: str, /) -> StreamPattern[Any]: ...
    @overload
    def pattern(self, glob: str, of: type[In], /) -> StreamPattern[In]: ...
    def pattern(self, glob: str, of: Any = None, /) -> StreamPattern[Any]:
        """All streams whose names match (`*`, `?`); ones declared later join while the app runs."""
        return StreamPattern[Any](self, stream_glob(glob), of)

    @overload
    def subscribe(
        self,
        source: EventStream[In] | StreamPattern[In],
        *,
        group: str,
        concurrency: int = 1,
        timeout: float | str | None = None,
        retry: Retry | None = None,
        start: str = "beginning",
        lease: float | str = "10s",
    ) -> One[In, None]: ...
    @overload
    def subscribe(
        self,
        source: EventStream[In] | StreamPattern[In],
        *,
        group: str,
        to: EventStream[Out],
        concurrency: int = 1,
        timeout: float | str | None = None,
        retry: Retry | None = None,
        start: str = "beginning",
        lease: float | str = "10s",
    ) -> One[In, Out | None]: ...
    def subscribe(
        self,
        source: Source,
        *,
        group: str,
        to: EventStream[Any] | None = None,
        concurrency: int = 1,
        timeout: float | str | None = None,
        retry: Retry | None = None,
        start: str = "beginning",
        lease: float | str = "10s",
    ) -> Any:
        """Call a handler with each event, at least once per group; acknowledged after it succeeds.

        `concurrency`: events at once in this process (per key one at a time). `timeout`: a longer attempt fails.
        `retry`: attempts and pauses, crashes counted; then the event goes to the group's dead letters. `to`: what the
        handler returns is published there first. `start`: "beginning" or "end", for a group that is new. `lease`:
        how long after a crash others take over.
        """

        def decorate(handler: F) -> F:
            self._add(source, group, handler, to, concurrency, timeout, retry, start, lease, None)
            return handler

        return decorate

    def subscribe_batch(
        self,
        source: EventStream[In] | StreamPattern[In],
        *,
        group: str,
        size: int = 500,
        max_wait: float | str = "50ms",
        timeout: float | str | None = None,
        retry: Retry | None = None,
        start: str = "beginning",
        lease: float | str = "10s",
    ) -> Many[In]:
        """Call a handler with up to `size` events, or what came within `max_wait` of the first; one batch at a time.

        A handler that raises `BatchFailed({position: error})` fails those; any other error fails all, and each is
        then tried alone.
        """
        if size < 1:
            raise ConfigError(f"size={size} of a batch must be at least 1.")
        batching = Batching(size=size, max_wait=seconds(max_wait, "max_wait"))

        def decorate(handler: F) -> F:
            self._add(source, group, handler, None, 1, timeout, retry, start, lease, batching)
            return handler

        return cast("Many[In]", decorate)

    def middleware(self, function: F) -> F:
        """Wrap every handler: `async def around(event, call_next): ... return await call_next()`."""
        self._middleware.append(function)
        return function

    def lifespan(
        self, function: Callable[[Mainstem], AsyncGenerator[T, None]]
    ) -> Callable[[Mainstem], AsyncGenerator[T, None]]:
        """Hold shared resources while the app serves: an async generator yields them once (`Context.resources`)."""
        self._lifespan = function
        return function

    # Running

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self, engine: Engine | None = None) -> None:
        """Connect; `engine` replaces the one that the URL names."""
        if self._connection is not None:
            raise ConfigError("this app is open already: one app is one connection; make another Mainstem for another.")
        from mainstem.settings import load

        settings = load()
        engine = engine if engine is not None else await open_engine(self.url, self._durability)
        deadline = self._deadline if self._deadline is not None else settings.publish_deadline
        publisher = Publisher(engine, self.hooks, deadline)
        limit = self._event_limit if self._event_limit is not None else settings.event_limit
        self._connection = Connection(engine, publisher, self.hooks, self.source, limit)
        self._drain = self._drain if self._drain is not None else settings.drain

    async def close(self) -> None:
        """Wait for what was accepted to be answered, then disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.publisher.close()
            finally:
                await connection.engine.close()

    def abort(self) -> None:
        """Drop the connection at once, as a crash would; events that were not acknowledged come again."""
        if self._connection is not None:
            self._connection.publisher.abort()
            self._connection.engine.abort()

    async def serve(self, stop: asyncio.Event) -> int:
        """Run every subscription until `stop` is set, then drain; returns how many events were released unhandled."""
        connection = self.connection()
        async with AsyncExitStack() as stack:
            resources = None
            if self._lifespan is not None:
                resources = await stack.enter_async_context(asynccontextmanager(self._lifespan)(self))
            return await serve(
                self._subscriptions,
                connection,
                self._middleware,
                resources,
                stop,
                self._drain if self._drain is not None else 10.0,
            )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Self, None]:
        """Serve in the background, inside another program (a web application, a test); drains at the end."""
        async with self:
            stop = asyncio.Event()
            serving = asyncio.create_task(self.serve(stop), name="mainstem-serve")
            try:
                yield self
            finally:
                stop.set()
                await serving

    def run(self) -> None:
        """Serve until Ctrl-C or SIGTERM: then drain; a second Ctrl-C ends at once and still loses nothing.

        What cannot work (a setting, a server that is away) ends the process with one sentence.
        """
        from mainstem.running import ended_by, run

        try:
            run(self)
        except (MainstemError, BaseExceptionGroup) as error:
            reason = ended_by(error)
            if not isinstance(reason, MainstemError):
                raise
            raise SystemExit(f"mainstem: {reason}") from error

    def testing(self) -> Trial:
        """Run on the memory engine inside a test: `async with app.testing() as trial`."""
        return Trial(self)

    def connection(self) -> Connection:
        """The open connection, or `ConfigError`."""
        if self._connection is None:
            raise ConfigError("this app is not open: use `async with app:`, `app.run()` or `app.testing()`.")
        return self._connection

    def _add(
        self,
        source: Source,
        group: str,
        handler: Callable[..., Any],
        to: EventStream[Any] | None,
        concurrency: int,
        timeout: float | str | None,
        retry: Retry | None,
        start: str,
        lease: float | str,
        batching: Batching | None,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency={concurrency} must be at least 1.")
        if start not in ("beginning", "end"):
            raise ConfigError(
                f"start={start!r} of a group is 'beginning' or 'end'; `mainstem group seek` moves it elsewhere."
            )
        wants_context(handler)
        sub = Subscription(
            source=source,
            group=group_name(group),
            handler=handler,
            name=getattr(handler, "__name__", type(handler).__name__),
            to=to,
            batching=batching,
            concurrency=concurrency,
            timeout=None if timeout is None else seconds(timeout, "timeout"),
            retry=retry if retry is not None else Retry(),
            start=start,
            lease=max(seconds(lease, "lease"), 0.2),
        )
        for other in self._subscriptions:
            if (other.source.name, other.group) == (source.name, group):
                raise ConfigError(
                    f"group {group!r} of {source.name!r} has the handler {other.name!r} already; members of a group "
                    f"share its events, so {sub.name!r} needs a group of its own."
                )
        self._subscriptions.append(sub)
