"""
Locks between processes: flock on a file, which the kernel drops with the last process that holds it, even by kill -9.

Nothing here knows what a lock stands for. A lock is never stored, inherited by exec, or broken by force.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from mainstem.errors import ConfigError, Unavailable

try:
    import fcntl
except ImportError as error:  # Windows has no flock, and no server to embed
    raise ConfigError("embedded servers need Linux or macOS: name a running one, as redis://localhost:6379.") from error

_POLL = 0.005


def take(path: Path, *, shared: bool = False) -> int | None:
    """The descriptor that now holds the lock at ``path``, or None when another process holds it; never waits."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), os.stat(path)):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    # held by another, or the file was replaced under us: the name now leads to another lock
    os.close(descriptor)
    return None


def drop(descriptor: int) -> None:
    """Give a lock up at once, even if a child forked meanwhile still holds a copy of the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def held(path: Path) -> bool:
    """Whether some process holds the lock at ``path`` exclusively."""
    return _refused(path, fcntl.LOCK_SH)


def shared(path: Path) -> bool:
    """Whether some process holds the lock at ``path``, shared or exclusively."""
    return _refused(path, fcntl.LOCK_EX)


@contextmanager
def exclusive(path: Path, deadline: float) -> Generator[None]:
    """Hold the lock at ``path`` meanwhile; raises Unavailable when it is not free before ``deadline`` (monotonic)."""
    while (descriptor := take(path)) is None:
        if time.monotonic() > deadline:
            raise Unavailable(f"another process is still starting or stopping the server behind {path}: try again.")
        time.sleep(_POLL)
    try:
        yield
    finally:
        drop(descriptor)


def _refused(path: Path, kind: int) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
