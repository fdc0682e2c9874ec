"""
The demo's worker processes: started, watched, started again when they die, stopped. Knows nothing about their events.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec

from mainstem.demo.pipeline import Job
from mainstem.demo.worker import REPORT
from mainstem.errors import MainstemError

SHORT_LIFE = 3.0  # seconds; who dies sooner probably always will
DEATHS = 3  # of short lives in a row, then the demo gives up
PAUSE = 0.2  # seconds before a worker is started again
STOPPING = 15.0  # seconds a worker may take to drain

OnReport = Callable[[int, int, int], None]
"""Takes the group, the microseconds and the digest of one report."""


class Seat:
    """A worker's place: the process in it may change."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Process | None = None
        self.deaths = 0
        self.early_deaths = 0
        self.said = ""  # the last line that it wrote to stderr

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None


class Crew:
    """`async with Crew(...)`: workers run inside. `failed` holds the error when they cannot be kept running."""

    def __init__(self, job: Job, size: int, on_report: OnReport, on_line: Callable[[str], None]) -> None:
        self.seats = [Seat(number) for number in range(1, size + 1)]
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._job = msgspec.json.encode(job) + b"\n"
        self._on_report = on_report
        self._on_line = on_line
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def deaths(self) -> int:
        """Workers that ended without being asked."""
        return sum(seat.deaths for seat in self.seats)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep(seat), name=f"demo-worker-{seat.number}") for seat in self.seats]
        for task in self._tasks:
            task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if not self.failed.cancel():
            self.failed.exception()  # whoever left early need not have looked at it

    async def stop(self) -> None:
        """Let every worker drain and end; returns when all of their reports were read."""
        self._stop.set()
        for seat in self.seats:
            if seat.pid is not None and seat.process is not None:
                seat.process.terminate()
        if not self._tasks:
            return
        _, slow = await asyncio.wait(self._tasks, timeout=STOPPING)
        for task in slow:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def _keep(self, seat: Seat) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            code = await self._run(seat)
            if self._stop.is_set():
                return
            seat.deaths += 1
            seat.early_deaths = seat.early_deaths + 1 if time.monotonic() - begun < SHORT_LIFE else 0
            if seat.early_deaths >= DEATHS:
                raise MainstemError(f"worker {seat.number} cannot run: {seat.said or _cause(code)}")
            self._on_line(f"worker {seat.number} died ({_cause(code)}) and is started again")
            await asyncio.sleep(PAUSE)

    async def _run(self, seat: Seat) -> int:
        """One life of a worker."""
        # A session of its own: the terminal's Ctrl-C is for us, who let the workers finish first.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mainstem.demo.worker", stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        seat.process = process
        try:
            with contextlib.suppress(ConnectionError):
                _stdin(process).write(self._job)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reports(process))
                group.create_task(self._lines(seat, process))
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            _stdin(process).close()

    async def _reports(self, process: Process) -> None:
        assert process.stdout is not None
        rest = b""
        while chunk := await process.stdout.read(1 << 16):
            rest += chunk
            whole = len(rest) - len(rest) % REPORT.size
            for group, us, identity in REPORT.iter_unpack(rest[:whole]):
                self._on_report(group, us, identity)
            rest = rest[whole:]

    async def _lines(self, seat: Seat, process: Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            seat.said = line.decode(errors="replace").strip() or seat.said
            if seat.said and not self._stop.is_set():
                self._on_line(f"worker {seat.number}: {seat.said}")


def _stdin(process: Process) -> asyncio.StreamWriter:
    assert process.stdin is not None
    return process.stdin


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
