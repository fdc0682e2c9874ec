"""The table in docs/engines.md is what the engines promise today."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mainstem.engine import Abilities
from mainstem.servers.embedded import stop
from mainstem.testing.abilities import BEGIN, END, abilities_of, committed, renewed, table

_DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
_RENEW = "run: python -m mainstem.testing.abilities --write docs/engines.md"


@pytest.fixture
def embedded_url(short_root: Path) -> Iterator[str]:
    folder = short_root / "abilities"
    yield f"embedded://{folder}"
    stop(folder)


async def test_the_committed_table_is_true(embedded_url: str) -> None:
    promised = await abilities_of(["memory://", embedded_url])
    assert committed(_DOCUMENT.read_text(encoding="utf-8")) == table(promised), _RENEW


async def test_running_servers_promise_what_the_embedded_one_does(
    embedded_url: str, redis7_url: str, valkey_url: str
) -> None:
    embedded, *running = await abilities_of([embedded_url, redis7_url, valkey_url])
    assert [_promises(can) for can in running] == [_promises(embedded)] * 2


def test_only_the_block_is_renewed() -> None:
    document = f"before\n{BEGIN}\n\nold\n\n{END}\nafter\n"
    assert committed(document) == "old"
    assert renewed(document, "| new |") == f"before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="no block"):
        renewed("nothing here", "| new |")


def _promises(can: Abilities) -> set[str]:
    return {name for name in Abilities.__dataclass_fields__ if getattr(can, name)}
