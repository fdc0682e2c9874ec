"""
The keeper: parent of one embedded server, a script run by ``python -I -S`` that outlives whoever started it.

It starts the server, tells its starter once whether it answers, watches that clients come and go, and stops it cleanly
when none has been connected for a while, when it is told to (SIGTERM), or when the folder is taken away. On Linux the
kernel ends the server (SIGTERM: it writes everything down first) should the keeper itself be killed; elsewhere the next
client finds the server without a keeper and starts one to adopt it. So there is never an orphan.

Imports only the standard library, and as little as possible: it lies in memory as long as the server does. It knows
nothing of mainstem; what went wrong is explained by the starter, from the log.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import socket
import sys
import time

_CUT = re.compile(rb"Unexpected end of file reading the append only file (\S+?)\.? ")
_CUT_AT = re.compile(rb"Truncating the AOF (\S+) at offset (\d+)")


class Keeper:
    """One server's life, from ``start`` or ``adopt`` to its end."""

    def __init__(self, root: str, address: str, idle: float, patience: float) -> None:
        self.root = root
        self.address = address
        self.idle = idle
        self.patience = patience
        self.child = 0
        self.told_to_stop = False
        self.refused = False
        self.link: socket.socket | None = None
        self.places: dict[str, tuple[int, int]] = {}
        self.log_start = self._log_size()
        self.signals, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self.signals, False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a starter's blocked signals must not block ours
        signal.set_wakeup_fd(self._wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop_asked)
        signal.signal(signal.SIGCHLD, _wake_up)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    # --- starting

    def start(self, binary: str, tied: bool) -> str:
        """Start the server and wait until it serves: ``ready``, or the word that says why not."""
        answer = self._launch(binary, tied, "no")
        if answer.startswith("exited") and (name := self._found(_CUT)):
            # Its last write was cut off. The server is about to shorten the file: keep what it will throw away.
            copy = self._set_aside(os.fsdecode(name.group(1)))
            answer = self._launch(binary, tied, "yes")
            if answer == "ready":
                self._keep_tail_only(copy)
        return answer

    def _launch(self, binary: str, tied: bool, load_truncated: str) -> str:
        lock = _take(f"{self.root}/server.lock", patience=2.0)
        if lock is None:
            return "error another server holds the folder"
        command = [binary, f"{self.root}/server.conf", "--aof-load-truncated", load_truncated]
        self.child = _spawn(command, lock, tied)
        os.close(lock)  # the server's copy is the only one left: a held lock is a live server
        return self._wait_until_ready()

    def _wait_until_ready(self) -> str:
        silent_since = time.monotonic()
        while True:
            status = self._reaped()
            if status is not None:
                return f"exited {os.waitstatus_to_exitcode(status)}"
            answer = self.ask("PING")
            if answer.startswith(b"+") or (answer and not answer.startswith(b"-LOADING")):
                return "ready"
            if answer:
                silent_since = time.monotonic()  # it is reading its data, and says so
            if self.told_to_stop or time.monotonic() - silent_since > self.patience:
                os.kill(self.child, signal.SIGKILL)  # it has served nobody yet
                os.waitpid(self.child, 0)
                return "silent"
            time.sleep(0.1 if answer else 0.002)

    def _set_aside(self, name: str) -> str:
        copy = f"{self.root}/cut-{int(time.time())}-{os.getpid()}.aof"
        try:
            with open(f"{self.root}/data/appendonlydir/{name}", "rb") as old, open(copy, "xb") as new:
                while block := old.read(1 << 20):
                    new.write(block)
        except OSError:
            os.unlink(copy)  # half a copy helps nobody, and the disk may be full
            raise
        return copy

    def _keep_tail_only(self, copy: str) -> None:
        if (at := self._found(_CUT_AT)) is None:
            return
        with open(copy, "rb") as whole:
            whole.seek(int(at.group(2)))
            tail = whole.read()
        with open(f"{copy}.tail", "xb") as kept:
            kept.write(tail)
        os.replace(f"{copy}.tail", copy)
        note(f"set aside the {len(tail)} bytes of a write that was cut off, as {copy}")

    # --- watching

    def watch(self) -> None:
        """Stay until the server is gone."""
        self.places = {path: _identity(path) for path in (self.address, f"{self.root}/data")}
        quiet_since, seen = time.monotonic(), -1
        while True:
            select.select([self.signals], [], [], min(1.0, max(0.05, self.idle / 4)))
            self._drain_signals()
            if self.gone():
                return
            if self._taken_away() and not self.told_to_stop:
                time.sleep(0.3)  # let whoever deletes the folder finish: what is left of it decides how we stop
                note("the server's socket or folder was taken away: stopping it")
                self.told_to_stop = True
            if self.told_to_stop:
                self.stop()
                continue
            count = self.connections()
            if count is None or count != seen:
                quiet_since, seen = time.monotonic(), -1 if count is None else count
            elif time.monotonic() - quiet_since >= self.idle:
                self._stop_if_idle(count)

    def connections(self) -> int | None:
        """How many connections were ever made, if ours alone is left; None while there are others, or no answer."""
        clients = _number(self.ask("INFO clients"), b"connected_clients")
        made = _number(self.ask("INFO stats"), b"total_connections_received")
        return made if clients == 1 else None

    def gone(self) -> bool:
        """Whether the server has ended (as a child it is reaped; an adopted one has let go of its lock)."""
        if self.child:
            return self._reaped() is not None
        lock = _take(f"{self.root}/server.lock", patience=0)
        if lock is not None:
            os.close(lock)
        return lock is not None

    def stop(self) -> None:
        """Ask for a clean end and wait a while; a server that cannot write its data down refuses, and lives on."""
        data = f"{self.root}/data"
        deleted = _identity(data) != self.places[data]
        if not deleted and b"aof_last_write_status:err" in self.ask("INFO persistence"):
            if not self.refused:
                note("the disk does not take the last writes, which are only in memory: staying up until it does")
            self.refused = True
            time.sleep(0.2)
            return
        if self.child:
            # With its data deleted there is nothing to save, and a clean end would unlink a successor's socket.
            os.kill(self.child, signal.SIGKILL if deleted else signal.SIGTERM)
        else:
            self.ask("SHUTDOWN")
        give_up = time.monotonic() + 10
        while not self.gone() and time.monotonic() < give_up:
            time.sleep(0.005)

    def _stop_if_idle(self, seen: int) -> None:
        lock = _take(f"{self.root}/start.lock", patience=0)
        if lock is None:
            return
        hold = _take(f"{self.root}/hold.lock", patience=0)
        if hold is not None:
            os.close(hold)
        # Clients look for the server under the start lock: who came before us is counted, who comes later waits.
        if hold is not None and self.connections() == seen:
            note(f"no client for {self.idle:g} s: stopping the server")
            self.stop()
        os.close(lock)

    # --- talking and signals

    def ask(self, command: str) -> bytes:
        """The server's answer to an inline command; empty when there is none within a second."""
        try:
            if self.link is None:
                self.link = socket.socket(socket.AF_UNIX)
                self.link.settimeout(1.0)
                self.link.connect(self.address)
            self.link.sendall(command.encode() + b"\r\n")
            return _whole(self.link)
        except OSError:
            if self.link is not None:
                self.link.close()
            self.link = None
            return b""

    def _reaped(self) -> int | None:
        try:
            pid, status = os.waitpid(self.child, os.WNOHANG)
        except ChildProcessError:
            return 0
        return status if pid else None

    def _taken_away(self) -> bool:
        return any(_identity(path) != known for path, known in self.places.items())

    def clean(self) -> None:
        """Remove the dead server's socket, and the private directory it may have needed."""
        directory = os.path.dirname(self.address)
        with contextlib.suppress(OSError):
            if _identity(self.address) == self.places[self.address]:
                os.unlink(self.address)
            if directory != self.root:
                os.rmdir(directory)

    def _stop_asked(self, *_: object) -> None:
        self.told_to_stop = True

    def _drain_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.signals, 4096)

    def _log_size(self) -> int:
        return os.path.getsize(f"{self.root}/server.log")

    def _found(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        with open(f"{self.root}/server.log", "rb") as log:
            log.seek(self.log_start)
            return pattern.search(log.read())


def _wake_up(*_: object) -> None:
    """The wake-up descriptor does the work; a handler must be set for Python to use it."""


def main(root: str, address: str, idle: str, patience: str, mode: str, binary: str) -> None:
    """Detach, take the folder's keeper lock, start (``tied``, ``loose``) or ``adopt`` the server, and keep it."""
    if os.fork():
        os._exit(0)  # the starter waits for this process: it leaves no zombie and is nobody's parent
    os.umask(0o077)
    os.chdir("/")
    lock = _take(f"{root}/keeper.lock", patience=2.0)
    if lock is None:
        say("error another keeper holds the folder")
        return
    if _starter_is_gone():
        return  # nobody holds the start lock for us any more: another may be starting, or stopping, a server
    os.ftruncate(lock, 0)
    os.write(lock, b"%d\n" % os.getpid())
    try:
        keeper = Keeper(root, address, float(idle), float(patience))
        answer = "ready" if mode == "adopt" else keeper.start(binary, tied=mode == "tied")
    except OSError as error:
        say(f"error {error}")
        return
    say(answer)
    if answer == "ready":
        keeper.watch()
        keeper.clean()


def say(answer: str) -> None:
    """Tell the starter, once; it may be gone, which changes nothing."""
    with contextlib.suppress(OSError):
        os.write(1, answer.encode(errors="surrogateescape") + b"\n")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.close(silence)


def note(text: str) -> None:
    """Write a line into the server's log, if the disk has room for it."""
    line = f"{os.getpid()}:K {time.strftime('%d %b %Y %H:%M:%S')}.000 * {text}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="surrogateescape"))


def _starter_is_gone() -> bool:
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))  # the other end of the pipe is closed


