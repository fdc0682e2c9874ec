"""The suite is tested too: every broken engine fails the tests that are there to catch it, and a sound one passes."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from conformance.broken_engines import CAUGHT_BY, Sound
from mainstem.engine import Abilities
from mainstem.testing.conformance import EngineConformance, required

_FILE = Path(__file__).with_name("broken_suite.py")
_PROCESSES = 6  # these tests mostly wait for what a broken engine never does
_PAIRS = [(kind.__name__, test) for kind, tests in CAUGHT_BY.items() for test in tests]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What became of every test: "passed", or the first line of its failure."""
    folder = tmp_path_factory.mktemp("suite")
    control = [(Sound.__name__, test) for test in sorted({test for _, test in _PAIRS})]
    pairs = _PAIRS + control
    runs = [_start(folder / f"{n}.xml", pairs[n::_PROCESSES]) for n in range(_PROCESSES)]
    texts = [run.communicate(timeout=120)[0] for run in runs]
    found: dict[tuple[str, str], str] = {}
    for n, text in enumerate(texts):
        report = folder / f"{n}.xml"
        assert report.exists(), text
        _add_outcomes(found, report)
    return found


def _start(report: Path, pairs: list[tuple[str, str]]) -> subprocess.Popen[str]:
    wanted = [f"{_FILE}::Test{kind}::{test}" for kind, test in pairs]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", f"--junitxml={report}", *wanted]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=_FILE.parents[2])


def _add_outcomes(found: dict[tuple[str, str], str], report: Path) -> None:
    for case in ET.parse(report).iter("testcase"):
        name = (case.get("classname", "").rpartition(".")[2].removeprefix("Test"), case.get("name", ""))
        problems = [*case.findall("failure"), *case.findall("error"), *case.findall("skipped")]
        texts = [each.get("message", "") or each.tag for each in problems]
        if found.get(name, "passed") == "passed":  # a test that fails twice, once in its clean-up, is there twice
            found[name] = texts[0] if texts else "passed"


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("kind", "test"), _PAIRS, ids=[f"{kind}-{test}" for kind, test in _PAIRS])
def test_a_broken_engine_is_caught(outcomes: dict[tuple[str, str], str], kind: str, test: str) -> None:
    """The named test fails, and fails by its own assertion, not by an accident."""
    assert outcomes[(kind, test)].startswith(("AssertionError", "assert")), outcomes[(kind, test)]


@pytest.mark.timeout(150)
@pytest.mark.parametrize("test", sorted({test for _, test in _PAIRS}))
def test_a_sound_engine_passes_the_same_tests(outcomes: dict[tuple[str, str], str], test: str) -> None:
    assert outcomes[(Sound.__name__, test)] == "passed"


def test_every_ability_is_proven() -> None:
    """Each field of `Abilities` but the name selects at least one test."""
    tests = [getattr(EngineConformance, name) for name in dir(EngineConformance) if name.startswith("test_")]
    selected = {ability for test in tests for ability in required(test)}
    assert selected == set(Abilities.__dataclass_fields__) - {"name"}


def test_every_test_states_its_rule() -> None:
    """The first line of the docstring is a sentence."""
    for name in (each for each in dir(EngineConformance) if each.startswith("test_")):
        rule = (getattr(EngineConformance, name).__doc__ or "").strip().splitlines()
        assert rule, name
        assert rule[0].endswith("."), name
