"""
The folder of an embedded server: where it is, what lies in it, who may read it.

    .mainstem/          0700, git-ignored by its own .gitignore
      data/             the events: the server's append-only files
      s.sock            where clients connect (elsewhere when the path is too long: socket.path says where)
      server.conf       written anew at every start
      server.log        the server's and its keeper's words
      *.lock            start: who may start or stop it; server, keeper: held while they live; hold: keeps it up

Knows files, not processes: whether a server runs is for the locks to say.
"""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path

from mainstem.errors import ConfigError, MainstemError, Unavailable

NAME = ".mainstem"
# sun_path holds 104 bytes on macOS and 108 on Linux, the closing zero included
SOCKET_LIMIT = 103


@dataclass(frozen=True, slots=True)
class Folder:
    """The places inside one embedded server's folder; ``root`` is absolute."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def config(self) -> Path:
        return self.root / "server.conf"

    @property
    def pid_file(self) -> Path:
        return self.root / "server.pid"

    @property
    def socket_record(self) -> Path:
        return self.root / "socket.path"

    @property
    def start_lock(self) -> Path:
        return self.root / "start.lock"

    @property
    def server_lock(self) -> Path:
        return self.root / "server.lock"

    @property
    def keeper_lock(self) -> Path:
        return self.root / "keeper.lock"

    @property
    def hold_lock(self) -> Path:
        return self.root / "hold.lock"

    def address(self) -> str:
        """The path of the server's unix socket, as its last start chose it."""
        try:
            return os.fsdecode(self.socket_record.read_bytes())
        except FileNotFoundError:
            return str(self.root / "s.sock")


def find_folder(folder: Path | None) -> Folder:
    """The named folder, else the nearest ``.mainstem`` upward, else the one that would be made here. Makes nothing."""
    if folder is not None:
        return Folder(Path(os.path.abspath(folder)))
    here = Path.cwd()
    # Only our own: a folder that someone else put into a shared parent would see and choose what we read.
    owners = {os.geteuid(), here.stat().st_uid}
    for parent in (here, *here.parents):
        candidate = parent / NAME
        if candidate.is_dir() and candidate.stat().st_uid in owners:
            return Folder(candidate)
    return Folder(here / NAME)


def make_folder(folder: Folder) -> None:
    """
    Make the folder and its ``data`` if they are missing, and see that only their owner can look inside.

    Raises ConfigError when it cannot be written, or when it is a folder that holds other things.
    """
    root = folder.root
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not folder.start_lock.exists():
            _claim(root)
        if stat.S_IMODE(root.stat().st_mode) != 0o700:
            root.chmod(0o700)
        folder.data.mkdir(mode=0o700, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{root} cannot be the server's folder: a file is in its place; name another.") from None
    except OSError as error:
        raise unusable(folder, error) from error


def choose_address(folder: Folder) -> str:
    """The socket path for the next start, in a private place if ours is too long; only while no server runs."""
    direct = str(folder.root / "s.sock")
    if len(os.fsencode(direct)) <= SOCKET_LIMIT:
        folder.socket_record.unlink(missing_ok=True)
        return direct
    recorded = folder.address()
    if recorded != direct and _private(os.path.dirname(recorded)):
        return recorded
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):
        if not os.path.isabs(base) or not os.access(base, os.W_OK) or len(os.fsencode(base)) > SOCKET_LIMIT - 32:
            continue
        address = os.path.join(tempfile.mkdtemp(prefix="mainstem-", dir=base), "s.sock")
        folder.socket_record.write_bytes(os.fsencode(address))
        folder.socket_record.chmod(0o600)
        return address
    raise ConfigError(f"{direct} is too long for a unix socket, and so are the temporary folders: name a shorter one.")


def unusable(folder: Folder, error: OSError) -> MainstemError:
    """The error for a folder that the system does not let us write."""
    if error.errno == ENOSPC:
        return full(folder)
    reason = error.strerror or str(error)
    return ConfigError(
        f"the server's folder {folder.root} cannot be written ({reason}): make it writable, or name another one "
        "with MAINSTEM_URL=embedded:///path/to/folder."
    )


def full(folder: Folder) -> Unavailable:
    """The error for a folder whose disk has no room."""
    return Unavailable(f"the disk of {folder.root} is full: free some space and try again; what it holds is untouched.")


def _claim(root: Path) -> None:
    # Another process may be making the same folder at this moment: its first files are not foreign.
    foreign = {entry.name for entry in root.iterdir()} - {".gitignore", "data", "start.lock", "hold.lock"}
    if root.name != NAME and foreign:
        raise ConfigError(f"{root} holds other files and no embedded server: name an empty or a new folder.")
    ignore = root / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
        ignore.chmod(0o600)


def _private(directory: str) -> bool:
    try:
        seen = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid() and stat.S_IMODE(seen.st_mode) == 0o700
