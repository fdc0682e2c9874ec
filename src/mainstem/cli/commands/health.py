"""`mainstem health`."""

from __future__ import annotations

from typing import Annotated

import typer

from mainstem.cli.options import Debug, Glob, Output, Url


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("health")(health)


def health(
    glob: Glob = "*",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again until Ctrl-C.")] = False,
    every: Annotated[str, typer.Option("--every", metavar="AGE", help="Pause between looks of --watch.")] = "1s",
    max_lag: Annotated[
        int | None, typer.Option("--max-lag", min=0, help="Exit code 1 when a group is further behind.")
    ] = None,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Show the health of streams and groups.

    Length and rates; for each group lag, pending, errors, dead letters and lost events.
    Exit code 1 when a group lost events, or is further behind than --max-lag.

    \b
    Examples:
      mainstem health
      mainstem health 'market.*' --watch
      mainstem health orders --max-lag 10000 -o json
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.health import health as once
    from mainstem.cli.health import watch as repeatedly

    if watch:
        execute(repeatedly(glob, max_lag, every, url, output))
    raise typer.Exit(execute(once(glob, max_lag, url, output)))
