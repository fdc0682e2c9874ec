"""A project folder whose embedded server is stopped after the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.servers import embedded


@pytest.fixture
def shop(project: Path) -> Iterator[Path]:
    """The working directory of a project; commands without a URL use its embedded server."""
    yield project
    embedded.stop(project / ".mainstem")
