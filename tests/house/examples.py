"""
Finds the Python examples of the Markdown pages and runs an example as a reader would, in an empty project folder.

In README.md and docs/**/*.md each ```python block is run, unless the line before its fence says otherwise:
  <!-- continues -->          the block is run after the one above it, as one program
  <!-- not run: reason -->    it cannot be run here
A block may await at its top level. One that calls app.run() is started, ended by SIGTERM, and must end well.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from waiting import wait_blocking

ROOT = Path(__file__).parents[2]
PATIENCE = 40.0

_BLOCK = re.compile(
    r"^(?P<note>[^\n]*)\n(?P<indent>[ ]*)```python[^\n]*\n(?P<code>.*?)\n(?P=indent)```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Example:
    """A program that a page shows."""

    name: str
    code: str


def in_pages(root: Path = ROOT) -> list[Example]:
    """The examples of all pages, in order."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [example for page in pages if page.exists() for example in in_page(page.read_text(), page.name)]


def in_page(text: str, page: str) -> Iterator[Example]:
    before = ""
    for number, block in enumerate(_BLOCK.finditer("\n" + text), 1):
        note, code = block["note"].strip(), textwrap.dedent(block["code"])
        if note.startswith("<!-- not run:"):
            continue
        before = f"{before}\n\n{code}" if note == "<!-- continues -->" else code
        yield Example(f"{page}-{number}", before)


def in_folder(root: Path = ROOT) -> list[Example]:
    """The programs of examples/."""
    return [Example(path.name, path.read_text()) for path in sorted((root / "examples").glob("*.py"))]


def run(example: Example, project: Path) -> str:
    """Run it with `project` as its working directory; its output, or a failed test."""
    program = project / "example.py"
    program.write_text(_awaited(example.code))
    with subprocess.Popen(
        [sys.executable, program.name], cwd=project, env=_environment(project), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            if "app.run(" in example.code:
                wait_blocking(lambda: process.poll() is not None or _handles_sigterm(process.pid), PATIENCE)
                process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    if process.returncode != 0:
        pytest.fail(f"{example.name} ended with {process.returncode}:\n{output}", pytrace=False)
    return output


def _awaited(code: str) -> str:
    """The code itself, or in a coroutine where it awaits at its top level."""
    try:
        ast.parse(code)
        compile(code, "example", "exec")
    except SyntaxError:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        compile(code, "example", "exec", flags=flags)  # raises for code that is wrong either way
        return (
            "import ast, asyncio, inspect\n"
            f"code = compile({code!r}, 'example', 'exec', flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)\n"
            "found = eval(code, {'__name__': '__main__'})\n"
            "asyncio.run(found) if inspect.iscoroutine(found) else None\n"
        )
    return code


def _handles_sigterm(pid: int) -> bool:
    """Whether the program has put its own handler in place, so that it is running and will drain."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("an example that runs until it is stopped needs /proc to tell that it is up")
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
    return caught is not None and bool(int(caught[1], 16) & (1 << (signal.SIGTERM - 1)))


def _environment(project: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAINSTEM_")}
    mark = os.environ.get("MAINSTEM_TEST_RUN", "")
    return kept | {"HOME": str(project), "MAINSTEM_TEST_RUN": mark, "PYTHONWARNINGS": "error"}
