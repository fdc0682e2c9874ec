"""`mainstem up` and `stop`: the embedded server of a folder, kept up without clients, and stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from mainstem.cli import exits
from mainstem.cli.options import Format
from mainstem.cli.printing import say, write_record, write_text
from mainstem.errors import Unavailable
from mainstem.servers import embedded
from mainstem.servers.embedded import Running
from mainstem.servers.folder import Folder

LOOK = 0.25  # seconds between looks whether the server is still there
PATIENCE = 15.0  # seconds for a detached holder to begin


def up(folder: Path | None, *, always: bool, output: Format) -> int:
    """Hold the server until Ctrl-C, SIGTERM or `mainstem stop`; a server that crashed is started again."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    previous = [(number, signal.signal(number, end)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with embedded.hold(folder, fsync="always" if always else "everysec") as running:
            _introduce(running, output)
            stopped = _watch(running, ended)
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
    if stopped:
        say("the server was stopped; up ends too.")
    elif embedded.status(running.folder).clients:
        say("no longer held: other clients still use the server, it ends a minute after the last of them.")
    else:
        embedded.stop(running.folder)
        say("the server was stopped; what it holds is kept.")
    return exits.OK


def detach(folder: Path | None, *, always: bool, output: Format) -> int:
    """Start `mainstem up` as a process of its own, and wait until it holds the server."""
    command = [sys.executable, "-m", "mainstem.cli", "up", *(["--fsync", "always"] if always else [])]
    if folder is not None:
        command += ["--dir", str(folder)]
    running = embedded.ensure_sync(folder, fsync="always" if always else "everysec")
    process = subprocess.Popen(
        command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + PATIENCE
    while not embedded.status(folder).held:
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable(
                f"the server could not be held: try `mainstem up` in the foreground (see {running.folder})."
            )
        time.sleep(0.05)
    _introduce(running, output, f"held by pid {process.pid}; mainstem stop ends it")
    return exits.OK


def stop(folder: Path | None) -> int:
    """Stop the folder's server."""
    if embedded.stop(folder):
        write_text("the server was stopped; what it holds is kept.")
    else:
        write_text("no server was running.")
    return exits.OK


def _watch(running: Running, ended: threading.Event) -> bool:
    """Wait for the end; True where the server was stopped by someone else."""
    place = Folder(running.folder)
    while not ended.wait(LOOK):
        if embedded.status(running.folder).running:
            continue
        if not place.pid_file.exists():  # a server that ends cleanly takes it along
            return True
        say("the server ended without a word: starting it again.")
        embedded.ensure_sync(running.folder)
    return False


def _introduce(running: Running, output: Format, how: str = "Ctrl-C stops it") -> None:
    url = f"embedded://{running.folder}"
    if output != "table":
        write_record({"url": url, "socket": running.address, "pid": running.pid, "folder": str(running.folder)}, output)
    else:
        write_text(f"embedded server in {running.folder} (pid {running.pid}), {how}")
        write_text(f"  export MAINSTEM_URL={url}")
        write_text(f"  redis-cli -s {running.address}")
    sys.stdout.flush()
