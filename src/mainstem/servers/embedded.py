"""
The embedded server: one per folder, shared by all processes that use it, started by the first, stopped after the last.

Whoever needs it calls ``ensure`` before connecting, and again before reconnecting. Four file locks say all there is to
know (folder.py names them), so a kill -9 at any moment leaves nothing to repair. Reading URLs is the caller's part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mainstem.errors import ConfigError, Unavailable
from mainstem.servers import lock, resp
from mainstem.servers.folder import Folder, find_folder, full, make_folder, unusable
from mainstem.servers.start import Fsync, Options, adopt_server, last_words, start_server

_log = logging.getLogger(__name__)
_POLL = 0.005


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: ``address`` is the path of its unix socket, ``notice`` what its start had to report."""

    folder: Path
    address: str
    pid: int
    started_by_us: bool
    notice: str = ""

    @property
    def url(self) -> str:
        """The address as a ``unix://`` URL, its path percent-encoded."""
        return "unix://" + quote(self.address)


@dataclass(frozen=True, slots=True)
class Status:
    """What can be seen of a folder's server; ``clients`` counts connections other than the keeper's and ours."""

    folder: Path
    address: str
    running: bool
    pid: int | None = None
    version: str = ""
    kept: bool = False
    held: bool = False
    clients: int = 0


async def ensure(
    folder: Path | None = None, *, fsync: Fsync = "everysec", idle: float = 60.0, wait: float = 10.0
) -> Running:
    """``ensure_sync`` in a thread; cancelling it leaves the server starting, which is harmless."""
    return await asyncio.to_thread(ensure_sync, folder, fsync=fsync, idle=idle, wait=wait)


def ensure_sync(
    folder: Path | None = None, *, fsync: Fsync = "everysec", idle: float = 60.0, wait: float = 10.0
) -> Running:
    """
    Find the folder's server, or start it: exactly one, however many processes ask at once.

    Without a folder: the nearest ``.mainstem`` upward, else a new one here. ``idle``: how many seconds after its last
    client a server started by us ends. ``fsync="always"`` raises a running server to it; nothing lowers one. Raises
    ConfigError when folder or program cannot be used, Unavailable when no answer came within ``wait`` seconds.
    """
    return _ensured(find_folder(folder), Options(fsync=fsync, idle=idle, wait=wait))


@contextmanager
def hold(folder: Path | None = None, *, fsync: Fsync = "everysec") -> Generator[Running]:
    """Keep the folder's server up, clients or not, as long as this lasts; it ends with the process, even by kill -9."""
    place = find_folder(folder)
    make_folder(place)
    while (held := lock.take(place.hold_lock, shared=True)) is None:
        time.sleep(_POLL)  # the keeper is looking whether it is held
    try:
        yield _ensured(place, Options(fsync=fsync))
    finally:
        lock.drop(held)


def stop(folder: Path | None = None, *, wait: float = 10.0) -> bool:
    """
    End the folder's server cleanly, everything written down; False if none ran.

    Its clients see their connections close; those that call ``ensure`` start it again. Raises Unavailable when it does
    not end within ``wait`` seconds, as when a full disk keeps it from writing.
    """
    place = find_folder(folder)
    deadline = time.monotonic() + wait
    if not place.start_lock.exists():
        return False
    with lock.exclusive(place.start_lock, deadline):
        if not _alive(place):
            return False
        refused = _ask_to_end(place)
        while _alive(place):
            if time.monotonic() > deadline:
                words = refused or last_words(place)
                raise Unavailable(f"the server of {place.root} does not end: {words} (see {place.log}).")
            time.sleep(_POLL)
    return True


