"""`mainstem dead ls|show|replay|purge`."""

from __future__ import annotations

from typing import Annotated

import typer

from mainstem.cli.options import Debug, DryRun, InGroup, Output, Stream, Url, Yes

ABOUT = """Dead letters: ls, show, replay, purge.

Events that a group gave up, with cause, traceback and origin.

\b
Examples:
  mainstem dead ls orders --group billing
  mainstem dead show orders 0:1769851800000-0
  mainstem dead replay orders --group billing --all --dry-run
"""

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letters by id.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All of the group.")]
Fingerprint = Annotated[
    str, typer.Option("--fingerprint", metavar="F", help="All of one kind of failure (see dead ls).")
]


def add(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("ls")(ls)
    app.command("show")(show)
    app.command("replay")(replay)
    app.command("purge")(purge)


def ls(
    stream: Stream,
    group: InGroup = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 100,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """List dead letters, oldest first, after a summary of the kinds of failure.

    \b
    Examples:
      mainstem dead ls orders
      mainstem dead ls orders --group billing -o ndjson
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.dead_letters import ls as work

    execute(work(stream, group, limit, url, output))


def show(
    stream: Stream,
    id: Annotated[str, typer.Argument(metavar="ID", help="A dead letter (see dead ls).", show_default=False)],
    group: InGroup = None,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Show one dead letter: the event, why it was given up, and the traceback.

    \b
    Examples:
      mainstem dead show orders 0:1769851800000-0
      mainstem dead show orders 0:1769851800000-0 -o json | jq .data
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.dead_letters import show as work

    execute(work(stream, id, group, url, output))


def replay(
    stream: Stream,
    ids: Ids = None,
    group: InGroup = None,
    all: All = False,
    fingerprint: Fingerprint = "",
    dry_run: DryRun = False,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Deliver dead letters again, to their own group only, and take them off the list.

    \b
    Examples:
      mainstem dead replay orders 0:1769851800000-0
      mainstem dead replay orders --group billing --all --dry-run
      mainstem dead replay orders --fingerprint 3fa1c09b7d2e
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.dead_letters import Choice
    from mainstem.cli.dead_letters import replay as work

    choice = Choice(stream, group, tuple(ids or ()), all, fingerprint, dry_run)
    raise typer.Exit(execute(work(choice, url, output)))


def purge(
    stream: Stream,
    ids: Ids = None,
    group: InGroup = None,
    all: All = False,
    fingerprint: Fingerprint = "",
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Delete dead letters for good.

    \b
    Examples:
      mainstem dead purge orders 0:1769851800000-0
      mainstem dead purge orders --group billing --all --yes
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.dead_letters import Choice
    from mainstem.cli.dead_letters import purge as work

    choice = Choice(stream, group, tuple(ids or ()), all, fingerprint, dry_run)
    raise typer.Exit(execute(work(choice, yes, url, output)))
