"""
Invariants of the pauses of isolated masters (``fence-isolated``), checked on the network and on the servers themselves.

======= ==============================================================================================
fence   writes are never paused by a Sentinel in TILT, that cannot save, or that leads a failover; nor on a master that
        a majority of the Sentinels, or a majority that this Sentinel reaches, has reached for a while; nor while a
        replica acknowledges. All orders have one length. A pause ends with the isolation, or within its length after
        its Sentinel died, and not before the server is a replica if another one is the master.
======= ==============================================================================================

The checker measures for how long each Sentinel could connect to each machine, because a Sentinel may notice late.
"""

# mypy: untyped-calls-exclude=twisted
from __future__ import annotations

from typing import Final

from txsentinel.core.effects import PauseWrites, ResumeWrites
from txsentinel.core.fence_state import LeaseEnd
from txsentinel.core.instances import Master
from txsentinel.sim.c_sentinel import CSentinel
from txsentinel.sim.fleet import SimSentinel
from txsentinel.sim.host import SimHost
from txsentinel.sim.records import NEVER, Records
from txsentinel.sim.redis.instance import RedisInstance
from txsentinel.sim.redis.pauses import PauseReason

CHECK_INTERVAL: Final = 0.1
"""Seconds between two inspections of the network."""

LENGTH_MS: Final = 2_000
"""Milliseconds of every pause."""

NOTICE_SECONDS: Final = 4.0
"""Seconds in which Sentinels and servers that can reach each other must have noticed that: reconnection and a hello."""

CONFIRMATION_SECONDS: Final = 11.0
"""Seconds for which a pause may last when a majority answers again, until its hellos have arrived."""

ROUNDING: Final = 0.3
"""Seconds for which an order may be on its way, and between two inspections."""

MAX_READ_DELAY: Final = 0.5
"""Seconds after which data that a Sentinel has not read makes it late: it neither answers nor publishes meanwhile."""

LEGITIMATE_ENDS: Final = frozenset(
    {LeaseEnd.SWITCHED_OFF, LeaseEnd.NOT_SAVED, LeaseEnd.FAILOVER, LeaseEnd.DISCARDED, LeaseEnd.SERVER_BUSY}
)
"""Reasons for which a pause ends although the server is an outdated master."""


