"""`mainstem ls`, `mainstem describe`, `mainstem alter`."""

from __future__ import annotations

from typing import Annotated

import typer

from mainstem.cli.options import Debug, DryRun, Glob, Output, Stream, Url


def add(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("ls")(ls)
    app.command("describe")(describe)
    app.command("alter")(alter)


def ls(glob: Glob = "*", url: Url = None, output: Output = "table", debug: Debug = False) -> None:
    """List streams: mode, events, groups, what they keep.

    \b
    Examples:
      mainstem ls
      mainstem ls 'market.*' -o json
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.streams import ls as work

    execute(work(glob, url, output))


def describe(stream: Stream, url: Url = None, output: Output = "table", debug: Debug = False) -> None:
    """Show one stream and how its groups stand.

    Its specification, length, age and memory; for each group lag, pending, dead letters and lost events.

    \b
    Examples:
      mainstem describe orders
      mainstem describe orders -o json | jq .groups
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.streams import describe as work

    execute(work(stream, url, output))


def alter(
    stream: Stream,
    retain: Annotated[str, typer.Option("--retain", metavar="AGE", help="7d, until-read, or none.")] = "",
    max_events: Annotated[str, typer.Option("--max-events", metavar="N", help="How many are kept, or none.")] = "",
    dry_run: DryRun = False,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Change what a stream keeps. The rest of a stored specification is fixed.

    \b
    Examples:
      mainstem alter orders --retain 7d --dry-run
      mainstem alter orders --retain until-read --max-events 5000000
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.streams import alter as work

    execute(work(stream, retain, max_events, dry_run=dry_run, url=url, output=output))
