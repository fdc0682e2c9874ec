"""
`mainstem publish`: lines to events to the stream, in order, one acknowledged batch after the other. A line that cannot
be an event stops none of the others; a server that fails stops the reading, and the report says from which line on.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mainstem.app import Mainstem
from mainstem.cli import exits, position
from mainstem.cli.connecting import opened
from mainstem.cli.lines import Line, Splitter, chunks
from mainstem.cli.making import Making, event_of
from mainstem.cli.options import Format
from mainstem.cli.printing import as_json, console, plain, say, write_record, write_text
from mainstem.connection import Opened
from mainstem.engine import StreamSpec
from mainstem.errors import ConfigError, EventRejected, MainstemError, OutcomeUnknown
from mainstem.event import StreamEvent
from mainstem.names import stream_name
from mainstem.stream import EventStream, specification

if TYPE_CHECKING:
    from rich.progress import Progress

SHOWN = 20  # broken lines that are told one by one
NAMED = 1000  # broken lines that the report names
SLICE = 2000  # lines of one batch
Outcome = str | MainstemError | None


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    stream: str
    url: str | None
    output: Format
    file: Path | None = None  # None: stdin
    data: str | None = None  # the one event's data
    events: bool = False
    type: str = ""
    source: str = ""
    key: str | None = None
    key_field: str = ""
    resume: bool = False
    dry_run: bool = False

    def check(self, *, piped: bool) -> None:
        """Refuse what contradicts itself; `piped`: stdin was asked for."""
        if self.data is not None and (self.file is not None or piped or self.events or self.resume):
            raise ConfigError("--data is one event's data: it goes neither with FILE nor with --events or --resume.")
        if self.key is not None and self.key_field:
            raise ConfigError("--key and --key-field both choose the key: keep one of them.")
        if self.resume and self.file is None:
            raise ConfigError("--resume needs a FILE: stdin has no position to go on from.")


@dataclass(slots=True)
class Tally:
    """What became of the lines."""

    published: int = 0
    rejected: int = 0
    failed: int = 0
    unknown: int = 0
    line: int = 0  # the last line behind which everything is settled
    offset: int = 0
    rejected_lines: list[int] = field(default_factory=list[int])
    error: MainstemError | None = None  # the first that was no line's own fault

    @property
    def code(self) -> int:
        if self.unknown:
            return exits.UNKNOWN
        if self.error is not None:
            return exits.code_of(self.error)
        return exits.FAILED if self.rejected else exits.OK


async def publish(request: Request) -> int:
    """Publish what the request names; prints the report and returns the exit code."""
    stream_name(request.stream)
    async with opened(request.url) as app:
        stream = app.stream(request.stream)
        if request.data is not None:
            return await _one(app, request, stream)
        return await _many(app, request, stream)


async def _target(app: Mainstem, request: Request, stream: EventStream[Any]) -> Opened[Any]:
    return await _trial(app, request.stream) if request.dry_run else await _real(app, stream)


async def _real(app: Mainstem, stream: EventStream[Any]) -> Opened[Any]:
    if not await app.connection().engine.streams(stream.name):
        say(f"stream {stream.name!r} is new: made as a queue that keeps the last 1,000,000 events (mainstem alter).")
    return await stream.open()


async def _trial(app: Mainstem, name: str) -> Opened[Any]:
    """The stream as it is or would be made, without making it."""
    from mainstem.codec import Envelope
    from mainstem.payload import payload_of

    connection = app.connection()
    found: Sequence[StreamSpec] = await connection.engine.streams(name)
    if found:
        spec = found[0]
    else:
        spec, _ = specification(
            name, None, keyed=False, partitions=None, retain=None, max_events=None, until_read=False
        )
    payload = payload_of(bytes if spec.type == "bytes" else None)
    return Opened(connection, spec, Envelope(spec, payload, connection.source, connection.event_limit))


async def _one(app: Mainstem, request: Request, stream: EventStream[Any]) -> int:
    raw = str(request.data).encode("utf-8", "surrogateescape")
    target = await _trial(app, request.stream)
    event = event_of(raw, 0, _making(request, target, ""))
    if event is None:
        raise EventRejected("--data is empty: give the event's data as JSON.")
    _packed(target, event)
    if request.dry_run:
        say(f"would publish one event to {stream.name!r}")
        return exits.OK
    await _real(app, stream)
    place = await stream.publish(event)
    record = {"stream": stream.name, "position": place, "id": event.id}
    write_record(record, request.output)
    return exits.OK


async def _many(app: Mainstem, request: Request, stream: EventStream[Any]) -> int:
    begun = time.monotonic()
    with _input(request) as (descriptor, start, total):  # first: a wrong file must not leave a new stream behind
        target = await _target(app, request, stream)
        tally = Tally(line=start.line, offset=start.offset)
        origin = str(request.file.resolve()) if request.file is not None else ""
        run = _Run(request, stream, target, _making(request, target, origin), tally)
        try:
            with _progress(total) as progress:
                await run.all(chunks(descriptor), Splitter(start.line, start.offset), progress)
        except asyncio.CancelledError:
            _report(request, tally, time.monotonic() - begun, start.line, interrupted=True)
            raise
    _report(request, tally, time.monotonic() - begun, start.line, interrupted=False)
    return tally.code


class _Run:
    """One pass over the lines of one input."""

    def __init__(
        self, request: Request, stream: EventStream[Any], target: Opened[Any], making: Making, tally: Tally
    ) -> None:
        self._request = request
        self._stream = stream
        self._target = target
        self._making = making
        self._tally = tally

    async def all(self, source: AsyncIterator[bytes], splitter: Splitter, progress: Progress | None) -> None:
        async for chunk in source:
            await self._batches(splitter.feed(chunk))
            if progress is not None:
                progress.update(progress.task_ids[0], advance=len(chunk), published=f"{self._tally.published:,}")
            if self._tally.error is not None:
                return
        await self._batches(splitter.close())

    async def _batches(self, lines: Sequence[Line]) -> None:
        for at in range(0, len(lines), SLICE):
            if self._tally.error is None:
                await self._settled(lines[at : at + SLICE])

    async def _settled(self, lines: Sequence[Line]) -> None:
        """One batch, to its end even when we are interrupted: what was sent is counted."""
        sending = asyncio.ensure_future(self._batch(lines))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await sending
            raise

    async def _batch(self, lines: Sequence[Line]) -> None:
        made = [self._made(line) for line in lines]
        events = [event for event in made if isinstance(event, StreamEvent)]
        outcomes = iter(await self._sent(events))
        moving = True
        for line, event in zip(lines, made, strict=True):
            outcome = next(outcomes) if isinstance(event, StreamEvent) else event
            moving = self._count(line, event, outcome) and moving
            if moving:
                self._tally.line, self._tally.offset = line.number, line.end
        file = self._request.file
        if self._request.resume and file is not None and not self._request.dry_run:
            position.save(file, self._stream.name, self._tally.offset, self._tally.line)

    def _made(self, line: Line) -> StreamEvent[Any] | EventRejected | None:
        try:
            return event_of(line.raw, line.number, self._making)
        except EventRejected as error:
            return error

    async def _sent(self, events: Sequence[StreamEvent[Any]]) -> Sequence[Outcome]:
        if not self._request.dry_run:
            return await self._stream.try_publish_batch(events)
        return [_tried(self._target, event) for event in events]

    def _count(self, line: Line, event: object, outcome: Outcome) -> bool:
        """Note what became of a line; whether it is settled."""
        tally = self._tally
        if isinstance(outcome, EventRejected):
            tally.rejected += 1
            if tally.rejected <= SHOWN:
                say(f"line {line.number}: {plain(str(outcome))}")
            if len(tally.rejected_lines) < NAMED:
                tally.rejected_lines.append(line.number)
            return True
        if isinstance(outcome, MainstemError):
            tally.error = tally.error or outcome
            tally.unknown += isinstance(outcome, OutcomeUnknown)
            tally.failed += not isinstance(outcome, OutcomeUnknown)
            return False
        if isinstance(event, StreamEvent):
            tally.published += 1
            if self._request.output == "ndjson" and not self._request.dry_run:
                write_text(as_json({"line": line.number, "id": event.id, "position": outcome}))
        return True


def _making(request: Request, target: Opened[Any], origin: str) -> Making:
    return Making(
        spec=target.spec,
        events=request.events,
        type=request.type,
        source=request.source,
        key=request.key,
        key_field=request.key_field,
        origin=origin,
    )


def _tried(target: Opened[Any], event: StreamEvent[Any]) -> str | EventRejected:
    try:
        _packed(target, event)
    except EventRejected as error:
        return error
    return ""


def _packed(target: Opened[Any], event: StreamEvent[Any]) -> None:
    """Everything that publishing checks before it sends."""
    target.part_of(target.envelope.pack_event(event)[1])


@contextmanager
def _input(request: Request) -> Generator[tuple[int, position.Position, int | None]]:
    """The descriptor to read, where it stands, and how many bytes there are, if that is known."""
    if request.file is None:
        if sys.stdin.isatty():
            say("reading from the terminal: one JSON a line, Ctrl-D ends.")
        yield sys.stdin.fileno(), position.Position(stream=request.stream), None
        return
    try:
        opened_file = open(request.file, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"{request.file} cannot be read: {error.strerror}.") from error
    with closing(opened_file):
        start = (
            position.load(request.file, request.stream) if request.resume else position.Position(stream=request.stream)
        )
        os.lseek(opened_file.fileno(), start.offset, os.SEEK_SET)
        yield opened_file.fileno(), start, max(os.fstat(opened_file.fileno()).st_size - start.offset, 0)


@contextmanager
def _progress(total: int | None) -> Generator[Progress | None]:
    """A bar on stderr where people look at it."""
    watched = sys.stderr.isatty() and not sys.stdin.isatty() if total is None else sys.stderr.isatty()
    if not watched:
        with nullcontext() as nothing:
            yield nothing
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TextColumn("{task.fields[published]} published"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        progress.add_task("publish", total=total, published="0")
        yield progress


def _report(request: Request, tally: Tally, seconds: float, first: int, *, interrupted: bool) -> None:
    if tally.rejected > SHOWN:
        say(f"... and {tally.rejected - SHOWN:,} more lines that were rejected")
    if tally.error is not None:
        say(f"mainstem: {tally.error} Line {tally.line + 1} is the first that is not certainly published.")
    record = {
        "stream": request.stream,
        "published": tally.published,
        "rejected": tally.rejected,
        "failed": tally.failed,
        "unknown": tally.unknown,
        "rejected_lines": tally.rejected_lines,
        "first_line": first + 1,
        "last_line": tally.line,
        "seconds": round(seconds, 3),
        "interrupted": interrupted,
        "dry_run": request.dry_run,
    }
    if request.output != "table":
        write_text(as_json(record, indent=2 if request.output == "json" else 0))
        return
    would = "would be " if request.dry_run else ""
    parts = [f"{tally.published:,} {would}published"]
    parts += [f"{count:,} {name}" for name, count in _troubles(tally) if count]
    rate = f" in {seconds:.1f} s" + (f" ({tally.published / seconds:,.0f}/s)" if seconds > 0.5 else "")
    named = f"; rejected lines: {', '.join(map(str, tally.rejected_lines[:SHOWN]))}" if tally.rejected else ""
    since = f"; went on from line {first + 1}" if first else ""
    write_text(f"{request.stream}: {', '.join(parts)}{rate}{since}{named}{'; interrupted' if interrupted else ''}")


def _troubles(tally: Tally) -> tuple[tuple[str, int], ...]:
    return ("rejected", tally.rejected), ("failed", tally.failed), ("unknown", tally.unknown)
