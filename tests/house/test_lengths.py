"""
Ratchets: a file has at most 400 lines and a function at most 40. The exceptions are listed with their length, and the
list may only shrink: what got shorter must be lowered here, what got longer fails.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES = 400
FUNCTION_LINES = 40

LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def file_lengths() -> dict[str, int]:
    found = sources("src", "tests", "benchmarks", "examples")
    return {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in found}


def function_lengths() -> dict[str, int]:
    """Lines from `def` to the last one, docstring included; tests may tell longer stories than the code."""
    found: dict[str, int] = {}
    for path in sources("src", "benchmarks", "examples"):
        name = path.relative_to(ROOT).as_posix()
        found |= {f"{name}::{function}": lines for function, lines in functions(ast.parse(path.read_text()), "")}
    return found


def functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, (node.end_lineno or node.lineno) - node.lineno + 1
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def faults(lengths: dict[str, int], limit: int, exceptions: dict[str, int]) -> list[str]:
    """What is too long without being listed, longer than listed, or listed for more than it is."""
    too_long = [
        f"{name} has {length} lines, at most {exceptions.get(name, limit)} are allowed: split it"
        for name, length in lengths.items()
        if length > exceptions.get(name, limit)
    ]
    loose = [
        f"{name} is listed with {listed} lines and has {lengths.get(name, 0)}: lower or remove its entry"
        for name, listed in exceptions.items()
        if lengths.get(name, 0) < listed or listed <= limit
    ]
    return too_long + loose


def test_no_file_is_longer_than_400_lines() -> None:
    assert file_lengths()
    assert faults(file_lengths(), FILE_LINES, LONG_FILES) == []


def test_no_function_is_longer_than_40_lines() -> None:
    assert function_lengths()
    assert faults(function_lengths(), FUNCTION_LINES, LONG_FUNCTIONS) == []


@pytest.mark.parametrize(
    ("length", "listed", "fault"),
    [(40, {}, ""), (41, {}, "split"), (50, {"f": 50}, ""), (51, {"f": 50}, "split"), (49, {"f": 50}, "lower")],
)
def test_the_ratchet_only_turns_one_way(length: int, listed: dict[str, int], fault: str) -> None:
    found = faults({"f": length}, 40, listed)
    assert len(found) == bool(fault)
    assert fault in "".join(found)


def test_nested_functions_and_methods_are_measured() -> None:
    tree = ast.parse("class A:\n  def b(self):\n    def c():\n      pass\n    if c:\n      async def d(): ...\n")
    assert dict(functions(tree, "")) == {"A.b": 5, "A.b.c": 2, "A.b.d": 1}
