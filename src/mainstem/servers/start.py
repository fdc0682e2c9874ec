"""
Starting an embedded server: its configuration, its keeper, and what the log says when it does not come up.

Called with the folder's start lock held, and only when no server lives there. Deciding that is embedded.py's part.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mainstem.errors import ConfigError, MainstemError, Unavailable
from mainstem.servers.binary import find_binary
from mainstem.servers.folder import Folder, choose_address, full, unusable

Fsync = Literal["everysec", "always"]
_LOG_LIMIT = 1 << 20
# What python or a server may need to find its libraries; not the starter's secrets, which would show in /proc.
_ENVIRONMENT = ("PATH", "HOME", "TZ", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Options:
    """How to start a server: ``idle`` and ``wait`` in seconds; ``tied`` ends it with its keeper (Linux only)."""

    fsync: Fsync = "everysec"
    idle: float = 60.0
    wait: float = 10.0
    tied: bool = sys.platform == "linux"


def start_server(folder: Folder, options: Options, deadline: float) -> str:
    """
    Start a server and its keeper; return a notice to pass on ("" if all is well) once it answers.

    Raises ConfigError when it cannot run in this folder, Unavailable when it might later. A server that is still
    loading at the deadline is left to load.
    """
    binary = find_binary()
    try:
        if folder.log.exists() and folder.log.stat().st_size > _LOG_LIMIT:
            folder.log.replace(folder.root / "server.log.1")
        address = choose_address(folder)
        _write_config(folder, address, options.fsync)
        log_start = folder.log.stat().st_size if folder.log.exists() else 0
        answer = _run_keeper(folder, address, options, "tied" if options.tied else "loose", binary, deadline)
    except OSError as error:
        raise unusable(folder, error) from error
    log = _log_since(folder, log_start)
    if answer == "ready":
        return _notice(folder, log)
    if answer == "loading":
        return ""
    raise _explained(folder, binary, answer, log)


def adopt_server(folder: Folder, options: Options, deadline: float) -> None:
    """Give a running server a new keeper, its own having been killed."""
    _run_keeper(folder, folder.address(), options, "adopt", "", deadline)


def last_words(folder: Folder) -> str:
    """The last warning of the folder's present or last server, or its last line; "" when there is none."""
    return _useful_line(_log_since(folder, 0).rpartition("just started")[2])


def _write_config(folder: Folder, address: str, fsync: Fsync) -> None:
    lines = [
        "port 0",
        f"unixsocket {_quoted(address)}",
        "unixsocketperm 700",
        f"dir {_quoted(str(folder.data))}",
        f"pidfile {_quoted(str(folder.pid_file))}",
        'logfile ""',
        "daemonize no",
        "appendonly yes",
        f"appendfsync {fsync}",
        'save ""',
        "maxmemory-policy noeviction",
    ]
    descriptor = os.open(folder.config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w") as config:
        config.write("\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    """As a configuration file wants it; \\x escapes carry every byte, spaces and quotes too."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
    return '"' + "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in os.fsencode(text)) + '"'


def _run_keeper(folder: Folder, address: str, options: Options, mode: str, binary: str, deadline: float) -> str:
    """The keeper's answer: ``ready``, ``exited N``, ``silent``, ``error ...``; ``loading`` at the deadline."""
    script = str(Path(__file__).with_name("keeper.py"))
    words = [str(folder.root), address, repr(options.idle), repr(max(2.0, options.wait)), mode, binary]
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd="/",
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,
        )
    finally:
        os.close(log)
    with process:
        process.wait()  # it forks the keeper and ends at once
        assert process.stdout is not None
        answer = process.stdout.fileno()
        readable, _, _ = select.select([answer], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return "loading"
        return os.read(answer, 4096).decode(errors="surrogateescape").strip() or "error the keeper was killed"


def _log_since(folder: Folder, start: int) -> str:
    try:
        with open(folder.log, "rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _notice(folder: Folder, log: str) -> str:
    cut = re.search(r"set aside the (\d+) bytes of a write that was cut off, as (.+)", log)
    if cut is None:
        return ""
    return (
        f"the last write in {folder.root} had been cut off and was left out by the embedded server: "
        f"its {cut.group(1)} bytes are kept in {cut.group(2)}."
    )


def _explained(folder: Folder, binary: str, answer: str, log: str) -> MainstemError:
    for pattern, error in _REASONS:
        if found := re.search(pattern, f"{log}\n{answer}"):
            return error(folder, binary, found)
    quote = _useful_line(log) or answer
    if answer == "silent":
        return Unavailable(
            f"the server {binary} started but did not answer; its last words: {quote} (in {folder.log})."
        )
    return Unavailable(f"the server {binary} could not start in {folder.root}: {quote} (in {folder.log}).")


def _newer(folder: Folder, binary: str, found: re.Match[str]) -> MainstemError:
    return ConfigError(
        f"{folder.data} was written by a newer server than {binary} (format {found.group(1)}) and was not touched: "
        'install that one (pip install -U "mainstem[embedded]"), or name another folder.'
    )


def _damaged(folder: Folder, binary: str, found: re.Match[str]) -> MainstemError:
    file = folder.data / "appendonlydir" / found.groupdict().get("file", "")
    return ConfigError(
        f"{file} is damaged and was not touched: restore it from a copy, or make one and cut the file at the damage "
        f"with valkey-check-aof --fix, or move {folder.data} away to begin empty."
    )


def _damaged_manifest(folder: Folder, binary: str, found: re.Match[str]) -> MainstemError:
    file = folder.data / "appendonlydir" / "appendonly.aof.manifest"
    return ConfigError(
        f"{file} is damaged and was not touched: restore it from a copy, or move {folder.data} away to begin empty."
    )


def _full(folder: Folder, binary: str, found: re.Match[str]) -> MainstemError:
    return full(folder)


def _no_program(folder: Folder, binary: str, found: re.Match[str]) -> MainstemError:
    return ConfigError(f"{binary} cannot be run ({found.group(1)}): name another with MAINSTEM_SERVER_BINARY.")


_REASONS: tuple[tuple[str, Callable[[Folder, str, re.Match[str]], MainstemError]], ...] = (
    (r"No space left on device", _full),
    (r"Can't handle RDB format version (\d+)", _newer),
    (r"Bad file format reading the append only file (?P<file>\S+?):", _damaged),
    (r"Checking RDB file (?P<file>\S+)", _damaged),
    (r"Short read or OOM loading DB|Wrong RDB checksum|Internal error in RDB", _damaged),
    (r"AOF MANIFEST FILE ERROR", _damaged_manifest),
    (r"cannot run .*?: (.*)", _no_program),
)


def _useful_line(log: str) -> str:
    """The last line that complains, without its time stamp; else the last line."""
    lines = [line for line in log.splitlines() if line.strip()]
    complaints = [line for line in lines if " # " in line and "overcommit" not in line]
    best = (complaints or lines or [""])[-1]
    return re.sub(r"^\d+:\S+ .*? [#*\-.] ", "", best).strip().rstrip(".")
