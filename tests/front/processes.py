"""Starting `program.py`, and reading what it noted. Ends what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = Path(__file__).with_name("program.py")


class Crew:
    """Processes that run the program on one stream."""

    def __init__(self, url: str, stream: str, folder: Path, mode: str) -> None:
        self._command = [sys.executable, str(PROGRAM), url, stream, str(folder), mode]
        self._folder = folder
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        errors = (self._folder / f"errors-{len(self.all)}").open("wb")
        process = subprocess.Popen(self._command, stdout=errors, stderr=errors)
        errors.close()
        self.all.append(process)
        return process

    def notes(self, kind: str) -> list[str]:
        """Event ids that were noted so, by all processes."""
        lines = [line for path in self._folder.glob("[0-9]*") for line in path.read_text().splitlines()]
        return [line.split(" ", 1)[1] for line in lines if line.startswith(f"{kind} ")]

    def workers(self) -> dict[str, int]:
        """How many events each process handled."""
        return Counter(
            path.name
            for path in self._folder.glob("[0-9]*")
            for line in path.read_text().splitlines()
            if "done" in line
        )

    def said(self, number: int = 0) -> str:
        return (self._folder / f"errors-{number}").read_text()

    def end(self) -> None:
        for process in self.all:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def crew(url: str, stream: str, folder: Path, mode: str = "queue") -> Iterator[Crew]:
    made = Crew(url, stream, folder, mode)
    try:
        yield made
    finally:
        made.end()
