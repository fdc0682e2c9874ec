"""`mainstem demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mainstem.cli.options import Debug, Format, Url


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("demo")(demo)


def demo(
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Replay your own file of bars.")] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Events a second.")] = None,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="AGE", help="End after this long. Default: Ctrl-C.")
    ] = None,
    url: Url = None,
    output: Annotated[
        Format, typer.Option("--output", "-o", help="json, ndjson: the last line of stdout is one JSON object.")
    ] = "table",
    debug: Debug = False,
) -> None:
    """Replay real market data, live, and check it.

    Streams, groups, signals, alerts and latencies on a real server.
    It checks itself by the identity of every event: exit code 1 when one was lost.

    \b
    Examples:
      mainstem demo
      mainstem demo --for 20s -o json
      mainstem demo --csv bars.csv --rate 5000 --url redis://localhost:6379/0
    """
    from mainstem.demo.command import run
    from mainstem.names import seconds

    limit = None if duration is None else seconds(duration, "--for")
    raise typer.Exit(run(csv=csv, url=url, rate=rate, seconds=limit, output=output))
