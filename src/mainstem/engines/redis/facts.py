"""
What a server says about itself, read once at opening: kind, version, role, durability, eviction.

Pure reading and judging of INFO and CONFIG; whoever connects decides what to do with it. What the ACL hides is unknown,
never an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from mainstem.engines.redis.replies import translate
from mainstem.engines.redis.wire import Reply, ReplyError, Wire, command
from mainstem.errors import ConfigError

_SETTINGS = (b"maxmemory", b"maxmemory-policy", b"appendonly", b"appendfsync", b"save")
_FLOOR = {"redis": (7, 0), "valkey": (8, 0)}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is known of a server; empty text and -1: it would not tell."""

    kind: str  # "redis" or "valkey"
    version: str
    role: str = ""  # "master", "slave"
    loading: bool = False
    replicas: int = -1
    maxmemory: int = -1  # bytes; 0: no limit
    policy: str = ""
    appendonly: str = ""  # "yes", "no"
    appendfsync: str = ""  # "always", "everysec", "no"
    snapshots: str = ""  # the `save` setting

    @property
    def evicts_streams(self) -> bool:
        """Whether memory pressure may delete whole streams and their groups."""
        return self.maxmemory > 0 and self.policy.startswith("allkeys-")

    @property
    def durability(self) -> str:
        """What an acknowledged write survives, in words for people."""
        if not self.appendonly:
            return "unknown: the server's settings may not be read by this user"
        if self.appendonly == "yes":
            return _AOF.get(self.appendfsync, "append-only file, its fsync setting is unknown")
        if self.snapshots:
            return f"snapshots only ({self.snapshots}): a crash loses what came after the last one"
        return "none: a restart of the server loses everything"

    @property
    def notices(self) -> tuple[str, ...]:
        """What an operator should know at once, one sentence each."""
        found: list[str] = []
        if self.evicts_streams:
            found.append(f"maxmemory-policy {self.policy} may evict whole streams: set it to noeviction.")
        if self.role == "slave":
            found.append("the server is a replica: nothing can be published or acknowledged here.")
        if self.appendonly == "no":
            found.append(f"durability is {self.durability}: set appendonly yes.")
        return tuple(found)


_AOF = {
    "always": "append-only file, fsynced before each reply: a crash or power loss loses nothing acknowledged",
    "everysec": "append-only file, fsynced each second: a crash may lose a little, a power loss 1 to 2 seconds",
    "no": "append-only file, fsynced when the system likes: a power loss may lose half a minute",
}


async def read_facts(wire: Wire) -> ServerFacts:
    """Ask the server. Raises ConfigError for a server older than the floor, NotSent or ReplyLost."""
    asked = [command(b"INFO"), *(command(b"CONFIG", b"GET", name) for name in _SETTINGS)]
    replies = await wire.send_many(asked, len(asked))
    if isinstance(replies[0], ReplyError) and replies[0].code != "NOPERM":
        raise translate(replies[0], "ask the server about itself")
    facts = _facts(_lines(replies[0]), _settings(replies[1:]))
    _check(facts)
    return facts


def _lines(info: Reply) -> dict[str, str]:
    if not isinstance(info, bytes):
        return {}
    pairs = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def _settings(replies: list[Reply]) -> dict[str, str]:
    found: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], bytes) and isinstance(reply[1], bytes):
            found[reply[0].decode()] = reply[1].decode("utf-8", "replace")
    return found


def _facts(info: dict[str, str], settings: dict[str, str]) -> ServerFacts:
    valkey = "valkey_version" in info
    aof = {"1": "yes", "0": "no"}.get(info.get("aof_enabled", ""), "")
    return ServerFacts(
        kind="valkey" if valkey else "redis",
        version=info.get("valkey_version" if valkey else "redis_version", ""),
        role=info.get("role", ""),
        loading=info.get("loading") == "1",
        replicas=int(info.get("connected_slaves", -1)),
        maxmemory=int(info.get("maxmemory", settings.get("maxmemory", -1))),
        policy=info.get("maxmemory_policy", settings.get("maxmemory-policy", "")),
        appendonly=settings.get("appendonly", aof),
        appendfsync=settings.get("appendfsync", ""),
        snapshots=settings.get("save", ""),
    )


def _check(facts: ServerFacts) -> None:
    if not facts.version:
        return
    major, minor = (int(number) for number in (facts.version + ".0").split(".")[:2])
    floor = _FLOOR[facts.kind]
    if (major, minor) < floor:
        raise ConfigError(
            f"the server is {facts.kind} {facts.version}, too old: upgrade to Redis 7.0, Valkey 8 or newer."
        )
