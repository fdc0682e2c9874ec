"""
The public API as mypy --strict and pyright strict see it. accepts_*.py must pass both. In rejects_*.py each line that
ends in `# E` must be an error under both, and no other line may be one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = sorted(path.name for pattern in ("accepts_*.py", "rejects_*.py") for path in HERE.glob(pattern))

Errors = dict[str, dict[int, str]]
"""Of each file: the lines with errors, and what was said."""

pytestmark = pytest.mark.timeout(300)


def marked(text: str) -> set[int]:
    return {number for number, line in enumerate(text.splitlines(), 1) if re.search(r"# E\s*$", line)}


def mypy(*files: Path) -> Errors:
    told = _output(["mypy", "--strict", "--output", "json", "--config-file", str(ROOT / "pyproject.toml")], files)
    errors: Errors = defaultdict(dict)
    for row in map(json.loads, told.splitlines()):
        if row["severity"] == "error":
            errors[Path(row["file"]).name][row["line"]] = row["message"]
    return errors


def pyright(*files: Path) -> Errors:
    told = json.loads(_output(["pyright", "--outputjson"], files))
    assert told["summary"]["filesAnalyzed"] == len(files)
    errors: Errors = defaultdict(dict)
    for row in told["generalDiagnostics"]:
        if row["severity"] == "error":
            errors[Path(row["file"]).name][row["range"]["start"]["line"] + 1] = row["message"]
    return errors


def _output(command: list[str], files: tuple[Path, ...]) -> str:
    program = str(Path(sys.executable).with_name(command[0]))
    told = subprocess.run(
        [program, *command[1:], *map(str, files)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if told.returncode not in (0, 1):
        pytest.fail(f"{command[0]} ended with {told.returncode}:\n{told.stdout}\n{told.stderr}", pytrace=False)
    return told.stdout


@pytest.fixture(scope="module")
def found() -> dict[str, Errors]:
    """What each checker says of all files, asked once."""
    files = [HERE / name for name in FILES]
    return {"mypy": mypy(*files), "pyright": pyright(*files)}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
@pytest.mark.parametrize("name", FILES)
def test_errors_are_exactly_where_they_are_marked(name: str, checker: str, found: dict[str, Errors]) -> None:
    expected, errors = marked((HERE / name).read_text()), found[checker].get(name, {})
    unexpected = {line: said for line, said in errors.items() if line not in expected}
    assert unexpected == {}, f"{checker} refuses what should be accepted"
    assert expected - errors.keys() == set(), f"{checker} accepts lines that should be refused"
    assert name.startswith("rejects_") == bool(expected), "only rejects_*.py mark errors, and each has some"


def test_there_are_cases_of_both_kinds() -> None:
    assert {name.split("_")[0] for name in FILES} == {"accepts", "rejects"}


@pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])
def test_the_harness_sees_errors_and_only_errors(checker: object, tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text("def double(number: int) -> int:\n    return number * 2\n\n\ndouble('x')  # E\ndouble(1)\n")
    assert callable(checker)
    assert set(checker(path).get("sample.py", {})) == marked(path.read_text()) == {5}
