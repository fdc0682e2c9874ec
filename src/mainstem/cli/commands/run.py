"""`mainstem run`."""

from __future__ import annotations

from typing import Annotated

import typer

from mainstem.cli.options import Debug, DryRun, Output, Url


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("run")(run)


def run(
    target: Annotated[str, typer.Argument(metavar="MODULE:APP", help="The app, as Python would import it from here.")],
    workers: Annotated[str, typer.Option("--workers", "-w", metavar="N", help="Processes, or auto: one a core.")] = "1",
    reload: Annotated[bool, typer.Option("--reload", help="Start again when a *.py file here changes.")] = False,
    dry_run: DryRun = False,
    url: Url = None,
    output: Output = "table",
    debug: Debug = False,
) -> None:
    """Serve an app's handlers until Ctrl-C.

    Ctrl-C and SIGTERM drain; a second one ends at once and loses nothing.
    A worker process that crashes is started again, after 1 to 10 s. --dry-run lists the handlers.

    \b
    Examples:
      mainstem run shop:app
      mainstem run shop.events:app --workers 4
      mainstem run shop:app --reload --url embedded://
    """
    from mainstem.cli.serving import run as work

    raise typer.Exit(work(target, workers, reload=reload, dry_run=dry_run, url=url, output=output))
