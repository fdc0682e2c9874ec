"""
Points where telemetry may listen: one Protocol a point, each given one frozen detail object.

The core calls hooks and imports no metrics library. Details describe batches, so that listening costs little. A hook
must be quick and must not raise; what it raises is logged and dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

D = TypeVar("D")
_log = logging.getLogger("mainstem.hooks")


@dataclass(frozen=True, slots=True)
class PublishDetail:
    """A write to the engine ended."""

    streams: tuple[str, ...]
    events: int
    failed: int  # not stored
    unknown: int  # perhaps stored
    seconds: float


@dataclass(frozen=True, slots=True)
class HandleDetail:
    """Handlers of one subscription finished some events."""

    stream: str
    group: str
    handler: str
    handled: int
    failed: int  # attempts
    seconds: float  # spent inside the handler


@dataclass(frozen=True, slots=True)
class DeadLetterDetail:
    """An event was given up."""

    stream: str
    group: str
    handler: str
    id: str
    position: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class IncidentDetail:
    """Something an operator should know: a gap, a lost lease, a group created anew, a server away."""

    kind: str  # gap | lost | recreated | unavailable | restored | released
    stream: str
    group: str
    what: str
    events: int = 0


@runtime_checkable
class PublishHook(Protocol):
    def on_publish(self, detail: PublishDetail, /) -> None: ...


@runtime_checkable
class HandleHook(Protocol):
    def on_handle(self, detail: HandleDetail, /) -> None: ...


@runtime_checkable
class DeadLetterHook(Protocol):
    def on_dead_letter(self, detail: DeadLetterDetail, /) -> None: ...


@runtime_checkable
class IncidentHook(Protocol):
    def on_incident(self, detail: IncidentDetail, /) -> None: ...


Hook = PublishHook | HandleHook | DeadLetterHook | IncidentHook


class Hooks:
    """The hooks of an app, sorted by point."""

    def __init__(self, hooks: Iterable[Hook] = ()) -> None:
        self._publish: list[Callable[[PublishDetail], None]] = []
        self._handle: list[Callable[[HandleDetail], None]] = []
        self._dead: list[Callable[[DeadLetterDetail], None]] = []
        self._incident: list[Callable[[IncidentDetail], None]] = []
        for hook in hooks:
            self.add(hook)

    def add(self, hook: Hook) -> None:
        """Listen with every point that the object offers; an object that offers none is a TypeError."""
        before = self._count()
        if isinstance(hook, PublishHook):
            self._publish.append(hook.on_publish)
        if isinstance(hook, HandleHook):
            self._handle.append(hook.on_handle)
        if isinstance(hook, DeadLetterHook):
            self._dead.append(hook.on_dead_letter)
        if isinstance(hook, IncidentHook):
            self._incident.append(hook.on_incident)
        if self._count() == before:
            raise TypeError(f"{hook!r} has none of on_publish, on_handle, on_dead_letter, on_incident.")

    def remove(self, hook: Hook) -> None:
        """Stop listening."""
        if isinstance(hook, PublishHook) and hook.on_publish in self._publish:
            self._publish.remove(hook.on_publish)
        if isinstance(hook, HandleHook) and hook.on_handle in self._handle:
            self._handle.remove(hook.on_handle)
        if isinstance(hook, DeadLetterHook) and hook.on_dead_letter in self._dead:
            self._dead.remove(hook.on_dead_letter)
        if isinstance(hook, IncidentHook) and hook.on_incident in self._incident:
            self._incident.remove(hook.on_incident)

    @property
    def listening_to_publishes(self) -> bool:
        return bool(self._publish)

    def published(self, detail: PublishDetail) -> None:
        _tell(self._publish, detail)

    def handled(self, detail: HandleDetail) -> None:
        _tell(self._handle, detail)

    def dead(self, detail: DeadLetterDetail) -> None:
        _tell(self._dead, detail)

    def incident(self, detail: IncidentDetail) -> None:
        _tell(self._incident, detail)

    def _count(self) -> int:
        return len(self._publish) + len(self._handle) + len(self._dead) + len(self._incident)


def _tell(listeners: list[Callable[[D], None]], detail: D) -> None:
    for listener in listeners:
        try:
            listener(detail)
        except Exception:  # noqa: BLE001 - a hook is a stranger's code
            _log.exception("a telemetry hook failed on %r; the event flow goes on", detail)
