"""The layers of pyproject.toml hold, and breaking one is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# One module that breaks each contract: its path, its line, and the contract that must name it.
BREACHES = [
    ("event.py", "import mainstem.app", "Each module imports only what stands below it"),
    ("unplaced.py", "", "Each module imports only what stands below it"),
    ("engines/other.py", "import mainstem.engines.redis", "Engines never import one another"),
    ("processing/short_cut.py", "import mainstem.engines.redis", "Only app"),
    ("app.py", "import redis", "A vendor's SDK"),
    ("observability/export.py", "import prometheus_client", "A vendor's SDK"),
]


# Above the engines, these may name one; the layers keep all that stands below from it.
MAY_NAME_AN_ENGINE = {"app", "testing", "demo", "bench", "cli"}


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_every_contract_is_kept() -> None:
    told = lint(ROOT)
    assert told.returncode == 0, told.stdout[-3000:]
    assert "4 kept, 0 broken" in told.stdout


def test_every_module_above_the_engines_is_kept_behind_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers, behind = (
        next(each for each in contracts if each["id"] == name) for name in ("layers", "engines-behind-contract")
    )
    above = {
        name.strip(" ()") for row in layers["layers"][: layers["layers"].index("(engines)")] for name in row.split("|")
    }
    there = {path.stem for path in (ROOT / "src/mainstem").iterdir()}
    assert {name.removeprefix("mainstem.") for name in behind["source_modules"]} == (above & there) - MAY_NAME_AN_ENGINE


@pytest.mark.parametrize(("path", "line", "contract"), BREACHES)
def test_a_breach_is_noticed(tmp_path: Path, path: str, line: str, contract: str) -> None:
    package = tmp_path / "mainstem"
    shutil.copytree(ROOT / "src/mainstem", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (package / "app.py").touch()
    with (package / path).open("a") as file:
        file.write(f"\n{line}\n")
    told = lint(tmp_path)
    assert told.returncode == 1, told.stdout[-3000:]
    assert [row for row in told.stdout.splitlines() if row.startswith(contract) and "BROKEN" in row], told.stdout[
        -3000:
    ]
    assert f"mainstem.{path.removesuffix('.py').replace('/', '.')}" in told.stdout
