"""
Worker processes: started, started again when they crash or their code changes, drained and ended together. Knows
processes and signals; what a worker does, and what an app is, is not known here.

A worker's stdin is a pipe that only the supervisor holds the other end of: when the supervisor is gone, even by
kill -9, the worker reads the end of it and drains. That works on every system, unlike PR_SET_PDEATHSIG.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

_log = logging.getLogger("mainstem")

LOOK = 0.05  # seconds between looks at the workers
SCAN = 0.5  # seconds between looks at the source files
BACKOFF = (1.0, 10.0)  # seconds before a crashed worker is started again: the first time, and at most
HEALTHY = 30.0  # seconds after which a worker's start counts as good
GRACE = 30.0  # seconds a worker may drain when its code changed or its supervisor is gone
IMMEDIATE = 2.0  # seconds from "end at once" to SIGKILL
FINAL = 2  # exit code of a wrong setting: starting again would not help
INTERRUPTED = 130
_SKIPPED = {"node_modules", "__pycache__", "venv", "site-packages"}


@dataclass(slots=True)
class _Worker:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = BACKOFF[0]
    again: float | None = 0.0  # monotonic time of its next start; None: not while its code is what it is


@dataclass(slots=True)
class _Wanted:
    """What signals asked for."""

    stops: list[int] = field(default_factory=list[int])

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.stops.append(number)


def supervise(command: Sequence[str], workers: int, *, watch: Path | None = None) -> int:
    """Run `workers` processes of `command` until SIGINT or SIGTERM, then drain them; a second one ends them at once.

    `watch`: a folder whose *.py files start all of them again when they change. Returns the exit code: 0 after a
    drain, 130 after a second signal, 2 when a worker says that its settings are wrong.
    """
    wanted = _Wanted()
    before = {number: signal.signal(number, wanted) for number in (signal.SIGINT, signal.SIGTERM)}
    crew = [_Worker(number) for number in range(1, workers + 1)]
    sources = _Sources(watch) if watch is not None else None
    try:
        return _keep(command, crew, wanted, sources)
    finally:
        _kill(crew)
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_supervisor() -> None:
    """In a worker: drain when stdin ends, because the supervisor is gone; end for good if that takes too long."""

    def wait() -> None:
        while os.read(0, 64):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(1)

    threading.Thread(target=wait, name="mainstem-supervisor", daemon=True).start()


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


def _keep(command: Sequence[str], crew: Sequence[_Worker], wanted: _Wanted, sources: _Sources | None) -> int:
    while not wanted.stops:
        for worker in crew:
            _tend(command, worker)
            if worker.again is None and sources is None:
                _drain(crew, wanted)
                return FINAL
        if sources is not None and (changed := sources.changed()):
            _log.info("%s changed: starting %d workers again", changed, len(crew))
            _drain(crew, wanted, GRACE)
            for worker in crew:
                worker.again, worker.pause = 0.0, BACKOFF[0]
        time.sleep(LOOK)
    _log.info("stopping %d workers; once more (Ctrl-C) to stop at once", len(crew))
    return _drain(crew, wanted)


def _tend(command: Sequence[str], worker: _Worker) -> None:
    """Start a worker that does not run, and note why one ended."""
    now = time.monotonic()
    process = worker.process
    if process is None:
        if worker.again is not None and now >= worker.again:
            worker.process, worker.started = _start(command, worker.number), now
            _log.info("worker %d started (pid %d)", worker.number, worker.process.pid)
        return
    code = process.poll()
    if code is None:
        return
    _let_go(worker)
    if code == FINAL:
        worker.again = None
        return
    if now - worker.started > HEALTHY:
        worker.pause = BACKOFF[0]
    _log.error(
        "worker %d (pid %d) %s; starting it again in %g s", worker.number, process.pid, ending(code), worker.pause
    )
    worker.again = now + worker.pause
    worker.pause = min(worker.pause * 2, BACKOFF[1])


def _start(command: Sequence[str], number: int) -> subprocess.Popen[bytes]:
    environment: Mapping[str, str] = {**os.environ, "MAINSTEM_WORKER": str(number)}
    # A session of its own: Ctrl-C reaches the supervisor alone, which passes it on once.
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def _drain(crew: Sequence[_Worker], wanted: _Wanted, patience: float | None = None) -> int:
    """Ask all to finish and wait; a signal meanwhile, or the end of patience, ends them at once."""
    heard = len(wanted.stops)
    _signal(crew, signal.SIGTERM)
    deadline = None if patience is None else time.monotonic() + patience
    while _running(crew):
        if len(wanted.stops) > max(heard, 1) or (deadline is not None and time.monotonic() > deadline):
            _end_at_once(crew)
            return INTERRUPTED
        time.sleep(LOOK)
    for worker in crew:
        _let_go(worker)
    return 0


def _end_at_once(crew: Sequence[_Worker]) -> None:
    _signal(crew, signal.SIGTERM)  # the second one: what was not acknowledged is left as it is
    deadline = time.monotonic() + IMMEDIATE
    while _running(crew) and time.monotonic() < deadline:
        time.sleep(LOOK)
    _kill(crew)


def _kill(crew: Sequence[_Worker]) -> None:
    for worker in crew:
        if worker.process is not None:
            worker.process.kill()
            worker.process.wait()
            _let_go(worker)


def _signal(crew: Sequence[_Worker], number: int) -> None:
    for worker in crew:
        if worker.process is not None and worker.process.poll() is None:
            worker.process.send_signal(number)


def _running(crew: Sequence[_Worker]) -> bool:
    return any(worker.process is not None and worker.process.poll() is None for worker in crew)


def _let_go(worker: _Worker) -> None:
    process, worker.process = worker.process, None
    if process is not None and process.stdin is not None:
        process.stdin.close()


class _Sources:
    """The *.py files under a folder, by the time they were written; polled, which works on every file system."""

    def __init__(self, root: Path, modified: Callable[[Path], dict[str, int]] | None = None) -> None:
        self._root = root
        self._modified = modified if modified is not None else modified_times
        self._known = self._modified(root)
        self._next = time.monotonic() + SCAN

    def changed(self) -> str:
        """A file that was written, made or deleted since the last look; empty when there is none."""
        if time.monotonic() < self._next:
            return ""
        found = self._modified(self._root)
        self._next = time.monotonic() + SCAN
        before, self._known = self._known, found
        different = sorted(name for name in before.keys() | found.keys() if before.get(name) != found.get(name))
        return os.path.relpath(different[0], self._root) if different else ""


def modified_times(root: Path) -> dict[str, int]:
    """When each *.py file under a folder was last written; hidden folders and environments are left out."""
    found: dict[str, int] = {}
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".") and name not in _SKIPPED]
        for name in files:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                try:
                    found[path] = os.stat(path).st_mtime_ns
                except FileNotFoundError:
                    continue  # deleted meanwhile
    return found


def python_command(*words: str) -> list[str]:
    """A command of this very interpreter."""
    return [sys.executable, *words]
