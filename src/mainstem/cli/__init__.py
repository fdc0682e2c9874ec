"""
The command line `mainstem`: `commands` holds one module a command group, with signatures and help only; what a command
does is in the modules beside it and is imported when it runs. Nothing here is imported by the rest of mainstem.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and end it with one of the exit codes of `exits`."""
    from mainstem.cli.root import run

    sys.exit(run(sys.argv[1:]))
