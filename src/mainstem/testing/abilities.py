"""
The table of what each engine promises, and how many tests of the suite prove it: a marked block of a document.

`python -m mainstem.testing.abilities --write docs/engines.md` renews the block; a test fails while it differs, so that
no engine drops an ability silently. Nothing here knows an engine: abilities come from open engines.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mainstem.engine import Abilities
from mainstem.opening import open_engine
from mainstem.testing.conformance import EngineConformance, missing, required

BEGIN = "<!-- abilities: written by python -m mainstem.testing.abilities, do not edit -->"
END = "<!-- abilities: end -->"

_MEANINGS = {
    "shared": "other processes see the same streams",
    "durable": "streams outlive the processes that use them",
    "retention": "`retain` and `max_events` hold",
    "until_read": "what a group has not read is kept; publishers are refused at the cap",
    "gaps": "what retention took before a group read it is counted",
    "dead": "dead letters per group: list, restore, purge",
    "admin": "seek, delete groups, amend retention",
}


def table(engines: Sequence[Abilities]) -> str:
    """The block: a row an ability, a column an engine."""
    head = ["ability", "promise", "tests", *(can.name for can in engines)]
    rows = [head, ["---"] * len(head)]
    rows += [_row(ability, meaning, engines) for ability, meaning in _MEANINGS.items()]
    rows.append(_totals(engines))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def committed(document: str) -> str:
    """The block as the document has it."""
    _, _, rest = document.partition(BEGIN)
    block, _, _ = rest.partition(END)
    return block.strip()


def renewed(document: str, block: str) -> str:
    """The document with another block."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document has no block from {BEGIN!r} to {END!r}: add both lines.")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


async def abilities_of(urls: Sequence[str]) -> list[Abilities]:
    """What the engines at these URLs promise."""
    found: list[Abilities] = []
    for url in urls:
        engine = await open_engine(url)
        found.append(engine.can)
        await engine.close()
    return found


def _tests() -> list[object]:
    return [getattr(EngineConformance, name) for name in dir(EngineConformance) if name.startswith("test_")]


def _row(ability: str, meaning: str, engines: Sequence[Abilities]) -> list[str]:
    proofs = sum(ability in required(test) for test in _tests())
    return [f"`{ability}`", meaning, str(proofs), *("yes" if getattr(can, ability) else "no" for can in engines)]


def _totals(engines: Sequence[Abilities]) -> list[str]:
    tests = _tests()
    applying = (sum(not missing(test, can) for test in tests) for can in engines)
    return ["", "tests that every change must pass", str(len(tests)), *map(str, applying)]


def _main() -> None:
    parser = argparse.ArgumentParser(description="Print the table of abilities, or renew it in a document.")
    parser.add_argument("urls", nargs="*", help="engines; the memory engine and an embedded server if left out")
    parser.add_argument("--write", type=Path, metavar="DOCUMENT", help="renew the marked block of this document")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ms-") as folder:
        urls: list[str] = arguments.urls or ["memory://", f"embedded://{folder}/server"]
        block = table(asyncio.run(abilities_of(urls)))
    if arguments.write is None:
        print(block)  # noqa: T201
        return
    document: Path = arguments.write
    document.write_text(renewed(document.read_text(encoding="utf-8"), block), encoding="utf-8")


if __name__ == "__main__":
    _main()
