"""Options and arguments that commands share, so that one thing has one name and one help text everywhere."""

from __future__ import annotations

import os
from typing import Annotated, Literal, TypeAlias

import typer

_debugging = False


def debugging() -> bool:
    """Whether `--debug` was given: errors then show their traceback."""
    return _debugging or bool(os.environ.get("MAINSTEM_DEBUG"))


def _remember(value: bool) -> bool:
    global _debugging
    _debugging = _debugging or value
    return value


Format: TypeAlias = Literal["table", "json", "ndjson"]

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="The engine. Default: MAINSTEM_URL, mainstem.toml, else the embedded server."
    ),
]
Output: TypeAlias = Annotated[
    Format, typer.Option("--output", "-o", help="A table for people, one JSON document, or one JSON object a line.")
]
Debug: TypeAlias = Annotated[
    bool, typer.Option("--debug", help="Show tracebacks and log more.", callback=_remember, is_eager=True)
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Stream: TypeAlias = Annotated[str, typer.Argument(metavar="STREAM", help="Name of a stream.", show_default=False)]
Glob: TypeAlias = Annotated[str, typer.Argument(metavar="[GLOB]", help="Pattern of stream names: * and ? are wild.")]
Group: TypeAlias = Annotated[str, typer.Argument(metavar="GROUP", help="Name of a group.", show_default=False)]
InGroup: TypeAlias = Annotated[
    str | None,
    typer.Option("--group", "-g", metavar="GROUP", help="The group; needed where several have dead letters."),
]