class FenceChecker:
    """Check the orders of one fleet. It costs nothing if the guard is off."""

    def __init__(self, records: Records) -> None:
        self._fleet = records.fleet
        self._expect = records.expect
        self._monitors: list[SimSentinel | CSentinel] = [*self._fleet.sentinels, *self._fleet.c_peers]
        self._connected_since: dict[tuple[str, str], float] = {}
        """IPs of a Sentinel and of a machine → since when it can connect to that, and both work."""

        self._late_at: dict[str, float] = {}
        """IP of a Sentinel → when it last had not read for long what had arrived, as it lacks processor time."""

        self._ordered_at: dict[tuple[str, str], float] = {}
        """IPs of a Sentinel and of a server → when it last ordered a pause."""

        self._alive_at: dict[str, float] = {}
        """IP of a Sentinel → when it was last seen running."""

        self.pauses = 0
        """The number of pauses that were begun."""

        if self._fleet.shape.fence_isolated:
            self._inspect()

    def ordered(self, sentinel: SimSentinel, effect: PauseWrites | ResumeWrites) -> None:
        """A Sentinel decided to pause or to resume the writes of a server."""
        server = self._fleet.server_at(effect.link.address)
        core = sentinel.alive.core
        instance = next(iter(effect.link.instances), None)
        if server is None or instance is None:
            return
        master, who = instance.master, f"{sentinel.name} on {server.host.name}"
        if isinstance(effect, ResumeWrites):
            lease = effect.link.lease
            outdated = not isinstance(instance, Master) and server.is_master
            legitimate = lease is None or lease.ending in LEGITIMATE_ENDS
            self._expect(not outdated or legitimate, "fence", f"{who} resumes the writes of an outdated master")
            return
        key = (sentinel.host.ip, server.host.ip)
        before, self._ordered_at[key] = self._ordered_at.get(key), self._now
        began = before is None or self._now - before > LENGTH_MS / 1000
        self.pauses += began
        failover = master.failover
        leads = failover is not None and not failover.republish and isinstance(instance, Master)
        self._expect(effect.period == LENGTH_MS, "fence", f"{who} orders a pause of {effect.period} ms")
        self._expect(not core.tilt.active, "fence", f"{who} orders a pause in TILT")
        self._expect(core.state.storage_error is None, "fence", f"{who} orders a pause, but cannot save")
        self._expect(not leads, "fence", f"{who} orders a pause, but leads a failover")
        if not isinstance(instance, Master):
            return
        delay = master.options.guards.fence_delay(master.down_after) / 1000
        least = delay + NOTICE_SECONDS + (0 if began else CONFIRMATION_SECONDS)
        needed = len(self._monitors) // 2 + 1
        others = [each.host for each in self._monitors if each is not sentinel]
        answering = 1 + sum(self._connected(sentinel.host, each, least) and self._reads(each, least) for each in others)
        self._expect(answering < needed, "fence", f"{who} orders a pause, but {answering} Sentinels answer it")
        if began:
            least = delay + NOTICE_SECONDS
            seeing = int(self._connected(sentinel.host, server.host, least))
            seeing += sum(self._connected(each, server.host, least) and self._reads(each, least) for each in others)
            self._check_reached(server, who, delay, seeing, needed)

    def _check_reached(self, server: RedisInstance, who: str, delay: float, seeing: int, needed: int) -> None:
        """Check that neither a majority nor a replica reaches a server whose writes are about to be paused."""
        self._expect(seeing < needed, "fence", f"{who} orders a pause, but {seeing} Sentinels reach that")
        now = server.host.reactor.seconds()
        ages = [now - each.attached.acknowledged_at for each in server.replicas() if each.attached.state == "online"]
        age = min(ages, default=1e9)
        self._expect(
            age > min(delay, 1.0), "fence", f"{who} orders a pause, but a replica acknowledged {age:.2f} s ago"
        )

    def _inspect(self) -> None:
        self._fleet.simulation.call_later(CHECK_INTERVAL, self._inspect)
        now = self._now
        machines = [each.host for each in self._monitors] + [server.host for server in self._fleet.servers]
        network = self._fleet.network
        for one in machines[: len(self._monitors)]:
            for other in machines:
                key = (one.ip, other.ip)
                connected = _works(one) and _works(other) and network.reachable(one, other)
                if connected and key not in network.rejecting:
                    self._connected_since.setdefault(key, now)
                else:
                    self._connected_since.pop(key, None)
        for sentinel in self._fleet.sentinels:
            if sentinel.running:
                self._alive_at[sentinel.host.ip] = now
                reactor = sentinel.host.reactor
                if reactor.seconds() - reactor.received_until() > MAX_READ_DELAY:
                    self._late_at[sentinel.host.ip] = now
        for server in self._fleet.servers:
            self._check_owner(server)

    def _check_owner(self, server: RedisInstance) -> None:
        """Check that a pause does not outlive the Sentinel that ordered it."""
        pause = server.pause(PauseReason.CLIENT_PAUSE)
        if pause is None or pause.ordered_by not in self._alive_at or not _works(server.host):
            return
        alive_at = self._alive_at[pause.ordered_by]
        if alive_at - self._ordered_at.get((pause.ordered_by, server.host.ip), NEVER) > LENGTH_MS / 1000:
            # That of a hand-over, which may be longer.
            return
        dead_for = self._now - alive_at
        fine = dead_for <= LENGTH_MS / 1000 + ROUNDING
        self._expect(fine, "fence", f"a pause of {server.host.name} outlives its Sentinel by {dead_for:.2f} s")

    def _connected(self, one: SimHost, other: SimHost, seconds: float) -> bool:
        """Whether a Sentinel could connect to a machine for that long."""
        since = self._connected_since.get((one.ip, other.ip))
        return since is not None and self._now - since >= seconds

    def _reads(self, host: SimHost, seconds: float) -> bool:
        """Whether a Sentinel has read what arrived in time for that long."""
        return self._now - self._late_at.get(host.ip, NEVER) >= seconds

    @property
    def _now(self) -> float:
        return self._fleet.simulation.seconds()


def _works(host: SimHost) -> bool:
    return host.running and not host.reactor.stalled
