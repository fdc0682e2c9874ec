"""Checks the last line of a demo's output: `check_report.py FILE`. Nothing else; the demo checks its own events."""

from __future__ import annotations

import json
import sys
from pathlib import Path

FIELDS = {"published", "handled", "lost", "duplicated", "p50_ms", "p99_ms", "groups"}


def faults(report: dict[str, object]) -> list[str]:
    """What is wrong with the report, one sentence each; empty when it is good."""
    missing = FIELDS - report.keys()
    if missing:
        return [f"the report lacks {', '.join(sorted(missing))}"]
    found: list[str] = []
    if not report["published"]:
        found.append("nothing was published")
    if not report["handled"]:
        found.append("nothing was handled")
    if report["lost"] != 0:
        found.append(f"{report['lost']} events were lost")
    if not report["groups"]:
        found.append("no group took part")
    return found


def main() -> int:
    lines = Path(sys.argv[1]).read_text().strip().splitlines()
    wrong = faults(json.loads(lines[-1])) if lines else ["the demo printed nothing"]
    for fault in wrong:
        print(f"demo report: {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
