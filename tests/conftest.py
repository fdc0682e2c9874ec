"""Fixtures that all tests share: real servers, a project folder, and the check that a test leaves nothing behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import leaks
from mainstem.servers.embedded import stop
from servers_for_tests import TlsServer, redis7_binary, serving, serving_tls, valkey_binary

os.environ[leaks.MARK] = uuid.uuid4().hex
# A developer's own settings must not reach the tests.
for _name in [
    name for name in os.environ if name.startswith("MAINSTEM_") and name not in (leaks.MARK, "MAINSTEM_REQUIRE_ENGINES")
]:
    del os.environ[_name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Async tests check their event loop too; first in, so that it looks after every other fixture is done."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_leaked_tasks")


@pytest.fixture(scope="session")
def short_root() -> Iterator[Path]:
    """A folder with a short path: a unix socket's may have 104 bytes, and pytest's own folders are longer."""
    root = Path(tempfile.mkdtemp(prefix="ms-"))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def project(short_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project folder that is the working directory; an embedded server started there is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="p", dir=short_root))
    monkeypatch.chdir(folder)
    yield folder
    if (folder / ".mainstem").exists():
        stop(folder / ".mainstem")


@pytest.fixture(autouse=True)
def no_leaks(
    request: pytest.FixtureRequest, short_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Fails a test that leaves a process, a thread or a connection; `@pytest.mark.leaks(reason)` switches it off."""
    before = leaks.snapshot()
    yield
    if request.node.get_closest_marker("leaks"):
        return
    if found := leaks.leaked_since(before, (short_root, tmp_path_factory.getbasetemp())):
        pytest.fail("the test left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture
async def no_leaked_tasks(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fails an async test that leaves a task running."""
    before = frozenset(asyncio.all_tasks())
    yield
    if request.node.get_closest_marker("leaks"):
        return
    if found := await leaks.leaked_tasks(before):
        pytest.fail("the test left behind:\n  " + "\n  ".join(found), pytrace=False)


@pytest.fixture(scope="session")
def redis7_url(short_root: Path) -> Iterator[str]:
    """A Redis 7, the oldest we support. Shared by the session: use stream names of your own, or FLUSHALL first."""
    binary = redis7_binary()
    with serving(binary, _folder(short_root, "r7")) as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def valkey_url(short_root: Path) -> Iterator[str]:
    """The Valkey that the embedded engine runs, as a server of its own."""
    binary = valkey_binary()
    with serving(binary, _folder(short_root, "vk")) as port:
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def redis_tls(short_root: Path) -> Iterator[TlsServer]:
    """A Redis 7 with TLS, and the certificate authorities that a client should and should not trust."""
    binary = redis7_binary("redis-tls")
    with serving_tls(binary, _folder(short_root, "tls")) as server:
        yield server


@pytest.fixture
def stream_name() -> str:
    """A stream name that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"


def _folder(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir()
    return folder
