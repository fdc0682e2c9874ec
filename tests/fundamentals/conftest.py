"""The tutorial runs on what a newcomer gets: an embedded Valkey in an empty project folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def embedded(project: Path) -> None:
    """An empty project as working directory; its server, started by the first use, is stopped after the test."""
