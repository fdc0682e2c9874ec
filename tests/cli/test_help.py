"""`--help` of everything, how fast it is, and the words that all commands share."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from cli.cli_lab import COMMAND, environment, fine, mainstem, one_line

COMMANDS = [
    ("demo",), ("up",), ("stop",), ("run",), ("publish",), ("tail",), ("ls",), ("describe",), ("alter",), ("health",),
    ("bench",), ("doctor",), ("group", "ls"), ("group", "lag"), ("group", "seek"), ("group", "delete"), ("dead", "ls"),
    ("dead", "show"), ("dead", "replay"), ("dead", "purge"),
]  # fmt: skip
CHANGING = {
    ("run",),
    ("publish",),
    ("alter",),
    ("group", "seek"),
    ("group", "delete"),
    ("dead", "replay"),
    ("dead", "purge"),
}
LIMIT_MS = 300


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_examples(command: tuple[str, ...]) -> None:
    said = fine(*command, "--help")
    assert said.err == ""
    assert f"Usage: mainstem {' '.join(command)}" in said.out
    examples = said.out.partition("Examples:")[2].partition("Options:")[0]
    assert f"mainstem {' '.join(command)}" in examples
    assert "--debug" in said.out
    assert ("--dry-run" in said.out) is (command in CHANGING)
    assert ("--output" in said.out) is (command != ("stop",))


def test_the_front_page_lists_all_commands_and_exit_codes() -> None:
    out = fine("--help").out
    listed = {line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()}
    assert listed == {command[0] for command in COMMANDS}
    for code in ("0", "1", "2", "3", "4", "5", "6", "130"):
        assert f"\n    {code} " in out
    assert "..." not in out.partition("Commands:")[2]


def test_help_takes_less_than_300_ms() -> None:
    def took() -> float:
        begun = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], stdout=subprocess.DEVNULL, env=environment(None), check=True)
        return (time.perf_counter() - begun) * 1000

    best = min(took() for _ in range(7))
    assert best < LIMIT_MS, f"`mainstem --help` took {best:.0f} ms at best"


def test_the_help_loads_no_engine_and_no_rich() -> None:
    code = (
        "import sys; sys.argv = ['mainstem', '--help']; import contextlib, io\n"
        "from mainstem.cli.root import run\n"
        "with contextlib.redirect_stdout(io.StringIO()): assert run(['--help']) == 0\n"
        "print([name for name in sys.modules if name in ('rich', 'redis', 'pydantic', 'mainstem.engines', 'uvloop')])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_version() -> None:
    assert fine("--version").out.startswith("mainstem 0.")


@pytest.mark.parametrize(
    "words", [("nope",), ("group", "nope"), ("ls", "--nope"), ("publish",), ("group", "seek", "a", "b")]
)
def test_wrong_usage_is_one_line_and_2(words: tuple[str, ...]) -> None:
    said = mainstem(*words)
    assert said.code == 2
    assert one_line(said).rstrip().endswith("--help")


def test_no_words_show_the_help() -> None:
    said = mainstem()
    assert (said.code, said.err) == (2, "")
    assert said.out.startswith("Usage: mainstem")
    assert mainstem("group").out.startswith("Usage: mainstem group")


def test_bench_names_its_works() -> None:
    from mainstem.bench.command import names

    assert fine("bench", "--list").out.split("\n")[:-1] == list(names())


def test_bench_refuses_a_work_that_is_not_there() -> None:
    said = mainstem("bench", "--only", "nope")
    assert (said.code, "nope" in one_line(said)) == (2, True)
