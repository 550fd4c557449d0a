"""The size of a simulated fleet, and the groups of servers that it monitors."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field

from txsentinel.sim.redis.persistence import Persistence
from txsentinel.sim.redis.server import SimRedis


@dataclass(frozen=True, slots=True)
class Shape:
    """The size and the options of a fleet; times are in milliseconds."""

    sentinels: int = 3
    masters: int = 1
    replicas: int = 2
    quorum: int = 2
    down_after: int = 1_000
    failover_timeout: int = 10_000
    parallel_syncs: int = 1
    unwilling: int = 0
    """The number of replicas of each master, the last ones, that have priority 0."""
    hostnames: bool = False
    """Whether masters are configured by host name."""
    c_peers: int = 0
    """The number of modelled C Sentinels in addition to ours."""
    mass_failure: int = 10
    """The number of masters failing together that counts as a mass failure."""
    persistence: Persistence = Persistence.LOG
    """How the servers persist their data."""

    crash_failover: bool = False
    """Whether our Sentinels have ``crash-failover`` on."""

    empty_restart_failover: bool = True
    """Whether our Sentinels have ``empty-restart-failover`` on."""

    fence_isolated: bool = False
    """Whether our Sentinels have ``fence-isolated`` on."""

    def __reduce__(self) -> tuple[type[Shape], tuple[object, ...]]:
        """Pickle the constructor arguments: a compiled frozen class cannot be restored attribute by attribute."""
        return Shape, astuple(self)


@dataclass(slots=True)
class SimMaster:
    """One monitored group: its name and its servers. Its master may change."""

    name: str
    servers: list[SimRedis] = field(default_factory=list)
