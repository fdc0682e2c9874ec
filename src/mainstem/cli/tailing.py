"""
`mainstem tail`: events of one or many streams, filtered and printed as they come. Reading without a group: nothing is
acknowledged and no one else is disturbed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from mainstem.app import Mainstem
from mainstem.cli import where
from mainstem.cli.connecting import existing, opened
from mainstem.cli.printing import Row, as_json, plain, say, screen_width, write_text
from mainstem.codec import Envelope
from mainstem.engine import Cursor
from mainstem.errors import ConfigError, DecodeError, Unavailable
from mainstem.event import Received
from mainstem.names import stream_glob
from mainstem.reading import cursor_at

PAGE = 500
LOOK = 1.0  # seconds between looks for new streams, and the longest a read waits
POLL = 0.1  # seconds between looks at many streams
PAUSE_CAP = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    streams: tuple[str, ...]
    url: str | None
    output: str  # auto, table, json, ndjson
    follow: bool = True
    start: str = ""  # "": the end when following, else the beginning
    limit: int | None = None
    types: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    where: str = ""


@dataclass(slots=True)
class _Source:
    """One stream and how far it was read."""

    name: str
    envelope: Envelope[Any]
    cursor: Cursor
    waiting: deque[Received[Any]] = field(default_factory=deque[Received[Any]])


async def tail(request: Request) -> None:
    """Print events until the limit, the end (without `follow`) or Ctrl-C."""
    wanted = _filter(request)
    if request.limit is not None and request.limit < 0:
        raise ConfigError(f"--limit {request.limit} must be 0 or more.")
    for name in request.streams:
        stream_glob(name)
    left = request.limit
    async with opened(request.url) as app:
        write = _writer(request)
        sources = await _first_sources(app, request)
        if left == 0:
            return
        pages = _follow(app, request, sources) if request.follow else _merge(app, sources)
        async for page in pages:
            found = [row for row in map(_row, page) if wanted(row)][:left]
            for row in found:
                write(row)
            sys.stdout.flush()
            if left is not None and (left := left - len(found)) == 0:
                return


async def _first_sources(app: Mainstem, request: Request) -> dict[str, _Source]:
    for name in request.streams:
        if not _wild(name):
            await existing(app.connection().engine, name)
    sources: dict[str, _Source] = {}
    start = request.start or ("end" if request.follow else "beginning")
    await _join(app, request.streams, start, sources)
    if not sources:
        say(f"no stream matches {' '.join(request.streams)}" + ("; waiting for one." if request.follow else "."))
    return sources


async def _join(app: Mainstem, names: Sequence[str], start: str, sources: dict[str, _Source]) -> None:
    """Add the streams that match and are not read yet."""
    engine = app.connection().engine
    for name in names:
        for stream, envelope in (await app.pattern(name).resolve()).items():
            if stream not in sources:
                sources[stream] = _Source(stream, envelope, await cursor_at(engine, envelope.spec, start))


async def _follow(app: Mainstem, request: Request, sources: dict[str, _Source]) -> AsyncIterator[list[Received[Any]]]:
    """Pages for ever. One stream is waited for on the server; many are looked at in turn, over one connection."""
    single = len(request.streams) == 1 and not _wild(request.streams[0])
    looked = time.monotonic()
    pause = 0.0
    while True:
        try:
            if not single and time.monotonic() - looked > LOOK:
                await _join(app, request.streams, "beginning", sources)
                looked = time.monotonic()
            wait = LOOK if single else 0.0
            pages = await asyncio.gather(*(_page(app, source, wait) for source in sources.values()))
            pause = 0.0
        except Unavailable as error:
            if pause == 0.0:
                say(f"{error} Waiting for it.")
            pause = min(max(pause * 2, POLL), PAUSE_CAP)
            await asyncio.sleep(pause)
            continue
        for page in pages:
            if page:
                yield page
        if not single and not any(pages):
            await asyncio.sleep(max(POLL, len(sources) / 5000))


async def _merge(app: Mainstem, sources: dict[str, _Source]) -> AsyncIterator[list[Received[Any]]]:
    """What there is, over all streams in the order in which it was stored."""
    reading = list(sources.values())
    while reading:
        for source in list(reading):
            if not source.waiting and not await _fill(app, source):
                reading.remove(source)
        page: list[Received[Any]] = []
        while reading and all(source.waiting for source in reading):
            page.append(min(reading, key=lambda source: source.waiting[0].recorded_ms).waiting.popleft())
        if page:
            yield page


async def _fill(app: Mainstem, source: _Source) -> bool:
    """Read on until something can be shown, or the end."""
    while not source.waiting:
        before = source.cursor
        source.waiting.extend(await _page(app, source, 0.0))
        if source.cursor == before:
            return bool(source.waiting)
    return True


async def _page(app: Mainstem, source: _Source, wait: float) -> list[Received[Any]]:
    page = await app.connection().engine.read(source.name, source.cursor, PAGE, wait)
    source.cursor = page.cursor
    events: list[Received[Any]] = []
    for delivery in page.deliveries:
        try:
            events.append(source.envelope.unpack(delivery, delivery.deliveries or 1))
        except DecodeError as error:
            say(f"{source.name} at {delivery.position}: {plain(str(error))}")
    return events


def _row(event: Received[Any]) -> Row:
    return {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "time": event.time.astimezone(UTC).isoformat(),
        "key": event.key,
        "data": event.data,
        "metadata": msgspec.to_builtins(event.metadata),
        "stream": event.stream,
        "position": event.position,
        "recorded": event.recorded.isoformat(),
    }


def _filter(request: Request) -> Callable[[Row], bool]:
    condition = where.parse(request.where) if request.where else None

    def wanted(row: Row) -> bool:
        if request.types and not any(fnmatchcase(row["type"], glob) for glob in request.types):
            return False
        if request.keys and not any(fnmatchcase(row["key"] or "", glob) for glob in request.keys):
            return False
        return condition is None or where.holds(condition, row)

    return wanted


def _writer(request: Request) -> Callable[[Row], None]:
    terminal = sys.stdout.isatty()
    output = request.output if request.output != "auto" else ("table" if terminal else "ndjson")
    if output == "ndjson":
        return lambda row: write_text(as_json(row))
    if output == "json":
        return lambda row: write_text(as_json(row, indent=2))
    return _Columns(any(map(_wild, request.streams)) or len(request.streams) > 1, terminal).write


class _Columns:
    """A table that grows at its end: columns get wider when they must, and never narrower."""

    def __init__(self, named: bool, terminal: bool) -> None:
        self._fields = ["time", *(["stream"] if named else []), "type", "key"]
        self._widths = [12, *([12] if named else []), 8, 8]
        self._terminal = terminal
        self._header = True

    def write(self, row: Row) -> None:
        if self._header:
            self._line([field.upper() for field in self._fields], "DATA", "\x1b[1m")
            self._header = False
        cells = [str(row["recorded"])[11:23]]
        cells += [plain(row[field] or "-") for field in self._fields[1:]]
        self._line(cells, plain(as_json(row["data"])), "")

    def _line(self, cells: list[str], rest: str, style: str) -> None:
        self._widths = [max(width, min(len(text), 40)) for width, text in zip(self._widths, cells, strict=True)]
        start = "  ".join(text.ljust(width) for text, width in zip(cells, self._widths, strict=True))
        line = f"{start}  {rest}"
        if self._terminal:
            wide = screen_width()
            line = line if len(line) <= wide else line[: wide - 1] + "…"
        write_text(f"{style}{line}\x1b[0m" if style and self._terminal else line)


def _wild(name: str) -> bool:
    return "*" in name or "?" in name
