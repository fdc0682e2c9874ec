"""
What a test may leave behind: nothing. Snapshots of this process's sockets, threads and child processes, compared
before and after a test by tests/conftest.py; and the tasks of the running event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from servers_for_tests import STARTED

MARK = "MAINSTEM_TEST_RUN"
"""Set in this process's environment, inherited by all that a test starts: it finds those that left the family."""

GRACE = 2.0
"""Seconds for what is closing already to be gone."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What exists at one moment, by an identity that is not used twice."""

    processes: frozenset[int]
    threads: frozenset[threading.Thread]
    sockets: dict[int, str] = field(default_factory=dict[int, str])


def snapshot() -> Snapshot:
    return Snapshot(frozenset(psutil.pids()), frozenset(threading.enumerate()), dict(_sockets()))


def leaked_since(before: Snapshot, folders: tuple[Path, ...]) -> list[str]:
    """What exists now and did not `before`, one line each; leaked processes are ended."""
    deadline = time.monotonic() + GRACE
    while (processes := _processes(before, folders)) or _threads(before) or _open(before):
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    found = [f"process {_told(process)}" for process in processes]
    found += [f"thread {thread.name}" for thread in _threads(before)]
    found += [f"socket {told}" for told in _open(before)]
    for process in processes:
        _end(process)
    return found


async def leaked_tasks(before: frozenset[asyncio.Task[object]]) -> list[str]:
    """The tasks of this loop that did not exist `before` and do not end by themselves."""
    deadline = time.monotonic() + GRACE
    while (tasks := asyncio.all_tasks() - before - {asyncio.current_task()}) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return [f"task {task.get_name()}: {task.get_coro()}" for task in tasks]


def _processes(before: Snapshot, folders: tuple[Path, ...]) -> list[psutil.Process]:
    children = {child.pid for child in psutil.Process().children(recursive=True)}
    new = set(psutil.pids()) - before.processes - STARTED
    return [process for pid in new if (process := _ours(pid, pid in children, folders))]


def _ours(pid: int, child: bool, folders: tuple[Path, ...]) -> psutil.Process | None:
    """The process if a test started it: a child, or a detached one that carries our mark or lives in our folders."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return process if child else None
        if child or process.environ().get(MARK) == os.environ.get(MARK, "none"):
            return process
        # A Redis or Valkey server writes its title over its environment, and changes to its data folder.
        home = Path(process.cwd())
        return process if any(home.is_relative_to(folder) for folder in folders) else None
    except psutil.Error:
        return None


def _threads(before: Snapshot) -> list[threading.Thread]:
    # The loop's own executor is shut down with the loop, after the fixtures.
    return [
        each for each in threading.enumerate() if each not in before.threads and not each.name.startswith("asyncio_")
    ]


def _open(before: Snapshot) -> list[str]:
    return [told for inode, told in _sockets() if inode not in before.sockets]


def _sockets() -> Iterator[tuple[int, str]]:
    """Each socket of this process that listens or is connected, by inode; an event loop's own unnamed pair is not."""
    for name in os.listdir("/dev/fd"):
        try:
            status = os.fstat(int(name))
            if not stat.S_ISSOCK(status.st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as copy:
                here, there = copy.getsockname(), _peer(copy)
        except OSError:
            continue
        if there or here not in ("", b""):
            yield status.st_ino, f"{here!r} -> {there!r}"


def _peer(connection: socket.socket) -> object:
    try:
        return connection.getpeername()
    except OSError:
        return None


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid}: {' '.join(process.cmdline()) or process.name()} ({process.status()})"
    except psutil.Error:
        return f"{process.pid} (ending)"


def _end(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.Error:
        return
