"""
What `mainstem doctor` finds and what each finding means, in plain words: pure judgements of facts. Gathering the facts
is in `examining`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mainstem.cli.printing import size

if TYPE_CHECKING:
    from mainstem.engines.redis import ServerFacts

Verdict = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `do`: what to do about it; empty where nothing need be done."""

    about: str
    verdict: Verdict
    found: str
    do: str = ""


def of_server(facts: ServerFacts, used: int | None) -> list[Finding]:
    """What a Redis or Valkey server's settings mean for the events on it."""
    return [_version(facts), _role(facts), _durability(facts), _eviction(facts), _memory(facts, used)]


def _version(facts: ServerFacts) -> Finding:
    if not facts.version:
        return Finding("version", "warn", "unknown: this user may not read INFO", "allow the command INFO to this user")
    return Finding("version", "ok", f"{facts.kind} {facts.version} (at least Redis 7.0 or Valkey 8 is needed)")


def _role(facts: ServerFacts) -> Finding:
    if facts.role == "slave":
        return Finding(
            "role", "bad", "a replica: nothing can be published or acknowledged here", "connect to its primary server"
        )
    copies = "" if facts.replicas < 0 else f" with {facts.replicas} replicas"
    alone = " (when its machine is lost, so are the events)" if facts.replicas == 0 else ""
    return Finding("role", "ok", f"primary{copies}{alone}")


def _durability(facts: ServerFacts) -> Finding:
    if not facts.appendonly:
        return Finding(
            "durability", "warn", facts.durability, "allow CONFIG GET to this user, to see what a crash loses"
        )
    if facts.appendonly == "yes":
        lazy = facts.appendfsync == "no"
        return Finding(
            "durability",
            "warn" if lazy else "ok",
            facts.durability,
            "set appendfsync everysec or always" if lazy else "",
        )
    verdict: Verdict = "warn" if facts.snapshots else "bad"
    return Finding("durability", verdict, facts.durability, "set appendonly yes and appendfsync everysec (or always)")


def _eviction(facts: ServerFacts) -> Finding:
    if facts.evicts_streams:
        found = f"{facts.policy}: when memory is full, the server deletes whole streams with their groups"
        return Finding(
            "eviction", "bad", found, "set maxmemory-policy noeviction: publishing then fails loudly instead"
        )
    if facts.policy.startswith("allkeys-"):
        found = f"{facts.policy}, harmless only as long as maxmemory is 0"
        return Finding("eviction", "warn", found, "set maxmemory-policy noeviction before anyone sets maxmemory")
    if not facts.policy:
        return Finding(
            "eviction", "warn", "unknown: this user may not see it", "allow CONFIG GET and INFO to this user"
        )
    return Finding("eviction", "ok", f"{facts.policy}: streams are never deleted to make room")


def _memory(facts: ServerFacts, used: int | None) -> Finding:
    now = f"{size(used)} used" if used is not None else "use unknown"
    if facts.maxmemory < 0:
        return Finding("memory", "warn", f"{now}; its limit is unknown", "allow CONFIG GET and INFO to this user")
    if facts.maxmemory == 0:
        found = f"{now}, no limit: it grows until the machine has none left; streams are bounded by what they keep"
        return Finding("memory", "ok", found)
    share = 0.0 if used is None else used / facts.maxmemory
    if share > 0.8:
        return Finding(
            "memory", "bad" if share > 0.95 else "warn",
            f"{now} of {size(facts.maxmemory)} ({share:.0%}): at the limit publishing fails",
            "keep less (mainstem alter), or raise maxmemory",
        )  # fmt: skip
    return Finding("memory", "ok", f"{now} of {size(facts.maxmemory)} ({share:.0%})")
