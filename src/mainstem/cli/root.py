"""
The program: all commands under one name, and the one place where an error becomes a line on stderr and an exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Protocol, cast, runtime_checkable

import typer

from mainstem.cli import exits, options
from mainstem.cli.commands import bench, dead, demo, doctor, groups, health, publish, server, streams, tail
from mainstem.cli.commands import run as running
from mainstem.errors import MainstemError

_ABOUT = f"""The real-time event backbone: publish, watch and tend streams on any engine.

\b
Examples:
  mainstem demo                               real market data through a real server
  mainstem publish orders --data '{{"id": 1}}'
  mainstem tail orders --from beginning
  mainstem run shop:app --workers 4
  mainstem health --watch

{exits.MEANINGS}
"""


@runtime_checkable
class _Misused(Protocol):
    """What typer raises for a wrong command line; the class itself moved between its versions."""

    exit_code: int

    def format_message(self) -> str: ...


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code and never lets an error through, except with `--debug`."""
    _prepare_streams()
    try:
        code = cast(object, program()(list(arguments), prog_name="mainstem", standalone_mode=False))
        sys.stdout.flush()
        return code if isinstance(code, int) else exits.OK
    except (BrokenPipeError, SystemExit) as error:
        return _ended(error)
    except (KeyboardInterrupt, typer.Abort):
        return _told("interrupted.", exits.INTERRUPTED)
    except MainstemError as error:
        return _told(_sentence(error), exits.code_of(error), error)
    except Exception as error:  # noqa: BLE001 - the last line of defence: typer's own errors, and ours
        if isinstance(error, _Misused):
            return _misused(error)
        return _told(_surprise(error), exits.FAILED, error)


def program() -> typer.Typer:
    """All commands. Plain help: rich's would double the time that `mainstem --help` takes."""
    app = typer.Typer(name="mainstem", rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback(help=_ABOUT)(_version_option)
    for module in (demo, server, running, publish, tail, streams):
        module.add(app)
    for name, module in (("group", groups), ("dead", dead)):
        group = typer.Typer(name=name, rich_markup_mode=None, no_args_is_help=True, help=module.ABOUT)
        module.add(group)
        app.add_typer(group)
    for module in (health, bench, doctor):
        module.add(app)
    return app


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"mainstem {version('mainstem')}")
        raise typer.Exit


def _version_option(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def _prepare_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # a name or an event may hold what the terminal cannot show


def _ended(error: BaseException) -> int:
    """`| head` closed our stdout: that is no failure, and flushing must not complain either."""
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exits.OK
    code = error.code if isinstance(error, SystemExit) else exits.FAILED
    return code if isinstance(code, int) else exits.OK


def _told(message: str, code: int, error: BaseException | None = None) -> int:
    if error is not None and options.debugging():
        import traceback

        traceback.print_exception(error)
    print(f"mainstem: {' '.join(message.split())}", file=sys.stderr)
    return code


def _sentence(error: MainstemError) -> str:
    notes = cast("list[str]", getattr(error, "__notes__", []))
    return str(error) + (f" ({'; '.join(notes)})" if notes else "")


def _surprise(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    return f"unexpected {type(error).__name__}: {error} (this may be a bug of mainstem; --debug shows where)."


def _misused(error: _Misused) -> int:
    message = error.format_message().rstrip(".")
    if "\n" in message:  # no words at all: the message is the help
        print(message)
        return exits.USAGE
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "mainstem"
    return _told(f"{message[:1].lower()}{message[1:]}; see {path} --help", exits.USAGE)
