"""`mainstem doctor`."""

from __future__ import annotations

import typer

from mainstem.cli.options import Debug, Output, Url


def add(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor)


def doctor(url: Url = None, output: Output = "table", debug: Debug = False) -> None:
    """Explain the server, the settings, this Python.

    What is fine, what is not, what it means and what to do.
    Exit code 1 when something is bad, 3 when the server cannot be reached.

    \b
    Examples:
      mainstem doctor
      mainstem doctor --url redis://localhost:6379/0 -o json
    """
    from mainstem.cli.connecting import execute
    from mainstem.cli.examining import doctor as work

    raise typer.Exit(execute(work(url, output)))
