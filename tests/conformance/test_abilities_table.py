"""The table in docs/engines.md is what the engines promise today."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from mainstem.testing.abilities import BEGIN, END, abilities_of, committed, renewed, table

_DOCUMENT = Path(__file__).parents[2] / "docs" / "engines.md"
_RENEW = "run: python -m mainstem.testing.abilities --write docs/engines.md"


async def test_the_committed_table_is_true(short_root: Path) -> None:
    promised = await abilities_of(["memory://", f"embedded://{short_root}/abilities"])
    assert committed(_DOCUMENT.read_text(encoding="utf-8")) == table(promised), _RENEW


@pytest.mark.parametrize("server", ["redis7_url", "valkey_url"])
async def test_a_server_without_a_file_promises_all_but_durability(
    server: str, short_root: Path, request: pytest.FixtureRequest
) -> None:
    plain, embedded = await abilities_of([request.getfixturevalue(server), f"embedded://{short_root}/abilities"])
    differing = {name for name in asdict(plain) if bool(getattr(plain, name)) != bool(getattr(embedded, name))}
    assert differing == {"durable"}


def test_only_the_block_is_renewed() -> None:
    document = f"before\n{BEGIN}\n\nold\n\n{END}\nafter\n"
    assert committed(document) == "old"
    assert renewed(document, "| new |") == f"before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"
    with pytest.raises(ValueError, match="no block"):
        renewed("nothing here", "| new |")
