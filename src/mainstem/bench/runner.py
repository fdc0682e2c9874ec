"""
Starts the measured programs, one process a role, and collects their figures.

Interleaved: each repetition runs every side once before the next begins, so that a slow minute of the machine meets
all of them. Which programs there are, and what their figures mean, is decided in `works`.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, Any

import msgspec

from mainstem.bench.program import Job
from mainstem.bench.server import BenchServer
from mainstem.errors import MainstemError

RUN_WITHIN = 120.0

Runs = dict[str, list[dict[str, float]]]
Tell = Callable[[str], None]


class Side(msgspec.Struct, frozen=True):
    """One contestant: its roles are started in order, each once the one before is ready; `share` of the count."""

    name: str
    roles: tuple[str, ...]
    share: float = 1.0
    size: int = 0


class Failed(MainstemError):
    """A measured program ended without figures."""


async def repeat(
    server: BenchServer, work: str, sides: Sequence[Side], count: int, times: int, tell: Tell
) -> tuple[Runs, dict[str, str]]:
    """Run all sides in turn, `times` times. A side that fails is left out from then on, with its reason."""
    runs: Runs = {side.name: [] for side in sides}
    reasons: dict[str, str] = {}
    for repetition in range(times):
        for side in sides:
            if side.name in reasons:
                continue
            tell(f"{work}: {side.name} ({repetition + 1}/{times})")
            try:
                runs[side.name].append(await _measure(server, side, count, repetition))
            except Failed as error:
                reasons[side.name] = str(error)
    return runs, reasons


async def _measure(server: BenchServer, side: Side, count: int, repetition: int) -> dict[str, float]:
    stream = f"{server.token}.{re.sub('[^a-zA-Z0-9]+', '-', side.name)}.{repetition}"
    task = Job(url=server.url, stream=stream, count=max(100, int(count * side.share)), size=side.size)
    before = server.cost()
    try:
        figures = await _run_roles(side.roles, task)
        after = server.cost()
    finally:
        server.clear()
    if "started" in figures and "ended" in figures:
        figures["rate"] = figures["events"] / (figures["ended"] - figures["started"])
    if figures.get("events"):
        figures["server_cpu_us"] = (after.cpu_seconds - before.cpu_seconds) / figures["events"] * 1e6
        if before.aof_bytes is not None and after.aof_bytes is not None:
            figures["aof_bytes"] = (after.aof_bytes - before.aof_bytes) / figures["events"]
    return figures


async def _run_roles(roles: Sequence[str], job: Job) -> dict[str, float]:
    figures: dict[str, float] = {}
    started: list[_Child] = []
    try:
        for role in roles:
            child = await _Child.start(role, job)
            started.append(child)
            if role is not roles[-1]:
                await child.expect("ready")
        for child in reversed(started):
            figures |= await child.expect("figures")
    finally:
        for child in started:
            await child.end()
    return figures


class _Child:
    """A program under way."""

    def __init__(self, name: str, job: Job, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._name = name
        self._patience = RUN_WITHIN + job.size / 20_000
        self._process = process
        self._errors = errors

    @classmethod
    async def start(cls, name: str, job: Job) -> _Child:
        words = (sys.executable, "-m", "mainstem.bench.program", name, msgspec.json.encode(job).decode())
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdin=nothing, stdout=pipe, stderr=errors)
        return cls(name, job, process, errors)

    async def expect(self, what: str) -> Any:
        """The value of the next message of that name; raises Failed when the program ends or hangs before it."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(self._patience):
                while line := await self._process.stdout.readline():
                    if not line.startswith(b"{"):
                        continue
                    message: dict[str, Any] = msgspec.json.decode(line)
                    if what in message:
                        return message[what]
        except TimeoutError:
            raise Failed(f"{self._name} did not finish within {self._patience:g} s") from None
        raise Failed(f"{self._name} failed: {await self._last_words()}")

    async def end(self) -> None:
        """Stop it, if it still runs, and wait for its end."""
        if self._process.returncode is None:
            try:
                async with asyncio.timeout(2):
                    await self._process.communicate()
            except TimeoutError:
                self._process.kill()
        await self._process.communicate()
        self._errors.close()

    async def _last_words(self) -> str:
        code = await self._process.wait()
        self._errors.seek(0)
        lines = [line.strip(" |+") for line in self._errors.read().decode(errors="replace").splitlines()]
        said = [line for line in lines if line and not line.startswith("-")]  # an exception group ends with a rule
        return said[-1][:300] if said else f"exit {code}"
