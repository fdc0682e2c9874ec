"""Telemetry hooks: who is called with what, and that a bad one stops nothing."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from mainstem import Mainstem, Received
from mainstem.hooks import DeadLetterDetail, HandleDetail, Hook, Hooks, IncidentDetail, PublishDetail


class All:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_publish(self, detail: PublishDetail, /) -> None:
        self.heard.append(detail)

    def on_handle(self, detail: HandleDetail, /) -> None:
        self.heard.append(detail)

    def on_dead_letter(self, detail: DeadLetterDetail, /) -> None:
        self.heard.append(detail)

    def on_incident(self, detail: IncidentDetail, /) -> None:
        self.heard.append(detail)


class Broken:
    def on_publish(self, detail: PublishDetail, /) -> None:
        raise RuntimeError("publish hook")

    def on_handle(self, detail: HandleDetail, /) -> None:
        raise RuntimeError("handle hook")

    def on_dead_letter(self, detail: DeadLetterDetail, /) -> None:
        raise RuntimeError("dead hook")


PUBLISH = PublishDetail(("s",), 3, 1, 0, 0.1)
HANDLE = HandleDetail("s", "g", "h", 2, 1, 0.1)
DEAD = DeadLetterDetail("s", "g", "h", "id", "1", "why", 5)
INCIDENT = IncidentDetail("gap", "s", "g", "what", 7)


def tell_all(hooks: Hooks) -> None:
    hooks.published(PUBLISH)
    hooks.handled(HANDLE)
    hooks.dead(DEAD)
    hooks.incident(INCIDENT)


def test_each_point_is_told_once() -> None:
    ear = All()
    tell_all(Hooks([ear]))
    assert ear.heard == [PUBLISH, HANDLE, DEAD, INCIDENT]


def test_a_hook_may_offer_one_point_only() -> None:
    class Incidents:
        def __init__(self) -> None:
            self.heard: list[str] = []

        def on_incident(self, detail: IncidentDetail, /) -> None:
            self.heard.append(detail.kind)

    ear = Incidents()
    hooks = Hooks([ear])
    tell_all(hooks)
    assert ear.heard == ["gap"]
    assert not hooks.listening_to_publishes


def test_what_offers_none_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="has none of on_publish, on_handle, on_dead_letter, on_incident"):
        Hooks([cast(Hook, object())])


def test_who_was_removed_hears_nothing_more() -> None:
    ear, hooks = All(), Hooks()
    hooks.add(ear)
    assert hooks.listening_to_publishes
    hooks.remove(ear)
    hooks.remove(ear)
    tell_all(hooks)
    assert ear.heard == []
    assert not hooks.listening_to_publishes


def test_a_failing_hook_is_logged_and_the_next_one_is_told(caplog: pytest.LogCaptureFixture) -> None:
    ear = All()
    with caplog.at_level(logging.ERROR, "mainstem.hooks"):
        tell_all(Hooks([Broken(), ear]))
    assert ear.heard == [PUBLISH, HANDLE, DEAD, INCIDENT]
    assert [record.message.split(" on ")[0] for record in caplog.records] == ["a telemetry hook failed"] * 3
    assert "publish hook" in caplog.text


async def test_events_flow_on_although_every_hook_fails() -> None:
    app = Mainstem("memory://", hooks=[Broken()])
    stream = app.stream("s")
    seen: list[int] = []

    @app.subscribe(stream, group="g")
    async def handle(event: Received[Any]) -> None:
        seen.append(event.data)

    async with app.testing() as trial:
        await trial.publish(stream, 1, 2, 3)
        await trial.quiet()
    assert seen == [1, 2, 3]
