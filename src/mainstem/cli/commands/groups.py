"""`mainstem group ls|lag|seek|delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from mainstem.cli.options import Debug, DryRun, Glob, Group, Output, Stream, Url, Yes

ABOUT = """Groups of consumers: list, lag, seek, delete.

\b
Examples:
  mainstem group ls orders
  mainstem group lag 'market.*'
  mainstem group seek orders billing --to 2h --dry-run
"""


def add(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("ls")(ls)
    app.command("lag")(lag)
    app.command("seek")(seek)
    app.command("delete")(delete)


def ls(stream: Stream, url: Url = None, output: Output = "table", debug: Debug = False) -> None:
    """List the groups of a stream: lag, pending, members, dead letters, lost events.

    \b
    Examples:
      mainstem group ls orders
      mainstem group ls orders -o ndjson
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.grouping import ls as work

    execute(work(stream, url, output))


def lag(glob: Glob = "*", url: Url = None, output: Output = "table", debug: Debug = False) -> None:
    """Show how far groups are behind, in events and in time, the worst first.

    \b
    Examples:
      mainstem group lag
      mainstem group lag 'market.*' -o json
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.grouping import lag as work

    execute(work(glob, url, output))


def seek(
    stream: Stream,
    group: Group,
    to: Annotated[
        str,
        typer.Option("--to", metavar="PLACE", help="beginning, end, 2h, a time (2026-01-31T09:30:00Z) or a position."),
    ],
    dry_run: DryRun = False,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Move a group: it reads on behind that place. What its members have in their hands is fenced off.

    \b
    Examples:
      mainstem group seek orders billing --to beginning
      mainstem group seek orders billing --to 2026-01-31T09:30:00Z --dry-run
      mainstem group seek ticks alerts --to 3:1769851800000-0
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.grouping import seek as work

    execute(work(stream, group, to, dry_run=dry_run, url=url, output=output))


def delete(
    stream: Stream,
    group: Group,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Delete a group with its counters and its dead letters. Stop its members first: they would make it anew.

    \b
    Examples:
      mainstem group delete orders old-billing --dry-run
      mainstem group delete orders old-billing --yes
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.grouping import delete as work

    execute(work(stream, group, yes=yes, dry_run=dry_run, url=url, output=output))
