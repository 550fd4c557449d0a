"""What one Sentinel answers about itself and its masters, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from txsentinel.model.snapshots import Endpoint
from txsentinel.wire.resp import text
from txsentinel.wire.values import Reply

CONNECTED_FLAGS: Final = frozenset(("s_down", "o_down", "disconnected"))
"""Flags of instances that are not usable."""


def as_text(reply: Reply) -> str:
    """Return a scalar as text."""
    if isinstance(reply, bytes):
        return text(reply)
    return "" if reply is None else str(reply)


def as_fields(reply: Reply) -> dict[str, str]:
    """Return a flat array of names and values, or a map, as a dictionary; empty for anything else."""
    if isinstance(reply, dict):
        return {as_text(name): as_text(value) for name, value in reply.items()}
    if isinstance(reply, list):
        words = [as_text(each) for each in reply]
        return dict(zip(words[::2], words[1::2], strict=False))
    return {}


def info_fields(reply: Reply) -> dict[str, str]:
    """Return the ``name:value`` lines of an INFO reply."""
    lines = as_text(reply).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def number(words: str | None, default: int = 0) -> int:
    """Return a decimal integer, or ``default`` for anything else."""
    if words is None or len(words) > 20:
        return default
    try:
        return int(words)
    except ValueError:
        return default


@dataclass(frozen=True)
class SentinelIdentity:
    """A Sentinel: ``kind`` is ``txsentinel``, ``valkey`` or ``redis``."""

    kind: str
    version: str
    sentinel_id: str | None
    """``None`` if it does not know ``SENTINEL MYID`` (before Redis 6.2)."""

    server_fields: Mapping[str, str] = field(default_factory=dict)
    """The INFO of the Sentinel."""

    @property
    def in_tilt(self) -> bool:
        """Whether it is in TILT and does not act."""
        return self.server_fields.get("sentinel_tilt") == "1"

    @property
    def is_c(self) -> bool:
        """Whether it is a C Sentinel."""
        return self.kind != "txsentinel"

    def __str__(self) -> str:
        """Return kind and version."""
        return f"{self.kind} {self.version}"


def identity_of(server: Mapping[str, str], sentinel_id: str | None) -> SentinelIdentity:
    """Make an identity from INFO."""
    if "txsentinel_version" in server:
        return SentinelIdentity("txsentinel", server["txsentinel_version"], sentinel_id, server)
    if "valkey_version" in server:
        return SentinelIdentity("valkey", server["valkey_version"], sentinel_id, server)
    return SentinelIdentity("redis", server.get("redis_version", "unknown"), sentinel_id, server)


@dataclass(frozen=True)
class InstanceReport:
    """One entry of ``SENTINEL MASTERS``, ``REPLICAS`` or ``SENTINELS``."""

    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of a master, the address of a replica, the ID of a Sentinel."""
        return self.fields.get("name", "")

    @property
    def endpoint(self) -> Endpoint:
        """Its address."""
        return Endpoint(self.fields.get("ip", ""), self.number("port"))

    @property
    def run_id(self) -> str:
        """Run ID of a server, ID of a Sentinel; empty if it is not known yet."""
        return self.fields.get("runid", "")

    @property
    def flags(self) -> frozenset[str]:
        """The words of ``flags``."""
        return frozenset(self.fields.get("flags", "").split(","))

    @property
    def usable(self) -> bool:
        """Whether it is neither down nor disconnected."""
        return not self.flags & CONNECTED_FLAGS

    @property
    def state(self) -> str:
        """``ok``, or the flags that make it unusable."""
        found = [flag for flag in ("o_down", "s_down", "disconnected") if flag in self.flags]
        return ",".join(found) or "ok"

    def number(self, name: str, default: int = 0) -> int:
        """Return a numeric field."""
        return number(self.fields.get(name), default)

    def optional_number(self, name: str) -> int | None:
        """Return a numeric field, ``None`` if it is missing."""
        return self.number(name) if name in self.fields else None


@dataclass(frozen=True)
class CachedInfo:
    """An INFO reply of a server that a Sentinel keeps, and its age; ``fields`` is empty if there is none."""

    age_ms: int
    fields: Mapping[str, str]

    @property
    def replid(self) -> str | None:
        """The replication ID."""
        return self.fields.get("master_replid")

    @property
    def offset(self) -> int | None:
        """The replication offset: of a replica what it has received, else that of the stream."""
        words = self.fields.get("slave_repl_offset", self.fields.get("master_repl_offset"))
        return None if words is None else number(words)


@dataclass(frozen=True)
class MasterReport:
    """What one Sentinel answers about one master; the lists are empty unless they were requested."""

    master: InstanceReport
    replicas: tuple[InstanceReport, ...] = ()
    peers: tuple[InstanceReport, ...] = ()
    quorum_check: str | None = None
    """The answer to ``CKQUORUM``, which is an error line if the quorum cannot be reached."""

    cached_info: Mapping[str, CachedInfo] = field(default_factory=dict)
    """By run ID."""

    @property
    def endpoint(self) -> Endpoint:
        """The address of the master."""
        return self.master.endpoint

    @property
    def epoch(self) -> int:
        """The config epoch."""
        return self.master.number("config-epoch")

    @property
    def quorum(self) -> int:
        """The quorum."""
        return self.master.number("quorum")

    @property
    def quorum_ok(self) -> bool | None:
        """Whether quorum and majority can be reached; ``None`` if not asked."""
        return None if self.quorum_check is None else self.quorum_check.startswith("OK")

    def info_of(self, instance: InstanceReport) -> CachedInfo | None:
        """Return the cached INFO of the master or of a replica."""
        return self.cached_info.get(instance.run_id) if instance.run_id else None


@dataclass(frozen=True)
class SentinelReport:
    """What one Sentinel answered; either ``identity`` or ``problem`` is ``None``."""

    endpoint: Endpoint
    identity: SentinelIdentity | None = None
    masters: Mapping[str, MasterReport] = field(default_factory=dict)
    problem: str | None = None
    """Why it has not answered."""

    sentinel_id: str | None = None
    """Its own, or what other Sentinels report if it does not answer."""

    took_ms: float = 0.0
    """How long all answers took."""

    clock_offset_ms: float | None = None
    """Its wall clock minus ours, with an error of half the time that the answer took; ``None`` if unknown."""

    login_required: bool | None = None
    """Whether it refuses commands without a password; ``None`` if not determined."""

    @property
    def reachable(self) -> bool:
        """Whether it answered."""
        return self.problem is None

    @property
    def kind(self) -> str:
        """Kind and version, or a dash."""
        return "-" if self.identity is None else str(self.identity)
