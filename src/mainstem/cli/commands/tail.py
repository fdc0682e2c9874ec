"""`mainstem tail`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mainstem.cli.options import Debug, Url

Streams = Annotated[list[str], typer.Argument(metavar="STREAM|PATTERN...", help="Names, or patterns with * and ?.")]
Follow = Annotated[bool, typer.Option("--follow/--no-follow", "-f/-F", help="Wait for new events, or end.")]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="PLACE",
        help="beginning, end, 2h, a time (2026-01-31T09:30:00Z) or a position. Default: end when following, "
        "else beginning.",
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", "-n", help="End after so many events.")]
Types = Annotated[list[str] | None, typer.Option("--type", "-t", help="Only this type (pattern; may be repeated).")]
Keys = Annotated[list[str] | None, typer.Option("--key", "-k", help="Only this key (pattern; may be repeated).")]
Where = Annotated[str, typer.Option("--where", "-w", metavar="CONDITION", help="Only where this holds.")]
Layout = Annotated[
    Literal["auto", "table", "json", "ndjson"],
    typer.Option("--output", "-o", help="auto: a table on a terminal, else one JSON object a line."),
]


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("tail")(tail)


def tail(
    streams: Streams,
    follow: Follow = True,
    start: From = "",
    limit: Limit = None,
    type: Types = None,
    key: Keys = None,
    where: Where = "",
    url: Url = None,
    output: Layout = "auto",
    debug: Debug = False,
) -> None:
    """Show events as they arrive, filtered; disturbs no group.

    Conditions know == != < <= > >= in, not in, and, or, not, ( ), [ ], texts, numbers, true, false, null,
    and the fields id type source time key data metadata stream position recorded.
    New streams that match a pattern join while it runs.

    \b
    Examples:
      mainstem tail orders
      mainstem tail 'market.*' --from 2h --where 'data.price > 500 and key in ["AAPL", "MSFT"]'
      mainstem tail orders --no-follow -o ndjson | jq .data
      mainstem tail orders --from beginning --limit 10 --type 'order.*'
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.tailing import Request
    from mainstem.cli.tailing import tail as work

    request = Request(
        streams=tuple(streams), url=url, output=output, follow=follow, start=start, limit=limit,
        types=tuple(type or ()), keys=tuple(key or ()), where=where,
    )  # fmt: skip
    execute(work(request))
