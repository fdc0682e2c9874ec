"""What the tests of the command line share: running `mainstem` as a process, and reading what it said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waiting import wait_blocking

COMMAND = (sys.executable, "-m", "mainstem.cli")


@dataclass(frozen=True)
class Said:
    """How one command ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def mainstem(*words: object, stdin: str | bytes = b"", url: str | None = None, cwd: Path | None = None) -> Said:
    """Run one command to its end."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env=environment(url),
        cwd=cwd,
        timeout=50,
    )
    return Said(done.returncode, done.stdout.decode(), done.stderr.decode())


def fine(*words: object, stdin: str | bytes = b"", url: str | None = None, cwd: Path | None = None) -> Said:
    """The same for a command that must succeed."""
    said = mainstem(*words, stdin=stdin, url=url, cwd=cwd)
    assert said.code == 0, said
    return said


def one_line(said: Said) -> str:
    """The error, which is one line, without a traceback."""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("mainstem: "), said.err
    assert "Traceback" not in said.err
    return said.err


@dataclass
class Running:
    """A command that runs, with what it has said so far."""

    process: subprocess.Popen[str]
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, text: str, *, times: int = 1, within: float = 15.0) -> str:
        """Wait until some line of either stream contains the text; returns the last such line."""

        def found() -> list[str]:
            lines = [line for line in [*self.out, *self.err] if text in line]
            return lines if len(lines) >= times else []

        try:
            return wait_blocking(found, within)[-1]
        except AssertionError as error:
            raise AssertionError(f"never said {text!r} {times} times: {self.out} {self.err}") from error

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self, within: float = 15.0) -> int:
        return self.process.wait(within)


@contextmanager
def running(
    *words: object, url: str | None = None, cwd: Path | None = None, stdin: int = subprocess.DEVNULL
) -> Iterator[Running]:
    """A command in the background; ended hard if it still runs at the end."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(url),
        cwd=cwd,
    )
    it = Running(process)
    readers = [
        threading.Thread(target=lambda stream=stream, lines=lines: lines.extend(iter(stream.readline, "")), daemon=True)
        for stream, lines in ((process.stdout, _Appending(it.out)), (process.stderr, _Appending(it.err)))
    ]
    for reader in readers:
        reader.start()
    try:
        yield it
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for reader in readers:
            reader.join(5)
        for stream in (process.stdout, process.stderr, process.stdin):
            if stream is not None:
                stream.close()


class _Appending:
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def extend(self, lines: Iterator[str]) -> None:
        for line in lines:
            self._lines.append(line.rstrip("\n"))


def environment(url: str | None) -> dict[str, str]:
    found = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    if url is not None:
        found["MAINSTEM_URL"] = url
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def numbers(file: Path) -> list[int]:
    """The number at the end of each line that handlers wrote."""
    return [int(line.split()[-1]) for line in file.read_text().splitlines()] if file.exists() else []


def ndjson(*events: Any) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)
