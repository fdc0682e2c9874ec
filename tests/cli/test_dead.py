"""`mainstem dead`: what a group gave up is listed by kind, shown whole, given again or deleted."""

from __future__ import annotations

import asyncio

import pytest

from cli.cli_lab import fine, mainstem, one_line
from mainstem import Mainstem, Retry
from waiting import wait_until

pytestmark = pytest.mark.parametrize("server", ["valkey_url", "redis7_url"])


@pytest.fixture
def url(request: pytest.FixtureRequest, server: str) -> str:
    found: str = request.getfixturevalue(server)
    return found


async def reject(url: str, stream: str, reasons: list[str], group: str = "billing") -> None:
    """One event a reason, each given up."""
    async with Mainstem(url) as app:
        target = app.stream(stream)
        await target.publish_batch([{"n": n} for n in range(len(reasons))])
        async with target.consume(group) as received:
            for reason in reasons:
                await (await anext(received)).reject(reason)


def letters(stream: str, url: str, *words: str) -> list[dict]:
    return fine("dead", "ls", stream, *words, "-o", "ndjson", url=url).rows


async def test_ls_and_show(url: str, stream_name: str) -> None:
    await reject(url, stream_name, ["no such customer", "no such customer", "too late"])
    rows = letters(stream_name, url)
    assert [row["reason"] for row in rows] == ["no such customer", "no such customer", "too late"]
    assert {row["group"] for row in rows} == {"billing"}
    shown = fine("dead", "show", stream_name, rows[2]["id"], "-o", "json", url=url).json
    assert (shown["data"], shown["reason"], shown["id"]) == ({"n": 2}, "too late", rows[2]["id"])
    assert '{"n":2}' in fine("dead", "show", stream_name, rows[2]["id"], url=url).out
    table = fine("dead", "ls", stream_name, url=url).out
    assert table.splitlines()[0].split() == ["COUNT", "FINGERPRINT", "GROUP", "REASON"]
    assert "too late" in table
    assert len(letters(stream_name, url, "--limit", "2")) == 2


async def test_replay_gives_them_to_their_group_again(url: str, stream_name: str) -> None:
    await reject(url, stream_name, ["a", "b", "c"])
    first, *others = letters(stream_name, url)
    trial = fine("dead", "replay", stream_name, "--all", "--dry-run", "-o", "json", url=url)
    assert (trial.json["chosen"], trial.json["replayed"]) == (3, 0)
    assert len(letters(stream_name, url)) == 3
    assert fine("dead", "replay", stream_name, first["id"], "-o", "json", url=url).json["replayed"] == 1
    assert letters(stream_name, url) == others
    fine("dead", "replay", stream_name, "--all", url=url)
    assert letters(stream_name, url) == []
    async with Mainstem(url) as app, app.stream(stream_name).consume("billing") as received:
        again = [(await anext(received)) for _ in range(3)]
        for item in again:
            await item.ack()
    assert sorted(item.data["n"] for item in again) == [0, 1, 2]


async def test_replay_says_what_was_not_there(url: str, stream_name: str) -> None:
    await reject(url, stream_name, ["a"])
    [letter] = letters(stream_name, url)
    said = mainstem("dead", "replay", stream_name, letter["id"], "0:1-1", "-o", "json", url=url)
    assert (said.code, said.json["replayed"]) == (1, 1)
    assert "1 were not there any more" in said.err


async def test_purge_deletes_after_asking(url: str, stream_name: str) -> None:
    await reject(url, stream_name, ["a", "b"])
    said = mainstem("dead", "purge", stream_name, "--all", url=url)
    assert (said.code, "add --yes" in one_line(said)) == (2, True)
    fine("dead", "purge", stream_name, "--all", "--dry-run", url=url)
    first, second = letters(stream_name, url)
    fine("dead", "purge", stream_name, first["id"], "--yes", url=url)
    assert letters(stream_name, url) == [second]
    fine("dead", "purge", stream_name, "--all", "--yes", url=url)
    assert letters(stream_name, url) == []
    assert fine("dead", "ls", stream_name, url=url).err == f"no dead letters in '{stream_name}'.\n"


async def test_one_kind_of_failure_of_a_handler(url: str, stream_name: str) -> None:
    """The letters that a running app makes carry a fingerprint, the handler and the traceback."""
    app = Mainstem(url)
    stream = app.stream(stream_name)

    @app.subscribe(stream, group="billing", retry=Retry(1))
    async def bill(event: object) -> None:
        number = event.data["n"]  # type: ignore[attr-defined]
        if number == 0:
            raise KeyError("customer")
        raise ValueError("amount")

    stop = asyncio.Event()
    async with app:
        await stream.publish_batch([{"n": 0}, {"n": 1}, {"n": 2}])
        serving = asyncio.create_task(app.serve(stop))

        async def all_dead() -> bool:
            groups = (await stream.describe()).groups
            return bool(groups) and groups[0].dead == 3

        await wait_until(all_dead, 15)
        stop.set()
        await serving
    rows = letters(stream_name, url)
    kinds = {row["fingerprint"] for row in rows if "amount" in row["reason"]}
    assert len(kinds) == 1
    shown = fine("dead", "show", stream_name, rows[0]["id"], url=url).out
    assert "Traceback" in shown
    assert "bill" in shown
    trial = fine("dead", "replay", stream_name, "--fingerprint", kinds.pop(), "--dry-run", "-o", "json", url=url)
    assert trial.json["chosen"] == 2


async def test_several_groups_and_wrong_words(url: str, stream_name: str) -> None:
    await reject(url, stream_name, ["a"])
    await reject(url, stream_name, ["b", "c"], group="shipping")
    assert sorted(row["group"] for row in letters(stream_name, url)) == ["billing", "shipping", "shipping"]
    assert [row["group"] for row in letters(stream_name, url, "-g", "billing")] == ["billing"]
    for words, says in (
        (("replay", stream_name, "--all"), "choose with --group"),
        (("replay", stream_name), "say which dead letters"),
        (("replay", stream_name, "0:1-1", "--all"), "say which dead letters"),
        (("show", stream_name, "0:1-1"), "there is no dead letter '0:1-1'"),
        (("ls", stream_name, "-g", "nobody"), "has no group 'nobody'"),
    ):
        said = mainstem("dead", *words, url=url)
        assert (said.code, says in one_line(said)) == (2, True), said