def status(folder: Path | None = None) -> Status:
    """What runs in the folder, found without starting, making or waiting for anything."""
    place = find_folder(folder)
    address, running = place.address(), lock.held(place.server_lock)
    if not running:
        return Status(place.root, address, running=False)
    try:
        facts = resp.info(resp.call(address, ("INFO",))[0])
    except OSError:
        facts = {}
    kept = lock.held(place.keeper_lock)
    others = int(facts.get("connected_clients", 0)) - 1 - kept
    return Status(
        place.root,
        address,
        running=True,
        pid=int(facts["process_id"]) if "process_id" in facts else _pid(place),
        version=_version(facts),
        kept=kept,
        held=lock.shared(place.hold_lock),
        clients=max(0, others),
    )


def _ensured(place: Folder, options: Options) -> Running:
    deadline = time.monotonic() + options.wait
    make_folder(place)
    try:
        with lock.exclusive(place.start_lock, deadline):
            found = _find(place, deadline)
            if found is None:
                notice = start_server(place, options, deadline)
                found = _find(place, deadline)
                if found is None:
                    raise Unavailable(f"the server of {place.root} ended right after its start: see {place.log}.")
                return _reported(Running(place.root, found.address, found.pid, started_by_us=True, notice=notice))
            if not lock.held(place.keeper_lock):
                adopt_server(place, options, deadline)
            if options.fsync == "always":
                _raise_fsync(found)
            return found
    except OSError as error:
        raise unusable(place, error) from error


def _raise_fsync(found: Running) -> None:
    try:
        answer = resp.call(found.address, ("CONFIG", "SET", "appendfsync", "always"))[0]
    except OSError as error:
        raise Unavailable(f"the server of {found.folder} ended while it was being asked: try again.") from error
    if answer != "OK":
        raise ConfigError(f"the server of {found.folder} does not take appendfsync always ({answer!r}): stop it first.")


def _find(place: Folder, deadline: float) -> Running | None:
    """The server that answers, waiting for one that is starting, loading or ending; None when there is none."""
    while True:
        address = place.address()
        try:
            pong, facts = resp.call(address, ("PING",), ("INFO", "server"))
        except OSError:
            pong, facts = None, None
        loading = isinstance(pong, resp.Failure) and pong.startswith("LOADING")
        if pong is not None and not loading:
            # An error is an answer too: with a password set by hand, say, it serves those who know it.
            pid = resp.info(facts).get("process_id")
            return Running(place.root, address, int(pid) if pid else _pid(place) or 0, started_by_us=False)
        if pong is None and not _alive(place):
            return None
        if time.monotonic() > deadline:
            raise _not_answering(place, address, loading)
        time.sleep(_POLL)


def _not_answering(place: Folder, address: str, loading: bool) -> Unavailable:
    if loading:
        facts = resp.info(resp.call(address, ("INFO", "persistence"))[0])
        done = facts.get("loading_loaded_perc", "?").partition(".")[0]
        return Unavailable(f"the server of {place.root} is still loading its data ({done} %): try again in a moment.")
    pid = _pid(place)
    return Unavailable(
        f"the server of {place.root} (pid {pid}) is alive but does not answer; its last words: {last_words(place)!r}. "
        f"Try again, or end it with: kill -9 {pid}"
    )


def _alive(place: Folder) -> bool:
    return lock.held(place.server_lock) or lock.held(place.keeper_lock)


def _ask_to_end(place: Folder) -> str:
    """Why it will not end, if it says so."""
    try:
        facts = resp.info(resp.call(place.address(), ("INFO", "persistence"))[0])
        if facts.get("aof_last_write_status") == "err":
            raise full(place)  # it would end all the same, and its last writes with it
        return str(resp.call(place.address(), ("SHUTDOWN",))[0])
    except OSError:
        return ""  # it closes the connection instead of answering


def _pid(place: Folder) -> int | None:
    try:
        return int(place.pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _version(facts: dict[str, str]) -> str:
    if "valkey_version" in facts:
        return f"valkey {facts['valkey_version']}"
    return f"redis {facts['redis_version']}" if "redis_version" in facts else ""


def _reported(running: Running) -> Running:
    if running.notice:
        _log.warning("%s", running.notice)
    return running
