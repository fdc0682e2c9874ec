"""`mainstem run`: finds the app that `module:name` means, and serves it here or in supervised processes."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mainstem.app import Mainstem
from mainstem.cli import exits
from mainstem.cli.connecting import suggestion
from mainstem.cli.options import Format, debugging
from mainstem.cli.printing import Column, say, write_rows
from mainstem.errors import ConfigError, MainstemError

_COMMON = ("app", "main", "application")


def run(target: str, workers: str, *, reload: bool, dry_run: bool, url: str | None, output: Format) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    if url is not None:
        os.environ["MAINSTEM_URL"] = url  # the workers', and this process's
    count = _count(workers)
    _module_and_name(target)
    if dry_run:
        return _look(target, count, url, output)
    _log_to_stderr()
    if os.environ.get("MAINSTEM_WORKER"):
        return _work(target)
    if count == 1 and not reload:
        return _serve(_checked(target, 1, url))
    return _supervised(target, count, url, reload)


def find_app(target: str) -> Mainstem:
    """The app that `module:name` means, or `ConfigError` with what comes close."""
    module_name, name = _module_and_name(target)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = _imported(module_name)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Mainstem):
        return found
    inside: dict[str, Any] = vars(module)
    apps = [each for each, value in inside.items() if isinstance(value, Mainstem)]
    advice = f"{module_name}:{apps[0]} is one" if apps else "it defines none; write app = Mainstem()"
    if found is None:
        close = suggestion(name, [each for each in inside if not each.startswith("_")])
        raise ConfigError(f"module {module_name!r} has no {name!r}: {advice if apps else close + advice}.")
    raise ConfigError(f"{target} is not an app but of type {type(found).__name__}: {advice}.")


def _checked(target: str, workers: int, url: str | None) -> Mainstem:
    app = find_app(target)
    if url is not None and app.url != url:
        raise ConfigError(
            f"--url has no effect: the app {target} names its own URL in its code; leave one of them out."
        )
    if workers > 1 and app.url.startswith("memory:"):
        raise ConfigError(
            f"memory:// lives inside one process and {workers} workers would each see streams of their own: use "
            "embedded:// or a server's URL, or --workers 1."
        )
    if not app.subscriptions:
        raise ConfigError(f"the app {target} has no subscriptions: decorate a handler with @app.subscribe(...).")
    return app


def _serve(app: Mainstem) -> int:
    from mainstem.running import ended_by
    from mainstem.running import run as serve

    try:
        serve(app)
    except BaseExceptionGroup as group:
        raise ended_by(group) from group
    return exits.OK


def _work(target: str) -> int:
    from mainstem.supervisor import end_with_supervisor

    end_with_supervisor()
    return _serve(_checked(target, 1, None))


def _supervised(target: str, count: int, url: str | None, reload: bool) -> int:
    import subprocess

    from mainstem.supervisor import python_command, supervise

    words = ["-m", "mainstem.cli", "run", target, *(["--debug"] if debugging() else [])]
    if not reload:
        # In a process of its own: what the app's modules do when they are imported stays out of the supervisor.
        look = python_command(*words, "--workers", str(count), "--dry-run", *(["--url", url] if url else []))
        seen = subprocess.run(look, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if seen.returncode:
            sys.stderr.write(seen.stderr)
            return seen.returncode if seen.returncode > 0 else exits.FAILED
    return supervise(python_command(*words), count, watch=Path.cwd() if reload else None)


def _look(target: str, count: int, url: str | None, output: Format) -> int:
    app = _checked(target, count, url)
    rows = [
        {
            "handler": sub.name,
            "source": sub.source.name,
            "group": sub.group,
            "to": sub.to.name if sub.to is not None else None,
            "concurrency": sub.concurrency,
            "batch": sub.batching.size if sub.batching is not None else None,
            "attempts": sub.retry.attempts,
        }
        for sub in app.subscriptions
    ]
    write_rows(rows, [Column(field) for field in rows[0]], output, empty="")
    say(f"dry run: {count} {'workers' if count > 1 else 'worker'} would serve this.")
    return exits.OK


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or (name != error.name and not name.startswith(f"{error.name}.")):
            raise ConfigError(f"module {name!r} needs {error.name!r}, which is not installed: install it.") from error
        close = suggestion(name, list(_modules_here()))
        raise ConfigError(
            f"there is no module {name!r} in {os.getcwd()} or installed: {close}run this where the module is."
        ) from error
    except SyntaxError as error:
        raise ConfigError(
            f"module {name!r} cannot be read: {error.msg} ({error.filename}, line {error.lineno})."
        ) from error
    except MainstemError:
        raise
    except Exception as error:
        raise ConfigError(
            f"module {name!r} fails when it is imported: {type(error).__name__}: {error} (--debug shows where)."
        ) from error


def _modules_here() -> Iterator[str]:
    for path in Path.cwd().glob("*.py"):
        yield path.stem
    for path in Path.cwd().glob("*/*.py"):
        yield path.parent.name if path.stem == "__init__" else f"{path.parent.name}.{path.stem}"


def _module_and_name(target: str) -> tuple[str, str]:
    module, colon, name = target.partition(":")
    if module.endswith(".py"):
        fixed = module.removesuffix(".py").strip("./").replace("/", ".")
        raise ConfigError(f"{target!r} is a file: name the module, {fixed}:{name or 'app'}.")
    parts = [*module.split("."), *name.split(".")]
    if not colon or not all(part.isidentifier() for part in parts):
        hint = difflib.get_close_matches(name, _COMMON, 1)
        raise ConfigError(
            f"{target!r} does not name an app: write module:name, such as {module or 'shop'}:{(hint or ['app'])[0]}."
        )
    return module, name


def _count(workers: str) -> int:
    if workers == "auto":
        return os.cpu_count() or 1
    if not workers.isascii() or not workers.isdigit() or not 1 <= int(workers) <= 1024:
        raise ConfigError(f"--workers {workers!r} is not a number of processes: give 1 to 1024, or auto.")
    return int(workers)


def _log_to_stderr() -> None:
    number = os.environ.get("MAINSTEM_WORKER")
    who = f" worker {number}" if number else ""
    level = logging.DEBUG if debugging() else logging.INFO
    logging.basicConfig(level=level, format=f"%(asctime)s %(levelname)s{who} %(message)s", stream=sys.stderr)
