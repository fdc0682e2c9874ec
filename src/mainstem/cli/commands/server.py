"""`mainstem up` and `mainstem stop`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mainstem.cli.options import Debug, Output

Dir = Annotated[
    Path | None, typer.Option("--dir", metavar="FOLDER", help="The server's folder. Default: the nearest .mainstem.")
]


def add(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("up")(up)
    app.command("stop")(stop)


def up(
    dir: Dir = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Hold it from the background; `mainstem stop` ends it.")
    ] = False,
    fsync: Annotated[
        Literal["everysec", "always"], typer.Option("--fsync", help="always: a power loss loses nothing acknowledged.")
    ] = "everysec",
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Hold the embedded server up until Ctrl-C.

    It runs with or without clients meanwhile; how to connect is printed. Ctrl-C stops it cleanly.

    \b
    Examples:
      mainstem up
      mainstem up --dir /var/lib/shop --fsync always
      mainstem up --detach -o json
    """
    from mainstem.cli import holding

    work = holding.detach if detach else holding.up
    raise typer.Exit(work(dir, always=fsync == "always", output=output))


def stop(dir: Dir = None, debug: Debug = False) -> None:
    """Stop the embedded server cleanly.

    Everything is written down first. Clients that still run start it again.

    \b
    Examples:
      mainstem stop
      mainstem stop --dir /var/lib/shop
    """
    from mainstem.cli import holding

    raise typer.Exit(holding.stop(dir))
