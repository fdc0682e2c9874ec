"""`mainstem bench`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mainstem.cli.options import Debug


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("bench")(bench)


def bench(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="WORK", help="Only this work (may be repeated).")
    ] = None,
    list_works: Annotated[bool, typer.Option("--list", help="Name the works and end.")] = False,
    repeat: Annotated[int, typer.Option("--repeat", min=1, help="Interleaved repetitions; medians count.")] = 3,
    scale: Annotated[float, typer.Option("--scale", help="Multiplies the events of a run.")] = 1.0,
    full: Annotated[bool, typer.Option("--full", help="The largest sizes too; takes long.")] = False,
    url: Annotated[str | None, typer.Option("--url", metavar="URL", help="Default: a server of its own.")] = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="How to print the report.")
    ] = "table",
    debug: Debug = False,
) -> None:
    """Measure mainstem beside its peers.

    redis-benchmark, redis-py and FastStream, on this machine, interleaved; the ratios are compared with goals.
    Exit code 1 when a measurement failed; a goal that is not met is reported, and is no failure.

    \b
    Examples:
      mainstem bench
      mainstem bench --list
      mainstem bench --only publish_batch --repeat 1 --scale 0.1 -o json
    """
    from mainstem.bench import command

    if list_works:
        for name in command.names():
            print(name)
        return
    raise typer.Exit(command.run(url, tuple(only or ()), repeat, scale=scale, full=full, output=output))
