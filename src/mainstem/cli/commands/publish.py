"""`mainstem publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mainstem.cli.options import Debug, DryRun, Output, Stream, Url


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("publish")(publish)


def publish(
    stream: Stream,
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE|-]", help="One JSON a line (ndjson); - or nothing: stdin.")
    ] = None,
    data: Annotated[str | None, typer.Option("--data", "-d", metavar="JSON", help="Publish this one event.")] = None,
    events: Annotated[
        bool, typer.Option("--events", help="Lines are whole events, as tail -o ndjson prints them.")
    ] = False,
    type: Annotated[str, typer.Option("--type", "-t", help="Type of the events.")] = "",
    source: Annotated[str, typer.Option("--source", help="Source of the events.")] = "",
    key: Annotated[str | None, typer.Option("--key", "-k", help="Key of all events.")] = None,
    key_field: Annotated[
        str, typer.Option("--key-field", metavar="FIELD", help="Field of the data that is the key: symbol, or user.id.")
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on behind the last acknowledged line; kept in .FILE.mainstem-position.")
    ] = False,
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
    from mainstem.errors import ConfigError

    if data is not None and (file is not None or events or resume):
        raise ConfigError("--data is one event's data: it goes neither with FILE nor with --events or --resume.")
    if key is not None and key_field:
        raise ConfigError("--key and --key-field both choose the key: keep one of them.")
    path = None if file in (None, "-") else Path(str(file))
    if resume and path is None:
        raise ConfigError("--resume needs a FILE: stdin has no position to go on from.")
    request = Request(
        stream=stream, url=url, output=output, file=path, data=data, events=events, type=type, source=source, key=key,
        key_field=key_field, resume=resume, dry_run=dry_run,
    )  # fmt: skip
    raise typer.Exit(execute(work(request)))