def _spawn(command: list[str], lock: int, tied: bool) -> int:
    keeper = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(2, 1)
        os.set_inheritable(lock, True)
        for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        if tied:
            _end_with_parent(keeper)
        os.execv(command[0], command)
    except OSError as error:
        note(f"cannot run {command[0]}: {error.strerror}")
    finally:
        os._exit(127)


def _end_with_parent(keeper: int) -> None:
    import ctypes  # in the child only: the keeper stays small

    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG
    if os.getppid() != keeper:
        os._exit(127)


def _take(path: str, patience: float) -> int | None:
    give_up = time.monotonic() + patience
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= give_up:
                os.close(descriptor)
                return None
            time.sleep(0.01)


def _whole(link: socket.socket) -> bytes:
    data = link.recv(65536)
    while data and not _complete(data):
        more = link.recv(65536)
        if not more:
            break
        data += more
    if not data:
        raise ConnectionResetError
    return data


def _complete(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n")
    return bool(end) and (not head.startswith(b"$") or len(body) >= int(head[1:]) + 2)


def _number(reply: bytes, name: bytes) -> int | None:
    found = re.search(rb"^" + name + rb":(\d+)", reply, re.MULTILINE)
    return int(found.group(1)) if found else None


def _identity(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


if __name__ == "__main__":
    main(*sys.argv[1:])
