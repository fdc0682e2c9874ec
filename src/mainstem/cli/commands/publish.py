"""`mainstem publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mainstem.cli.options import Debug, DryRun, Output, Stream, Url

File = Annotated[str | None, typer.Argument(metavar="[FILE|-]", help="One JSON a line (ndjson); - or nothing: stdin.")]
Data = Annotated[str | None, typer.Option("--data", "-d", metavar="JSON", help="Publish this one event.")]
Events = Annotated[bool, typer.Option("--events", help="Lines are whole events, as tail -o ndjson prints them.")]
Type = Annotated[str, typer.Option("--type", "-t", help="Type of the events.")]
Source = Annotated[str, typer.Option("--source", help="Source of the events.")]
Key = Annotated[str | None, typer.Option("--key", "-k", help="Key of all events.")]
KeyField = Annotated[
    str, typer.Option("--key-field", metavar="FIELD", help="Field of the data that is the key: symbol, or user.id.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on behind the last acknowledged line; kept in .FILE.mainstem-position.")
]


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("publish")(publish)


def publish(
    stream: Stream,
    file: File = None,
    data: Data = None,
    events: Events = False,
    type: Type = "",
    source: Source = "",
    key: Key = None,
    key_field: KeyField = "",
    resume: Resume = False,
    dry_run: DryRun = False,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Publish events: one, or each line of a file or of stdin.

    A broken line does not stop the others: the report names it, and the exit code is 1. Ids of a file's events are
    derived from the file, the line and its number, so that a repeat can be recognised.

    \b
    Examples:
      mainstem publish orders --data '{"id": 1, "total": 9.5}' --type order.placed
      mainstem publish ticks ticks.ndjson --key-field symbol --resume
      some-feed | mainstem publish ticks -
      mainstem tail orders --no-follow -o ndjson | mainstem publish copy --events
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.publishing import Request
    from mainstem.cli.publishing import publish as work

    path = None if file in (None, "-") else Path(str(file))
    request = Request(
        stream=stream, url=url, output=output, file=path, data=data, events=events, type=type, source=source, key=key,
        key_field=key_field, resume=resume, dry_run=dry_run,
    )  # fmt: skip
    request.check(piped=file == "-")
    raise typer.Exit(execute(work(request)))
