"""A short private folder for each test, and no process left in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.servers.folder import Folder
from servers.embedded_lab import alive, kill, until


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose servers, at whatever depth, are gone when the test is over."""
    root = Path(tempfile.mkdtemp(prefix="ms"))
    try:
        yield root
    finally:
        for record in [*root.rglob("keeper.lock"), *root.rglob("server.pid")]:
            _end(record)
        shutil.rmtree(root, ignore_errors=True)


def _end(record: Path) -> None:
    folder = Folder(record.parent)
    try:
        pid = int(record.read_text() or 0)
    except FileNotFoundError:
        return  # a server that ends takes its record along
    if pid and alive(pid) and _is_ours(pid, folder):
        kill(pid)
        until(lambda: not alive(pid))


def _is_ours(pid: int, folder: Folder) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return str(folder.root) in words or "unixsocket" in words
